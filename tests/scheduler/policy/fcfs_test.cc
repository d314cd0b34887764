#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "scheduler/policy/policy.h"

namespace sluice::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

class FcfsPolicyTest : public ::testing::Test {
 protected:
  void Add(int64_t remaining, std::vector<CopyId> loads = {}, bool joinable = true) {
    loads_.push_back(std::move(loads));
    running_.push_back({0, Tokens(remaining), {}, joinable});
  }
  // Pairs of index and count.
  std::vector<std::pair<size_t, int64_t>> Form(int64_t limit) {
    for (size_t i = 0; i < running_.size(); ++i) running_[i].loads = loads_[i];
    std::vector<StepShare> shares;
    policy_->FormStep(running_, Tokens(limit), &shares);
    std::vector<std::pair<size_t, int64_t>> result;
    for (const StepShare& share : shares) result.emplace_back(share.index, share.count.value());
    return result;
  }

  const std::unique_ptr<const Policy> policy_ = MakeFcfsPolicy();
  std::vector<RunningView> running_;
  std::vector<std::vector<CopyId>> loads_;
};

TEST_F(FcfsPolicyTest, AdmitsByPriorityThenResumedThenArrival) {
  const WaitingView urgent{1, false, 9};
  const WaitingView resumed{0, true, 8};
  const WaitingView first{0, false, 1};
  const WaitingView second{0, false, 2};
  const std::vector<WaitingView> order = {urgent, resumed, first, second};
  for (size_t i = 0; i < order.size(); ++i) {
    for (size_t j = 0; j < order.size(); ++j) {
      EXPECT_EQ(policy_->AdmitsBefore(order[i], order[j]), i < j) << i << " " << j;
    }
  }
}

TEST_F(FcfsPolicyTest, DecodesFirstThenChunksInAdmissionOrder) {
  Add(100);
  Add(1);
  Add(50);
  Add(1);
  EXPECT_THAT(Form(1000),
              ElementsAre(std::pair(1, 1), std::pair(3, 1), std::pair(0, 100), std::pair(2, 50)));
  EXPECT_THAT(Form(110),
              ElementsAre(std::pair(1, 1), std::pair(3, 1), std::pair(0, 100), std::pair(2, 8)));
  EXPECT_THAT(Form(1), ElementsAre(std::pair(1, 1)));
}

TEST_F(FcfsPolicyTest, LoadersWaitAsideAndJoinOnlyWhenNothingElseRuns) {
  Add(10, {CopyId(1), CopyId(2)});
  Add(10, {CopyId(2)});
  Add(10, {CopyId(3)});
  EXPECT_THAT(Form(100), ElementsAre(std::pair(0, 10), std::pair(1, 10)))
      << "those that wait for no other load than the oldest";
  Add(1);
  EXPECT_THAT(Form(100), ElementsAre(std::pair(3, 1)));
}

TEST_F(FcfsPolicyTest, ALoaderThatJoinedInVainDoesNotJoinAgain) {
  Add(10, {CopyId(1)}, /*joinable=*/false);
  EXPECT_THAT(Form(100), IsEmpty());
  Add(10, {CopyId(2)});
  EXPECT_THAT(Form(100), ElementsAre(std::pair(1, 10)));
}

}  // namespace
}  // namespace sluice::testing
