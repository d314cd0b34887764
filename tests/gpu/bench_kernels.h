// Every kernel on the shapes of a middle-sized model (Llama 3.1 8B), against what the device's
// memory or its matrix products achieve.
#pragma once

#include <vector>

#include "tests/gpu/bench_device.h"

namespace sluice::cuda {

// `quick`: tiny shapes, to see that it works. Fills limits->product_rate.
// REQUIRES: limits->memory_rate is there.
std::vector<BenchRow> BenchKernels(bool quick, DeviceLimits* limits);

}  // namespace sluice::cuda
