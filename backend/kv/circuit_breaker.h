// CircuitBreaker keeps everybody away from a server that fails, so that it costs nothing:
//
//             failures in a row                 the pause is over
//   kClosed ───────────────────────> kOpen ───────────────────────> kHalfOpen
//      ^                               ^                               │
//      │                               └── the trial fails: a pause ───┤
//      └─────────────── the trial succeeds ────────────────────────────┘
//
// While it is open or half open nobody may ask, but for one trial at a time. Pauses double up to a
// limit and vary by a random part, so that many servers do not come back in step.
//
// Pure but for its own random numbers (seeded); thread-compatible.
#pragma once

#include <cstdint>
#include <random>

#include "absl/time/time.h"

namespace sluice {

struct CircuitBreakerOptions {
  int failures = 3;  // in a row
  absl::Duration first_pause = absl::Milliseconds(250);
  absl::Duration longest_pause = absl::Seconds(5);
  double jitter = 0.2;  // a pause is up to this share longer or shorter
  uint64_t seed = 0;
};

class CircuitBreaker {
 public:
  // The values are those of the metric.
  enum class State : uint8_t { kClosed, kHalfOpen, kOpen };

  // REQUIRES: failures >= 1, pauses > 0, jitter in [0, 1).
  explicit CircuitBreaker(const CircuitBreakerOptions& options);

  bool closed() const { return state_ == State::kClosed; }
  State state() const { return state_; }

  // Whether the caller shall make the trial: if so, OnSuccess() or OnFailure() follows.
  bool StartTrial(absl::Time now);
  // When StartTrial() may say yes; infinite while closed or during a trial.
  absl::Time next_trial() const;

  // What came of something that was asked. Answers to what was asked before it opened change
  // nothing any more, unless `trial`.
  void OnSuccess(bool trial = false);
  void OnFailure(absl::Time now, bool trial = false);

  int64_t times_opened() const { return times_opened_; }
  int64_t trials() const { return trials_; }

 private:
  void Open(absl::Time now);

  const CircuitBreakerOptions options_;
  std::mt19937_64 random_;
  State state_ = State::kClosed;
  int failures_ = 0;
  absl::Duration pause_;
  absl::Time retry_at_ = absl::InfiniteFuture();
  int64_t times_opened_ = 0;
  int64_t trials_ = 0;
};

}  // namespace sluice
