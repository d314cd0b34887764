// The device is lost at some call or some operation of a stream: everything ends, says why, and
// nothing leaks, hangs or is wrong.
#include <random>
#include <string>

#include "cuda_emu/control.h"
#include "tests/cuda_on_cpu/backend/fault_test.h"

namespace sluice::cuda {
namespace {

using cuda_emu::Api;
using ::testing::HasSubstr;

constexpr int kSamples = 60;

class FaultLostTest : public FaultTest {
 protected:
  // A backend's whole life, in which the device is lost or not. True if it was.
  bool Live(FaultWorld& world, FaultStory story, const FaultOutcome& clean, cudaError_t error) {
    const absl::Status started = world.Start();
    if (!started.ok()) {
      ExpectUseful(started, error);
      EXPECT_THAT(std::string(started.message()), HasSubstr("restart"));
      EXPECT_EQ(started.code(), absl::StatusCode::kUnavailable);
      return true;
    }
    const FaultOutcome outcome = world.Tell(story);
    SCOPED_TRACE(outcome.Text());
    ExpectNothingWrong(outcome, clean);
    for (const absl::Status& status : outcome.failures) {
      EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
      EXPECT_THAT(std::string(status.message()), HasSubstr(cudaGetErrorName(error)));
      EXPECT_THAT(std::string(status.message()), HasSubstr("restart"));
    }
    if (cudaPeekAtLastError() != error) {
      EXPECT_TRUE(outcome.failures.empty());
      world.Stop();
      return false;
    }
    const FaultOutcome after = world.Tell(FaultStory::kShort);
    EXPECT_TRUE(after.said.empty());
    EXPECT_FALSE(after.failures.empty());
    for (const absl::Status& status : after.failures) {
      EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
      EXPECT_THAT(std::string(status.message()), HasSubstr("device lost: "));
    }
    world.Stop();
    return true;
  }

  FaultOutcome CleanRun(FaultWorld& world, FaultStory story) {
    EXPECT_TRUE(world.Start().ok());
    FaultOutcome clean = world.Tell(story);
    EXPECT_TRUE(clean.failures.empty()) << clean.Text();
    world.Stop();
    return clean;
  }
};

TEST_F(FaultLostTest, AnyCallMayLoseTheDevice) {
  std::mt19937_64 rng(11 + cuda_emu::SeedShift());
  for (const auto& [codec, story] : {std::pair(KvCodecKind::kRaw, FaultStory::kInPlace),
                                     std::pair(KvCodecKind::kInt8, FaultStory::kSwap)}) {
    FaultWorld world(codec);
    ResetFaultMachine(1);
    const FaultOutcome clean = CleanRun(world, story);
    const auto calls = static_cast<int>(cuda_emu::CurrentCounts().calls);
    int lost = 0;
    for (int i = 0; i < kSamples; ++i) {
      const int nth = std::uniform_int_distribution<int>(1, calls)(rng);
      const cudaError_t error = kStickyErrors[static_cast<size_t>(i) % std::size(kStickyErrors)];
      SCOPED_TRACE(::testing::Message()
                   << "call " << nth << " of " << calls << ": " << cudaGetErrorName(error));
      ResetFaultMachine(rng());
      cuda_emu::FailCallForGood(Api::kAny, nth, error);
      lost += Live(world, story, clean, error) ? 1 : 0;
      EXPECT_EQ(cuda_emu::Leaks(), cuda_emu::LeakCounts());
      if (HasFailure()) return;
    }
    EXPECT_GT(lost, kSamples / 2);
  }
}

TEST_F(FaultLostTest, AnyOperationMayLoseTheDevice) {
  std::mt19937_64 rng(12 + cuda_emu::SeedShift());
  for (const auto& [codec, story] : {std::pair(KvCodecKind::kRaw, FaultStory::kInPlace),
                                     std::pair(KvCodecKind::kFp8, FaultStory::kSwap)}) {
    FaultWorld world(codec);
    ResetFaultMachine(1);
    const FaultOutcome clean = CleanRun(world, story);
    const auto operations = static_cast<int>(cuda_emu::Trace().size());
    int lost = 0;
    for (int i = 0; i < kSamples; ++i) {
      const int nth = std::uniform_int_distribution<int>(1, operations)(rng);
      const cudaError_t error = kStickyErrors[static_cast<size_t>(i) % std::size(kStickyErrors)];
      SCOPED_TRACE(::testing::Message() << "operation " << nth << " of " << operations << ": "
                                        << cudaGetErrorName(error));
      ResetFaultMachine(rng());
      cuda_emu::FailStreamOperation(nth, error);
      lost += Live(world, story, clean, error) ? 1 : 0;
      EXPECT_EQ(cuda_emu::Leaks(), cuda_emu::LeakCounts());
      if (HasFailure()) return;
    }
    EXPECT_GT(lost, kSamples / 2);
  }
}

}  // namespace
}  // namespace sluice::cuda
