// What the tests of failing calls share: errors to fail with, and what every failure must say.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "absl/status/status.h"
#include "backend/cuda/gpu/gpu.h"
#include "tests/cuda_on_cpu/backend/fault_world.h"
#include "tests/cuda_on_cpu/emulated_test.h"

namespace sluice::cuda {

// Errors that concern one call, of all codes that CudaStatus makes of them.
inline constexpr cudaError_t kOrdinaryErrors[] = {
    cudaErrorMemoryAllocation, cudaErrorInvalidValue, cudaErrorNotSupported,
    cudaErrorLaunchOutOfResources, cudaErrorInvalidResourceHandle};
inline constexpr cudaError_t kStickyErrors[] = {cudaErrorIllegalAddress, cudaErrorECCUncorrectable,
                                                cudaErrorLaunchFailure};

class FaultTest : public EmulatedTest {
 protected:
  void SetUp() override { ResetFaultMachine(1); }

  // What has failed, CUDA's word for it, and what to do: "embedding: cudaErrorX (...); do Y".
  static void ExpectUseful(const absl::Status& status, cudaError_t error) {
    const std::string message(status.message());
    EXPECT_THAT(message, ::testing::HasSubstr(cudaGetErrorName(error)));
    EXPECT_THAT(message, ::testing::ContainsRegex(".: cudaError.+; .+"));
  }
  // Everything said is as in `clean`, and all of it if nothing failed.
  static void ExpectNothingWrong(const FaultOutcome& outcome, const FaultOutcome& clean) {
    for (const auto& [place, said] : outcome.said) {
      const auto want = clean.said.find(place);
      ASSERT_NE(want, clean.said.end()) << place;
      EXPECT_EQ(said, want->second) << place;
    }
    if (!outcome.failures.empty()) return;
    EXPECT_EQ(outcome.said.size(), clean.said.size());
  }
};

}  // namespace sluice::cuda
