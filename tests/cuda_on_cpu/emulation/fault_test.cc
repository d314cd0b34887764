// Fault injection: every call of a pipeline fails once; the error comes back and nothing leaks.
#include <gtest/gtest.h>

#include "tests/cuda_on_cpu/emulated_test.h"
#include "tests/cuda_on_cpu/emulation/seeded_run.h"

namespace sluice {
namespace {

using cuda_emu::Api;

class FaultTest : public EmulatedTest {};

TEST_F(FaultTest, EveryFailingCallIsReportedAndNothingLeaks) {
  int failures = 0;
  for (int nth = 1; nth < 1000; ++nth) {
    cuda_emu::Reset();
    cuda_emu::FailCall(Api::kAny, nth, cudaErrorMemoryAllocation);
    const cudaError_t error = seeded::RunPipelineOnce();
    EXPECT_EQ(cuda_emu::Leaks(), cuda_emu::LeakCounts()) << "call " << nth;
    // Past the last call nothing is left to fail; the destructor's synchronise comes last.
    if (error == cudaSuccess) break;
    EXPECT_EQ(error, cudaErrorMemoryAllocation) << "call " << nth;
    ++failures;
  }
  EXPECT_GE(failures, 60);
  TakeDiagnostics();
}

TEST_F(FaultTest, EveryFailingStreamOperationIsReportedAndNothingLeaks) {
  int failures = 0;
  for (int nth = 1; nth < 1000; ++nth) {
    cuda_emu::Reset();
    cuda_emu::FailStreamOperation(nth, cudaErrorECCUncorrectable);
    const cudaError_t error = seeded::RunPipelineOnce();
    EXPECT_EQ(cuda_emu::Leaks(), cuda_emu::LeakCounts()) << "operation " << nth;
    if (error == cudaSuccess) break;
    EXPECT_EQ(error, cudaErrorECCUncorrectable) << "operation " << nth;
    ++failures;
  }
  EXPECT_GE(failures, 15);
}

TEST_F(FaultTest, OnlyTheChosenApiFailsAndOnlyOnce) {
  cuda_emu::FailCall(Api::kStreamCreate, 2, cudaErrorNotSupported);
  cudaStream_t first = nullptr;
  cudaStream_t second = nullptr;
  void* memory = nullptr;
  EXPECT_CUDA_OK(cudaMalloc(&memory, 16));
  EXPECT_CUDA_OK(cudaStreamCreate(&first));
  EXPECT_EQ(cudaStreamCreate(&second), cudaErrorNotSupported);
  EXPECT_EQ(second, nullptr);
  EXPECT_CUDA_OK(cudaStreamCreate(&second));
  EXPECT_CUDA_OK(cudaStreamDestroy(first));
  EXPECT_CUDA_OK(cudaStreamDestroy(second));
  EXPECT_CUDA_OK(cudaFree(memory));
}

TEST_F(FaultTest, AFailingReleaseStillReleases) {
  void* memory = nullptr;
  ASSERT_CUDA_OK(cudaMalloc(&memory, 16));
  cuda_emu::FailCall(Api::kFree, 1, cudaErrorLaunchFailure);
  EXPECT_EQ(cudaFree(memory), cudaErrorLaunchFailure);
}

TEST_F(FaultTest, AFailureForGoodIsWhatEveryLaterCallReturns) {
  void* memory = nullptr;
  ASSERT_CUDA_OK(cudaMalloc(&memory, 16));
  cuda_emu::FailCallForGood(Api::kSynchronize, 1, cudaErrorLaunchFailure);
  EXPECT_CUDA_OK(cudaMemset(memory, 0, 16));
  EXPECT_EQ(cudaDeviceSynchronize(), cudaErrorLaunchFailure);
  EXPECT_EQ(cudaMemset(memory, 0, 16), cudaErrorLaunchFailure);
  EXPECT_EQ(cudaPeekAtLastError(), cudaErrorLaunchFailure);
  EXPECT_EQ(cudaFree(memory), cudaErrorLaunchFailure);  // and it is free
}

TEST_F(FaultTest, FailuresThatHaveNotComeAreForgotten) {
  EXPECT_EQ(cuda_emu::EndFailures(), std::nullopt);
  cuda_emu::FailCall(Api::kAny, 1, cudaErrorInvalidValue);
  cuda_emu::FailCall(Api::kAny, 1, cudaErrorInvalidValue);
  EXPECT_EQ(cudaDeviceSynchronize(), cudaErrorInvalidValue);
  EXPECT_EQ(cuda_emu::EndFailures(), Api::kSynchronize);
  EXPECT_CUDA_OK(cudaDeviceSynchronize());
  EXPECT_EQ(cuda_emu::EndFailures(), std::nullopt);
}

}  // namespace
}  // namespace sluice
