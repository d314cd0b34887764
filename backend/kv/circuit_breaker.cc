#include "backend/kv/circuit_breaker.h"

#include <algorithm>

#include "scheduler/base/check.h"

namespace sluice {

CircuitBreaker::CircuitBreaker(const CircuitBreakerOptions& options)
    : options_(options), random_(options.seed), pause_(options.first_pause) {
  SLUICE_CHECK(options.failures >= 1 && options.first_pause > absl::ZeroDuration());
  SLUICE_CHECK(options.jitter >= 0 && options.jitter < 1);
}

bool CircuitBreaker::StartTrial(absl::Time now) {
  if (state_ != State::kOpen || now < retry_at_) return false;
  state_ = State::kHalfOpen;
  ++trials_;
  return true;
}

absl::Time CircuitBreaker::next_trial() const {
  return state_ == State::kOpen ? retry_at_ : absl::InfiniteFuture();
}

void CircuitBreaker::OnSuccess(bool trial) {
  if (state_ != State::kClosed && !trial) return;
  state_ = State::kClosed;
  failures_ = 0;
  pause_ = options_.first_pause;
}

void CircuitBreaker::OnFailure(absl::Time now, bool trial) {
  if (trial) return Open(now);
  if (state_ != State::kClosed || ++failures_ < options_.failures) return;
  ++times_opened_;
  Open(now);
}

void CircuitBreaker::Open(absl::Time now) {
  state_ = State::kOpen;
  failures_ = 0;
  const double part =
      std::uniform_real_distribution<double>(1 - options_.jitter, 1 + options_.jitter)(random_);
  retry_at_ = now + pause_ * part;
  pause_ = std::min(pause_ * 2, options_.longest_pause);
}

}  // namespace sluice
