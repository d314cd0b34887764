// Every call of CUDA fails once in the life of one backend: its step or copy says so, and the next
// ones are as if nothing had been.
#include <algorithm>
#include <map>
#include <random>
#include <string>

#include "cuda_emu/control.h"
#include "tests/cuda_on_cpu/backend/fault_test.h"

namespace sluice::cuda {
namespace {

using cuda_emu::Api;

constexpr int kIdleEnough = 3;  // see fault_create_test.cc
constexpr int kMostCalls = 5000;
// Events are lent out and come back; how many there are depends on how threads run.
constexpr size_t kSpareEvents = 16;

struct FaultCase {
  const char* name;
  KvCodecKind codec;
  FaultStory story;
  // Of how many calls one fails, drawn: 1 where the story has calls that no other has. The others
  // repeat what is covered and are here for their order.
  int one_of;
};

class FaultStepTest : public FaultTest, public ::testing::WithParamInterface<FaultCase> {
 protected:
  // As much memory as when all was well.
  static void ExpectAsMuch(const cuda_emu::LeakCounts& before) {
    const cuda_emu::LeakCounts now = cuda_emu::Leaks();
    EXPECT_EQ(now.device_allocations, before.device_allocations);
    EXPECT_EQ(now.host_allocations, before.host_allocations);
    EXPECT_EQ(now.registrations, before.registrations);
    EXPECT_EQ(now.streams, before.streams);
    EXPECT_LE(now.events, before.events + kSpareEvents);
  }
};

TEST_P(FaultStepTest, EveryCallFailsOnceAndTheNextStepIsFine) {
  const FaultCase& test = GetParam();
  FaultWorld world(test.codec);
  ASSERT_TRUE(world.Start().ok());
  // All stories, so that every buffer has grown to its size.
  std::map<FaultStory, FaultOutcome> clean;
  for (const FaultStory story : kFaultStories) {
    if (story == FaultStory::kInPlace && !world.backend().info().attends_in_place) continue;
    clean[story] = world.Tell(story);
    ASSERT_TRUE(clean[story].failures.empty()) << clean[story].Text();
  }
  const cuda_emu::LeakCounts before = cuda_emu::Leaks();
  std::mt19937_64 rng(21 + cuda_emu::SeedShift());
  std::uniform_int_distribution<int> stride(1, 2 * test.one_of - 1);
  std::map<Api, int> kinds;
  int idle = 0;
  int failed = 0;
  for (int nth = 1; nth < kMostCalls && idle < kIdleEnough; nth += stride(rng)) {
    const cudaError_t error =
        kOrdinaryErrors[static_cast<size_t>(nth) % std::size(kOrdinaryErrors)];
    cuda_emu::FailCall(Api::kAny, nth, error);
    const FaultOutcome outcome = world.Tell(test.story);
    const std::optional<Api> struck = cuda_emu::EndFailures();
    SCOPED_TRACE(::testing::Message()
                 << "call " << nth << " of api " << (struck ? static_cast<int>(*struck) : -1)
                 << " fails with " << cudaGetErrorName(error) << ": " << outcome.Text());
    ExpectNothingWrong(outcome, clean[test.story]);
    for (const absl::Status& status : outcome.failures) ExpectUseful(status, error);
    EXPECT_TRUE(struck.has_value() || outcome.failures.empty());
    idle = struck.has_value() ? 0 : idle + 1;
    failed += outcome.failures.empty() ? 0 : 1;
    if (struck.has_value()) ++kinds[*struck];
    // Other tables, in the memory of the step that failed. (The story itself is told again, up to
    // the next failure.)
    const FaultOutcome after = world.Tell(FaultStory::kShort);
    EXPECT_TRUE(after.failures.empty()) << after.Text();
    ExpectNothingWrong(after, clean[FaultStory::kShort]);
    ExpectAsMuch(before);
    EXPECT_TRUE(cuda_emu::Diagnostics().empty());
    if (HasFailure()) return;
  }
  EXPECT_EQ(idle, kIdleEnough);
  EXPECT_GT(failed, 10);
  EXPECT_GT(kinds[Api::kLaunch], 0);
  if (test.one_of == 1) {
    EXPECT_GT(kinds[Api::kMemcpy], 0);
    EXPECT_GT(kinds[Api::kEventRecord], 0);
    EXPECT_GT(kinds[Api::kSynchronize], 0);
  }
  world.Stop();
}

INSTANTIATE_TEST_SUITE_P(
    Stories, FaultStepTest,
    ::testing::Values(FaultCase{"Chunks", KvCodecKind::kRaw, FaultStory::kChunks, 2},
                      FaultCase{"Sampler", KvCodecKind::kRaw, FaultStory::kSampler, 1},
                      FaultCase{"Swap", KvCodecKind::kRaw, FaultStory::kSwap, 3},
                      FaultCase{"SwapInt8", KvCodecKind::kInt8, FaultStory::kSwap, 2},
                      FaultCase{"SwapFp8", KvCodecKind::kFp8, FaultStory::kSwap, 6},
                      FaultCase{"InPlace", KvCodecKind::kRaw, FaultStory::kInPlace, 2},
                      FaultCase{"Revoke", KvCodecKind::kRaw, FaultStory::kRevoke, 2},
                      FaultCase{"Ahead", KvCodecKind::kRaw, FaultStory::kAhead, 1}),
    [](const auto& instance) { return instance.param.name; });

}  // namespace
}  // namespace sluice::cuda
