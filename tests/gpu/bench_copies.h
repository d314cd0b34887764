// Copies between pinned host memory and the device: both ways, both at once, and where the gather
// kernel stops being faster than the copy engine.
#pragma once

#include <vector>

#include "tests/gpu/bench_device.h"

namespace sluice::cuda {

// `quick`: a few small sizes, to see that it works. Fills limits.memory_rate.
std::vector<BenchRow> BenchCopies(bool quick, DeviceLimits* limits);

// Per descriptor size: copies one by one, one batch, and the gather kernel, for the same bytes.
std::vector<BenchRow> BenchCrossover(bool quick);

}  // namespace sluice::cuda
