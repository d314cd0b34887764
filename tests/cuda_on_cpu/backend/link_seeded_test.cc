// The tests of the tests: mistakes in the use of the link are noticed, and correct use is not
// accused. What only ThreadSanitizer sees is in link_race_main.cc.
#include <gtest/gtest.h>

#include "tests/cuda_on_cpu/backend/link_scenario.h"
#include "tests/cuda_on_cpu/emulated_test.h"

namespace sluice::cuda {
namespace {

using cuda_emu::Config;
using cuda_emu::StreamOrder;
using cuda_emu::Streams;

TEST(SeededLinkBugs, CorrectUseIsNeverAccused) {
  for (const bool own_threads : {false, true}) {
    for (const Streams streams : {Streams::kDeterministic, Streams::kEager, Streams::kThreads}) {
      for (const StreamOrder order :
           {StreamOrder::kTimed, StreamOrder::kRandom, StreamOrder::kCopiesLast,
            StreamOrder::kCopiesFirst, StreamOrder::kRoundRobin}) {
        Config config;
        config.streams = streams;
        config.stream_order = order;
        cuda_emu::Reset(config);
        const LinkOutcome outcome = RunLink(LinkBug::kNone, own_threads);
        EXPECT_FALSE(outcome.noticed()) << outcome.Text();
        EXPECT_EQ(outcome.results, 4);
        EXPECT_EQ(cuda_emu::Leaks(), cuda_emu::LeakCounts());
      }
    }
  }
  cuda_emu::Reset();
}

#if !defined(SLUICE_TEST_TSAN)
constexpr int kSeeds = 12;

struct BugCase {
  LinkBug bug;
  int least;  // of kSeeds random schedules
  const char* evidence;
};
class SeededLinkBug : public ::testing::TestWithParam<BugCase> {};

TEST_P(SeededLinkBug, IsNoticedInManyRandomSchedules) {
  int noticed = 0;
  std::string first;
  for (uint64_t seed = 1; seed <= kSeeds; ++seed) {
    Config config;
    config.seed = seed;
    if (seed % 4 == 0) config.stream_order = StreamOrder::kCopiesLast;
    if (seed % 4 == 1) config.stream_order = StreamOrder::kCopiesFirst;
    cuda_emu::Reset(config);
    const LinkOutcome outcome = RunLink(GetParam().bug, false);
    if (!outcome.noticed()) continue;
    if (noticed++ == 0) first = outcome.Text();
  }
  cuda_emu::Reset();
  EXPECT_GE(noticed, GetParam().least);
  EXPECT_NE(first.find(GetParam().evidence), std::string::npos) << first;
}

INSTANTIATE_TEST_SUITE_P(All, SeededLinkBug,
                         ::testing::Values(BugCase{LinkBug::kPageablePool, kSeeds,
                                                   "pageable host memory"},
                                           BugCase{LinkBug::kNoLayerWait, 2, "wrong"},
                                           BugCase{LinkBug::kWrongLayerWait, 2, "wrong"},
                                           BugCase{LinkBug::kStoredBlockReused, 2, "wrong"},
                                           BugCase{LinkBug::kLoadedBlockReused, 2, "wrong"},
                                           BugCase{LinkBug::kNoFence, 2, "wrong"},
                                           BugCase{LinkBug::kOverwrittenWhileRead, 2, "wrong"}),
                         [](const auto& test) { return std::string(Name(test.param.bug)); });
#endif

}  // namespace
}  // namespace sluice::cuda
