// Probes of whole steps, through the forward pass that serves, with a model of random numbers: what
// a step costs beyond its products and its attention. For `sluice calibrate`.
//
// Thread-compatible; the pool must outlive what is made with it.
#pragma once

#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"
#include "backend/cpu/element.h"
#include "backend/cpu/probe_compute.h"
#include "backend/cpu/thread_pool.h"
#include "backend/probe_timer.h"
#include "scheduler/base/units.h"

namespace sluice {

// A model of `layers` layers with a vocabulary of next to nothing.
class StepProbe {
 public:
  // Takes steps of up to `rows` tokens. Returns RESOURCE_EXHAUSTED without memory for it.
  static absl::StatusOr<std::unique_ptr<StepProbe>> Create(const LayerShape& shape, int64_t layers,
                                                           Element element, Tokens rows,
                                                           ThreadPool& pool);
  virtual ~StepProbe() = default;

  // Of the first `rows` tokens of one sequence, in one step.
  virtual absl::StatusOr<RunTimes> Time(Tokens rows, const ProbeControl& control) = 0;
};

// A decode step of a model of `layers` layers that is so narrow that hardly anything is computed:
// what remains are forks, joins and small kernels.
absl::StatusOr<RunTimes> TimeEmptyStep(int64_t layers, ThreadPool& pool,
                                       const ProbeControl& control);

}  // namespace sluice
