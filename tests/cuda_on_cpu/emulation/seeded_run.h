// Runs the seeded kernel and a layer pipeline with seeded mistakes; says what was noticed.
#pragma once

#include <string>

#include "tests/cuda_on_cpu/emulation/seeded_kernels.h"

namespace sluice::seeded {

// Mistakes in the host's use of streams.
enum class StreamBug {
  kNone,
  kComputeDoesNotWait,  // for its layer's bytes
  kRefillDoesNotWait,   // a staging buffer is overwritten while a kernel reads it
  kResultNotAwaited,    // the host reads before it synchronises
  kRecordBeforeCopy,    // the event says "copied" too early
  kWaitBeforeRecord,    // the wait refers to an event without a record
  kPageableSource,
  kSourceOverwritten,  // by the host, while the copy may be pending
  kStoreNotAwaited,    // host memory of an offload store is reused before the store is done
};
inline constexpr int kStreamBugs = 9;
const char* Name(StreamBug bug);

struct Outcome {
  bool wrong = false;  // the result differs from a plain loop's, or is NaN
  cudaError_t error = cudaSuccess;
  std::string diagnostics;
  bool noticed() const { return wrong || error != cudaSuccess || !diagnostics.empty(); }
  std::string Text() const;
};

// One run on the machine as it is configured. Leaves nothing behind, except after a sticky error.
Outcome RunKernel(KernelBug bug);
// Loads the layers one by one into two staging buffers, computes on each, stores the result of
// every other layer back to the host and reads it there.
Outcome RunPipeline(StreamBug bug);
// The same calls; returns the first error at once, releasing everything. For fault injection.
cudaError_t RunPipelineOnce();

}  // namespace sluice::seeded
