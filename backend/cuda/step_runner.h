// StepRunner: one step from its plan to drawn tokens, on the compute stream.
//
//   tables, one copy -> forward (layer i waits for its loads) -> logits, draws -> results, one copy
//                                                                           -> synchronize
//
// Only the end waits for the device; launching runs ahead of it.
//
// Thread-compatible.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "backend/cuda/device/memory.h"
#include "backend/cuda/device/status.h"
#include "backend/cuda/forward/control_buffer.h"
#include "backend/cuda/forward/forward.h"
#include "backend/cuda/forward/result_buffer.h"
#include "backend/cuda/forward/token_sampler.h"
#include "backend/cuda/gpu/gpu.h"
#include "backend/cuda/link/cuda_link.h"
#include "backend/cuda/stall_watch.h"
#include "scheduler/base/units.h"
#include "scheduler/step.h"

namespace sluice::cuda {

class StepRunner {
 public:
  // What it works with. All must outlive it.
  struct Parts {
    Forward& forward;
    CudaLink& link;
    StallWatch& stalls;
    DeviceHealth& health;
    MemoryAccount& account;
    cudaStream_t stream;
  };

  StepRunner(const Parts& parts, Tokens tokens_per_block, int32_t vocab);

  // Runs the sequences of `plan` and blocks until the device is done with them. Fills in what
  // concerns them in `result`, whose sequences are as many. A load that fails ends its sequence
  // only. Not OK: no part of the step took effect.
  // REQUIRES: CheckStep().
  absl::Status Run(const StepPlan& plan, StepResult& result);

 private:
  void Gather(const StepPlan& plan);
  absl::Status Enqueue(const StepPlan& plan, StepResult& result);
  absl::Status WaitForLoads(const StepPlan& plan, int layer, StepResult& result);
  absl::Status WaitForLoad(const StepPlan& plan, size_t sequence, int layer);
  absl::Status Draw(const StepTables& tables);
  absl::Status Drain(absl::Status status, StepResult& result);
  void TakeTokens(StepResult& result) const;

  const Parts parts_;
  const int64_t tokens_per_block_;
  ControlBuffer control_;
  ResultBuffer results_;
  TokenSampler sampler_;

  // The step at hand.
  std::vector<ForwardSequence> sequences_;
  std::vector<size_t> loading_;      // indices of sequences with loads
  std::vector<size_t> drawing_;      // of those that draw a token
  std::vector<SampleInput> inputs_;  // of `drawing_`
};

}  // namespace sluice::cuda
