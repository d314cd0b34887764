// StepRunner: steps from their plans to drawn tokens, on the compute stream; up to two in flight.
//
//   Launch:  tables, one copy -> forward (layer i waits for its loads) -> logits, draws
//                -> results, one copy -> event
//   Wait:    ... event -> tokens
//
// Only Wait() waits for the device; launching runs ahead of it. A step launched behind another one
// reads tokens that the host does not know yet where that leaves them on the device
// (SequenceWork::previous_row). What the host and the device exchange lies in one of two slots, by
// turns; activations belong to the stream.
//
// Thread-compatible.
#pragma once

#include <array>
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
  static constexpr int kMaxInFlight = 2;

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
  // Waits for what is in flight; what its plans view may be gone.
  ~StepRunner();
  StepRunner(const StepRunner&) = delete;
  StepRunner& operator=(const StepRunner&) = delete;

  // Puts the step into the stream, unless `ready` is not OK, which fails it. Whatever goes wrong is
  // told by Wait(). What the plan views stays until then.
  // REQUIRES: CheckStep(); fewer than kMaxInFlight in flight.
  void Launch(const StepPlan& plan, absl::Status ready);

  // Blocks until the device is done with the oldest step in flight. A load that fails ends its
  // sequence only. If the result's status is not OK no part of the step took effect, nor does any
  // of the step behind it. REQUIRES: one is in flight.
  StepResult Wait();

 private:
  // A step in flight, or the memory of one.
  struct Slot {
    Slot(MemoryAccount& account, int32_t vocab)
        : control(account), results(account), sampler(Forward::kLogitRows, vocab) {}

    ControlBuffer control;
    ResultBuffer results;
    TokenSampler sampler;
    StepResult result;
    bool watched = false;                    // the watch sees its end
    std::vector<ForwardSequence> sequences;  // as what follows: of the plan
    std::vector<TokenId> unknown;            // stand for tokens that the step before draws
    std::vector<size_t> loading;             // indices of sequences with loads
    std::vector<size_t> drawing;             // of those that draw a token
    std::vector<int32_t> draws;              // by sequence: its place in `drawing`, or -1
    std::vector<SampleInput> inputs;         // of `drawing`
  };

  Slot& SlotOf(int64_t step) { return slots_[static_cast<size_t>(step % kMaxInFlight)]; }
  // `before`: of the step launched before this one; its draws stay until the next one is launched.
  absl::Status Start(const StepPlan& plan, const Slot& before, Slot& slot);
  static void Gather(const StepPlan& plan, const Slot& before, Slot& slot);
  absl::Status Enqueue(const StepPlan& plan, const Slot& before, Slot& slot);
  absl::Status WaitForLoads(const StepPlan& plan, int layer, Slot& slot);
  absl::Status WaitForLoad(const StepPlan& plan, size_t sequence, int layer);
  absl::Status Draw(const StepTables& tables, Slot& slot);
  absl::Status Drain(Slot& slot);
  static void TakeTokens(Slot& slot);

  const Parts parts_;
  const int64_t tokens_per_block_;
  std::array<Slot, kMaxInFlight> slots_;
  int64_t launched_ = 0;  // steps
  int64_t waited_ = 0;
};

}  // namespace sluice::cuda
