// The tests of the tests: mistakes that people make must be noticed, and correct code must not be
// accused. What only ThreadSanitizer can see is in race_main.cc.
#include <gtest/gtest.h>

#include "tests/cuda_on_cpu/emulated_test.h"
#include "tests/cuda_on_cpu/emulation/seeded_run.h"

namespace sluice::seeded {
namespace {

using cuda_emu::AsyncCopies;
using cuda_emu::Config;
using cuda_emu::StreamOrder;
using cuda_emu::Streams;
using cuda_emu::ThreadOrder;

TEST(SeededBugs, CorrectKernelIsNeverAccused) {
  for (const ThreadOrder order : {ThreadOrder::kInOrder, ThreadOrder::kReverse,
                                  ThreadOrder::kRandom, ThreadOrder::kPriority}) {
    for (const AsyncCopies copies :
         {AsyncCopies::kEarly, AsyncCopies::kLate, AsyncCopies::kRandom}) {
      for (const int workers : {1, 2}) {
        Config config;
        config.thread_order = order;
        config.async_copies = copies;
        config.block_workers = workers;
        cuda_emu::Reset(config);
        EXPECT_EQ(RunKernel(KernelBug::kNone).Text(), "");
        EXPECT_EQ(cuda_emu::Leaks(), cuda_emu::LeakCounts());
      }
    }
  }
  cuda_emu::Reset();
}

TEST(SeededBugs, CorrectPipelineIsNeverAccused) {
  for (const Streams streams : {Streams::kDeterministic, Streams::kEager, Streams::kThreads}) {
    for (const StreamOrder order :
         {StreamOrder::kTimed, StreamOrder::kRandom, StreamOrder::kCopiesLast,
          StreamOrder::kCopiesFirst, StreamOrder::kRoundRobin}) {
      Config config;
      config.streams = streams;
      config.stream_order = order;
      cuda_emu::Reset(config);
      EXPECT_EQ(RunPipeline(StreamBug::kNone).Text(), "");
      EXPECT_EQ(cuda_emu::Leaks(), cuda_emu::LeakCounts());
    }
  }
  cuda_emu::Reset();
}

#if !defined(SLUICE_TEST_TSAN)
constexpr int kSeeds = 12;

Config Randomised(uint64_t seed) {
  Config config;
  config.seed = seed;
  config.thread_order = seed % 2 == 0 ? ThreadOrder::kRandom : ThreadOrder::kPriority;
  return config;
}

// In how many of kSeeds random schedules the mistake is noticed.
template <class Run>
int TimesNoticed(Run run, std::string* first) {
  int noticed = 0;
  for (uint64_t seed = 1; seed <= kSeeds; ++seed) {
    cuda_emu::Reset(Randomised(seed));
    const Outcome outcome = run();
    if (!outcome.noticed()) continue;
    if (noticed++ == 0) *first = outcome.Text();
  }
  cuda_emu::Reset();
  return noticed;
}

struct KernelCase {
  KernelBug bug;
  const char* evidence;  // part of the first outcome
};
class SeededKernelBug : public ::testing::TestWithParam<KernelCase> {};

TEST_P(SeededKernelBug, IsNoticedInEveryRandomSchedule) {
  std::string first;
  EXPECT_EQ(TimesNoticed([] { return RunKernel(GetParam().bug); }, &first), kSeeds);
  EXPECT_NE(first.find(GetParam().evidence), std::string::npos) << first;
}

INSTANTIATE_TEST_SUITE_P(
    All, SeededKernelBug,
    ::testing::Values(KernelCase{KernelBug::kNoBarrierBeforeRefill, "wrong"},
                      KernelCase{KernelBug::kNoBarrierAfterWait, "wrong"},
                      KernelCase{KernelBug::kNoAsyncWait, "wrong"},
                      KernelCase{KernelBug::kPartsBeforeBarrier, "wrong"},
                      KernelCase{KernelBug::kNextPage, "wrong"},
                      KernelCase{KernelBug::kDifferentBarriers, "meet in different barriers"},
                      KernelCase{KernelBug::kShuffleWithMissingLanes,
                                 "64 threads at warp operation"},
                      KernelCase{KernelBug::kMisalignedLoad, "misaligned address: 4 bytes past"},
                      KernelCase{KernelBug::kNoSyncWarp, "wrong"},
                      KernelCase{KernelBug::kEarlyReturn, "exited while others of its block wait"}),
    [](const auto& test) { return std::string(Name(test.param.bug)); });

// What leaves its array ends the process: a guard page or AddressSanitizer.
TEST(SeededKernelBugDeath, ResultOutOfBoundsFaults) {
  cuda_emu::Reset();
  EXPECT_DEATH(RunKernel(KernelBug::kResultOutOfBounds), "");
}

TEST(SeededKernelBugDeath, RowPastASharedTileIsNoticed) {
#if defined(SLUICE_TEST_ASAN)
  EXPECT_DEATH(RunKernel(KernelBug::kNextRow), "use-after-poison");
#else
  std::string first;
  EXPECT_EQ(TimesNoticed([] { return RunKernel(KernelBug::kNextRow); }, &first), kSeeds);
#endif
}

struct StreamCase {
  StreamBug bug;
  int least;  // of kSeeds
  const char* evidence;
};
class SeededStreamBug : public ::testing::TestWithParam<StreamCase> {};

TEST_P(SeededStreamBug, IsNoticedInManyRandomSchedules) {
  std::string first;
  EXPECT_GE(TimesNoticed([] { return RunPipeline(GetParam().bug); }, &first), GetParam().least);
  EXPECT_NE(first.find(GetParam().evidence), std::string::npos) << first;
}

INSTANTIATE_TEST_SUITE_P(
    All, SeededStreamBug,
    ::testing::Values(StreamCase{StreamBug::kComputeDoesNotWait, 4, "wrong"},
                      StreamCase{StreamBug::kRefillDoesNotWait, 4, "wrong"},
                      StreamCase{StreamBug::kResultNotAwaited, kSeeds, "wrong"},
                      StreamCase{StreamBug::kRecordBeforeCopy, 4, "wrong"},
                      StreamCase{StreamBug::kWaitBeforeRecord, kSeeds, "never recorded"},
                      StreamCase{StreamBug::kPageableSource, kSeeds, "pageable host memory"},
                      StreamCase{StreamBug::kSourceOverwritten, kSeeds, "wrong"},
                      StreamCase{StreamBug::kStoreNotAwaited, kSeeds, "wrong"}),
    [](const auto& test) { return std::string(Name(test.param.bug)); });
#endif

}  // namespace
}  // namespace sluice::seeded
