// OnlineCalibration refines CostCoefficients from the steps and copies of the running server, and
// says how good its predictions are.
//
// Steps and copies have one filter each (online_filter.h). A measurement moves those coefficients
// that its prediction consists of: a decode step of few sequences the launch and the weight read, a
// prefill chunk the time per token, one far into a prompt the attention; a copy the latency and
// whichever of bytes and runs was the slower. So a mixed load tells them apart. Outliers are not
// absorbed, unless they persist.
//
// Coefficients stay within [1/8, 8] times their start: a profile of another machine is corrected,
// nonsense is not. A coefficient that is 0 at the start stays 0.
//
// Each prediction is compared with its measurement before that is absorbed.
//
// Pure: no allocation after construction; the same calls give the same coefficients, bit for bit.
// Thread-compatible.
#pragma once

#include <cstdint>
#include <optional>
#include <span>

#include "scheduler/base/units.h"
#include "scheduler/cost/coefficients.h"
#include "scheduler/cost/measure.h"
#include "scheduler/cost/online_errors.h"
#include "scheduler/cost/online_filter.h"
#include "scheduler/step.h"

namespace sluice {

struct CopyObservation {
  LinkDirection direction = LinkDirection::kHostToDevice;
  Bytes bytes;
  int64_t runs = 1;  // of bytes contiguous on both sides, as in CopyTime()
  Seconds measured;  // from the first byte moved to the last one in place
  // The opposite direction of the host link was busy for most of that time.
  bool other_direction_busy = false;
};

struct OnlineCalibrationStats {
  int64_t steps = 0;  // with their outliers
  int64_t copies = 0;
  int64_t outliers = 0;
  int64_t ignored = 0;  // no measurement: zero, negative, not finite, nothing done
  // Median of |predicted - measured| / measured over the last 256; nothing before the first.
  std::optional<double> step_error;
  std::optional<double> copy_error;
};

class OnlineCalibration {
 public:
  static constexpr double kLimit = 8;

  // REQUIRES: start.Validate() is OK.
  explicit OnlineCalibration(const CostCoefficients& start);

  // A step of `parts` took `measured`, time spent waiting for loads not included. Returns what was
  // predicted; zero if the observation is ignored. O(parts).
  Seconds ObserveStep(std::span<const StepPart> parts, Seconds measured);

  // A copy that ended well. Copies cut short or interleaved with others of their direction tell
  // nothing; do not report them. Returns as above. O(1).
  Seconds ObserveCopy(const CopyObservation& copy);

  // What is known now; start values before the first observation. The reference stays valid.
  const CostCoefficients& current() const { return current_; }

  // Computes medians: for metrics, not for every decision.
  OnlineCalibrationStats stats() const;

 private:
  enum StepTerm : size_t {
    kLaunch,
    kFloor,
    kWeightRead,
    kPerToken,
    kPerPair,
    kPerContext,
    kInPlace,
    kStepTerms
  };
  enum CopyTerm : size_t { kLatency, kPerRun, kPerByte, kCopyTerms };
  static constexpr size_t kDuplex = kLinkDirectionCount * kCopyTerms;  // after all directions'

  using StepFilter = OnlineFilter<kStepTerms>;
  using CopyFilter = OnlineFilter<kDuplex + 1>;

  // Seconds of each term of the prediction; those that do not count are 0.
  StepFilter::Vector StepTerms(std::span<const StepPart> parts) const;
  CopyFilter::Vector CopyTerms(const CopyObservation& copy) const;
  void UpdateStepCoefficients();
  void UpdateCopyCoefficients();

  const CostCoefficients start_;
  // `start_` with 1 s for one attention coefficient and 0 for the others: see StepTerms().
  CostCoefficients unit_pair_;
  CostCoefficients unit_context_;
  CostCoefficients current_;
  StepFilter step_filter_{kLimit, 1e-3};
  CopyFilter copy_filter_{kLimit, 0};  // links do not slow down together
  ErrorWindow step_errors_;
  ErrorWindow copy_errors_;
  int64_t steps_ = 0;
  int64_t copies_ = 0;
  int64_t outliers_ = 0;
  int64_t ignored_ = 0;
};

}  // namespace sluice
