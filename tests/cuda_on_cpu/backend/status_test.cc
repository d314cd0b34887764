#include "backend/cuda/device/status.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "backend/cuda/device/event.h"
#include "backend/cuda/device/stream.h"
#include "tests/cuda_on_cpu/emulated_test.h"

namespace sluice::cuda {
namespace {

using ::testing::HasSubstr;

class StatusTest : public EmulatedTest {};

TEST_F(StatusTest, ErrorsBecomeStatusWithARemedy) {
  EXPECT_EQ(CudaStatus(cudaSuccess, "anything"), absl::OkStatus());
  const absl::Status memory = CudaStatus(cudaErrorMemoryAllocation, "cudaMalloc");
  EXPECT_EQ(memory.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(memory.message()),
              ::testing::StartsWith("cudaMalloc: cudaErrorMemoryAllocation ("));
  EXPECT_THAT(std::string(memory.message()), HasSubstr("ask for less memory"));
  EXPECT_EQ(CudaStatus(cudaErrorNoDevice, "x").code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(CudaStatus(cudaErrorNotSupported, "x").code(), absl::StatusCode::kUnimplemented);
  EXPECT_EQ(CudaStatus(cudaErrorInvalidValue, "x").code(), absl::StatusCode::kInternal);
  EXPECT_EQ(CudaStatus(cudaErrorIllegalAddress, "x").code(), absl::StatusCode::kUnavailable);
}

TEST_F(StatusTest, OnlyErrorsThatDestroyTheContextAreSticky) {
  for (const cudaError_t error :
       {cudaErrorECCUncorrectable, cudaErrorIllegalAddress, cudaErrorLaunchTimeout, cudaErrorAssert,
        cudaErrorIllegalInstruction, cudaErrorMisalignedAddress, cudaErrorLaunchFailure,
        cudaErrorUnknown}) {
    EXPECT_TRUE(IsSticky(error)) << cudaGetErrorName(error);
  }
  for (const cudaError_t error :
       {cudaSuccess, cudaErrorMemoryAllocation, cudaErrorInvalidValue, cudaErrorNotReady,
        cudaErrorNoDevice, cudaErrorLaunchOutOfResources, cudaErrorNotSupported}) {
    EXPECT_FALSE(IsSticky(error)) << cudaGetErrorName(error);
  }
}

TEST_F(StatusTest, HealthRemembersTheFirstStickyError) {
  DeviceHealth health;
  EXPECT_EQ(health.Note(cudaErrorInvalidValue, "a").code(), absl::StatusCode::kInternal);
  EXPECT_FALSE(health.lost());
  EXPECT_EQ(health.status(), absl::OkStatus());
  EXPECT_FALSE(health.Note(cudaErrorIllegalAddress, "the attention kernel").ok());
  EXPECT_FALSE(health.Note(cudaErrorLaunchFailure, "another").ok());
  EXPECT_TRUE(health.lost());
  EXPECT_EQ(health.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(health.status().message()),
              HasSubstr("device lost: the attention kernel: cudaErrorIllegalAddress"));
  EXPECT_THAT(std::string(health.status().message()), HasSubstr("restart the process"));
}

TEST_F(StatusTest, FailedCallsOfWrappersNameThemselves) {
  cuda_emu::FailCall(cuda_emu::Api::kStreamCreate, 1, cudaErrorMemoryAllocation);
  EXPECT_THAT(std::string(Stream::Create().status().message()),
              HasSubstr("cudaStreamCreateWithPriority: cudaErrorMemoryAllocation"));
  cuda_emu::FailCall(cuda_emu::Api::kEventCreate, 1, cudaErrorMemoryAllocation);
  EXPECT_THAT(std::string(Event::Create().status().message()),
              HasSubstr("cudaEventCreateWithFlags"));
}

TEST_F(StatusTest, APoolLendsEventsAgain) {
  EventPool pool;
  cudaEvent_t first = nullptr;
  {
    const auto event = pool.Lend();
    ASSERT_TRUE(event.ok());
    first = (*event)->get();
    const auto other = pool.Lend();
    ASSERT_TRUE(other.ok());
    EXPECT_NE((*other)->get(), first);
  }
  EXPECT_EQ(cuda_emu::Leaks().events, 2u);
  const auto a = pool.Lend();
  const auto b = pool.Lend();
  EXPECT_EQ(cuda_emu::Leaks().events, 2u);
}

}  // namespace
}  // namespace sluice::cuda
