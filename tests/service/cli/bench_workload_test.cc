#include "service/cli/bench_workload.h"

#include <set>

#include "gtest/gtest.h"
#include "tests/support/status_matchers.h"

namespace sluice {
namespace {

using ::sluice::testing::IsOk;
using ::sluice::testing::StatusIs;
using ::testing::HasSubstr;

v1::ServerInfo TestServer() {
  v1::ServerInfo info;
  info.set_vocab_size(100);
  info.set_max_model_len(512);
  info.set_bos_token_id(1);
  info.add_eos_token_ids(2);
  return info;
}

std::vector<uint32_t> Ids(const v1::GenerateRequest& request) {
  return {request.token_ids().ids().begin(), request.token_ids().ids().end()};
}

TEST(WorkloadTest, PromptsHaveTheLengthAskedForAndNoSpecialTokens) {
  const absl::StatusOr<Workload> workload = Workload::Create({}, TestServer());
  ASSERT_THAT(workload, IsOk());
  for (int64_t i = 0; i < 50; ++i) {
    const v1::GenerateRequest request = workload->Request(i);
    EXPECT_EQ(Ids(request).size(), 256U);
    for (const uint32_t id : Ids(request)) {
      EXPECT_LT(id, 100U);
      EXPECT_NE(id, 1U);
      EXPECT_NE(id, 2U);
    }
    EXPECT_EQ(request.stopping().max_tokens(), 64U);
    EXPECT_TRUE(request.stopping().ignore_eos());
  }
}

TEST(WorkloadTest, EqualOptionsGiveEqualRequestsAndSeedsDiffer) {
  WorkloadOptions options;
  const absl::StatusOr<Workload> a = Workload::Create(options, TestServer());
  const absl::StatusOr<Workload> b = Workload::Create(options, TestServer());
  options.seed = 2;
  const absl::StatusOr<Workload> other = Workload::Create(options, TestServer());
  EXPECT_EQ(Ids(a->Request(7)), Ids(b->Request(7)));
  EXPECT_NE(Ids(a->Request(7)), Ids(a->Request(8)));
  EXPECT_NE(Ids(a->Request(7)), Ids(other->Request(7)));
}

TEST(WorkloadTest, PrefixesAreSharedInTurn) {
  WorkloadOptions options;
  options.prompt_tokens = 64;
  options.shared_prefix_tokens = 48;
  options.num_prefixes = 3;
  const absl::StatusOr<Workload> workload = Workload::Create(options, TestServer());
  std::set<std::vector<uint32_t>> prefixes, prompts;
  for (int64_t i = 0; i < 30; ++i) {
    const std::vector<uint32_t> ids = Ids(workload->Request(i));
    prefixes.insert({ids.begin(), ids.begin() + 48});
    prompts.insert(ids);
    const std::vector<uint32_t> same = Ids(workload->Request(i + 3));
    EXPECT_TRUE(std::equal(ids.begin(), ids.begin() + 48, same.begin()));
  }
  EXPECT_EQ(prefixes.size(), 3U);
  EXPECT_EQ(prompts.size(), 30U);
}

TEST(WorkloadTest, TextsAreUsedInTurn) {
  WorkloadOptions options;
  options.prompts = {"a", "b"};
  const absl::StatusOr<Workload> workload = Workload::Create(options, TestServer());
  EXPECT_EQ(workload->Request(0).text(), "a");
  EXPECT_EQ(workload->Request(3).text(), "b");
}

TEST(WorkloadTest, RefusesWhatCannotFit) {
  WorkloadOptions options;
  options.prompt_tokens = 500;
  options.output_tokens = 13;
  EXPECT_THAT(Workload::Create(options, TestServer()),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("= 513 is more than the server's context of 512 tokens")));
}

TEST(PoissonArrivalsTest, HaveTheRateAndTheSpreadOfAPoissonProcess) {
  constexpr int kArrivals = 20000;
  for (const uint64_t seed : {1U, 2U, 3U}) {
    SCOPED_TRACE(::testing::Message() << "seed " << seed);
    PoissonArrivals arrivals(50, seed);
    double previous = absl::ToDoubleSeconds(arrivals.Next());
    EXPECT_EQ(previous, 0);
    double sum = 0, squares = 0;
    for (int i = 0; i < kArrivals; ++i) {
      const double at = absl::ToDoubleSeconds(arrivals.Next());
      ASSERT_GE(at, previous);
      sum += at - previous;
      squares += (at - previous) * (at - previous);
      previous = at;
    }
    const double mean = sum / kArrivals;
    EXPECT_NEAR(mean, 0.02, 0.02 * 0.03);
    // Exponential gaps: standard deviation equals mean.
    EXPECT_NEAR(std::sqrt(squares / kArrivals - mean * mean), 0.02, 0.02 * 0.05);
  }
}

}  // namespace
}  // namespace sluice
