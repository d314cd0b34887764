// Every call of CUDA fails once, and every operation on the device: each copy still has exactly one
// result, what is said to be in place is, nothing leaks and nothing hangs.
#include <gtest/gtest.h>

#include "tests/cuda_on_cpu/backend/link_scenario.h"
#include "tests/cuda_on_cpu/emulated_test.h"

namespace sluice::cuda {
namespace {

using cuda_emu::Api;

class LinkFaultTest : public EmulatedTest {
 protected:
  // Runs with the nth call or operation failing, for n = 1, 2, ... until nothing is left to fail.
  template <class Plan, class Check>
  int Sweep(bool own_threads, Plan plan, Check check) {
    for (int nth = 1; nth < 5000; ++nth) {
      cuda_emu::Reset();
      plan(nth);
      const LinkOutcome outcome = RunLink(LinkBug::kNone, own_threads);
      SCOPED_TRACE(::testing::Message() << "number " << nth << ": " << outcome.Text());
      EXPECT_EQ(cuda_emu::Leaks(), cuda_emu::LeakCounts());
      EXPECT_FALSE(outcome.wrong);
      EXPECT_FALSE(outcome.hung);
      EXPECT_EQ(outcome.results, outcome.started);
      const bool failed = !outcome.created.ok() || outcome.failed > 0 || outcome.lost;
      if (failed) check(outcome);
      if (HasFailure()) return nth;
      if (Used(nth)) continue;
      return nth;
    }
    return -1;
  }
  // Whether the planned failure came: the next run of the story is then one with a later failure.
  virtual bool Used(int nth) { return nth < last_; }
  int last_ = 0;
};

// Calls of the story when nothing fails.
int CountCalls(bool own_threads) {
  cuda_emu::Reset();
  const LinkOutcome outcome = RunLink(LinkBug::kNone, own_threads);
  EXPECT_FALSE(outcome.noticed()) << outcome.Text();
  return static_cast<int>(cuda_emu::CurrentCounts().calls);
}

TEST_F(LinkFaultTest, EveryCallMayFail) {
  last_ = CountCalls(false);
  EXPECT_GT(last_, 150);
  int reported = 0;
  Sweep(
      false, [](int nth) { cuda_emu::FailCall(Api::kAny, nth, cudaErrorMemoryAllocation); },
      [&](const LinkOutcome& outcome) {
        ++reported;
        EXPECT_FALSE(outcome.lost);
        EXPECT_LE(outcome.failed, 2);
      });
  // Most failures reach somebody; the others were got round by waiting or asking again.
  EXPECT_GT(reported, 60);
}

TEST_F(LinkFaultTest, EveryCallMayFailWithOwnThreads) {
  last_ = CountCalls(true) + 10;
  Sweep(
      true, [](int nth) { cuda_emu::FailCall(Api::kAny, nth, cudaErrorMemoryAllocation); },
      [](const LinkOutcome& outcome) { EXPECT_LE(outcome.failed, 2); });
}

TEST_F(LinkFaultTest, EveryKindOfCallMayFail) {
  for (const Api api : {Api::kMemcpy, Api::kMemcpyBatch, Api::kEventRecord, Api::kStreamWait,
                        Api::kSynchronize, Api::kQuery, Api::kStreamCreate, Api::kEventCreate,
                        Api::kHostRegister, Api::kMalloc, Api::kHostAlloc, Api::kDevice}) {
    for (int nth = 1; nth <= 40; ++nth) {
      cuda_emu::Reset();
      cuda_emu::FailCall(api, nth, cudaErrorMemoryAllocation);
      const LinkOutcome outcome = RunLink(LinkBug::kNone, false);
      SCOPED_TRACE(::testing::Message()
                   << "api " << static_cast<int>(api) << " call " << nth << ": " << outcome.Text());
      EXPECT_EQ(cuda_emu::Leaks(), cuda_emu::LeakCounts());
      EXPECT_FALSE(outcome.wrong || outcome.hung || outcome.lost);
      EXPECT_EQ(outcome.results, outcome.started);
      if (HasFailure()) return;
    }
  }
}

TEST_F(LinkFaultTest, EveryOperationMayLoseTheDevice) {
  for (const bool own_threads : {false, true}) {
    int lost = 0;
    for (int nth = 1; nth < 1000; ++nth) {
      cuda_emu::Reset();
      cuda_emu::FailStreamOperation(nth, cudaErrorECCUncorrectable);
      const LinkOutcome outcome = RunLink(LinkBug::kNone, own_threads);
      SCOPED_TRACE(::testing::Message() << "operation " << nth << ": " << outcome.Text());
      EXPECT_EQ(cuda_emu::Leaks(), cuda_emu::LeakCounts());
      EXPECT_FALSE(outcome.wrong || outcome.hung);
      EXPECT_EQ(outcome.results, outcome.started);
      EXPECT_EQ(outcome.failed, outcome.unavailable);
      if (outcome.failed > 0) {
        EXPECT_TRUE(outcome.lost);
        ++lost;
      } else if (nth > 60) {
        break;  // past the last operation
      }
      if (HasFailure()) return;
    }
    EXPECT_GT(lost, 20);
  }
}

}  // namespace
}  // namespace sluice::cuda
