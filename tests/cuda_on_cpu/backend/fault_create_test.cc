// Every call of CUDA that the backend makes from its creation to its end fails once.
#include <string>

#include "cuda_emu/control.h"
#include "tests/cuda_on_cpu/backend/fault_test.h"

namespace sluice::cuda {
namespace {

using cuda_emu::Api;

// Calls of several threads come in no fixed order: the sweep ends when several failures in a row
// were planned for later than the last call.
constexpr int kIdleEnough = 3;
constexpr int kMostCalls = 5000;

class FaultCreateTest : public FaultTest,
                        public ::testing::WithParamInterface<std::pair<KvCodecKind, FaultStory>> {};

// Creation, and the first of all steps, which finds no memory for its tables.
TEST_P(FaultCreateTest, EveryCallUpToTheFirstStepsFailsOnce) {
  const auto [codec, story] = GetParam();
  FaultWorld world(codec);
  ASSERT_TRUE(world.Start().ok());
  const FaultOutcome clean = world.Tell(story);
  ASSERT_TRUE(clean.failures.empty()) << clean.Text();
  world.Stop();
  int idle = 0;
  int refused = 0;                                        // failures that ended creation
  int failed = 0;                                         // failures that ended a story
  const int stride = codec == KvCodecKind::kRaw ? 1 : 3;  // most calls are the same ones
  for (int nth = 1; nth < kMostCalls && idle < kIdleEnough; nth += stride) {
    ResetFaultMachine(static_cast<uint64_t>(nth));
    const cudaError_t error =
        kOrdinaryErrors[static_cast<size_t>(nth) % std::size(kOrdinaryErrors)];
    SCOPED_TRACE(::testing::Message() << "call " << nth << ": " << cudaGetErrorName(error));
    cuda_emu::FailCall(Api::kAny, nth, error);
    const absl::Status started = world.Start();
    if (started.ok()) {
      const FaultOutcome outcome = world.Tell(story);
      SCOPED_TRACE(outcome.Text());
      ExpectNothingWrong(outcome, clean);
      for (const absl::Status& status : outcome.failures) ExpectUseful(status, error);
      failed += outcome.failures.empty() ? 0 : 1;
      idle = cuda_emu::EndFailures().has_value() ? 0 : idle + 1;
      EXPECT_TRUE(idle == 0 || outcome.failures.empty());
      // What needs no host memory goes on, whatever it was.
      EXPECT_TRUE(world.Tell(FaultStory::kShort).failures.empty());
      world.Stop();
    } else {
      ++refused;
      ExpectUseful(started, error);
    }
    EXPECT_EQ(cuda_emu::Leaks(), cuda_emu::LeakCounts());
    EXPECT_TRUE(cuda_emu::Diagnostics().empty());
    if (HasFailure()) return;
  }
  EXPECT_EQ(idle, kIdleEnough);
  EXPECT_GT(refused, 50);
  EXPECT_GT(failed, 15);
}

INSTANTIATE_TEST_SUITE_P(Codecs, FaultCreateTest,
                         ::testing::Values(std::pair(KvCodecKind::kRaw, FaultStory::kInPlace),
                                           std::pair(KvCodecKind::kInt8, FaultStory::kSwap)),
                         [](const auto& test) {
                           return test.param.first == KvCodecKind::kRaw ? "Raw" : "Int8";
                         });

class FaultStopTest : public FaultTest {};

// Releases report errors of earlier work; they release all the same.
TEST_F(FaultStopTest, EveryCallOfTheEndMayFailAndNothingLeaks) {
  FaultWorld world(KvCodecKind::kFp8);
  int idle = 0;
  int last = 0;
  for (int nth = 1; nth < kMostCalls && idle < kIdleEnough; ++nth) {
    ResetFaultMachine(static_cast<uint64_t>(nth));
    SCOPED_TRACE(::testing::Message() << "release " << nth);
    ASSERT_TRUE(world.Start().ok());
    ASSERT_TRUE(world.Tell(FaultStory::kShort).failures.empty());
    cuda_emu::FailCall(Api::kFree, nth, cudaErrorInvalidValue);
    cuda_emu::FailCall(Api::kSynchronize, nth, cudaErrorInvalidValue);
    world.Stop();
    EXPECT_EQ(cuda_emu::Leaks(), cuda_emu::LeakCounts());
    if (cuda_emu::EndFailures().has_value()) {
      idle = 0;
      last = nth;
    } else {
      ++idle;
    }
    if (HasFailure()) return;
  }
  EXPECT_GT(last, 100);
}

}  // namespace
}  // namespace sluice::cuda
