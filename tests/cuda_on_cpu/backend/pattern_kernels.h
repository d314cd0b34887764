// Kernels that write a page full of numbers that nobody else writes, and look whether it still
// holds them: what tests of copies compute with.
#pragma once

#include <cstdint>

#include "backend/cuda/gpu/gpu.h"

namespace sluice::cuda {

struct PagePattern {
  uint32_t* words = nullptr;  // device
  int count = 0;
  uint32_t first = 0;          // word i holds PatternWord(first, i)
  uint32_t* errors = nullptr;  // device; counts words that differ
};

__host__ __device__ inline uint32_t PatternWord(uint32_t first, int i) {
  return first + static_cast<uint32_t>(i) * 2654435761u;
}

// Launches "fill_page" or "check_page".
[[nodiscard]] cudaError_t FillPage(const PagePattern& pattern, cudaStream_t stream);
[[nodiscard]] cudaError_t CheckPage(const PagePattern& pattern, cudaStream_t stream);

}  // namespace sluice::cuda
