#include "scheduler/offload_guard.h"

#include <algorithm>
#include <cmath>

namespace sluice {
namespace {

// What the tolerated share of time comes to, fading as the balance does: its integral.
constexpr double kLog2OfE = 1.4426950408889634;
constexpr Seconds kAllowance = OffloadGuard::kHalfLife * (OffloadGuard::kTolerated * kLog2OfE);

}  // namespace

void OffloadGuard::Fade(Seconds now) {
  balance_ = balance_ * std::exp2((faded_at_ - now) / kHalfLife);
  faded_at_ = now;
}

void OffloadGuard::OnUse(Seconds now, Seconds saved) {
  Fade(now);
  saved_ += saved;
  balance_ += saved;
}

void OffloadGuard::OnStore(Seconds now, Seconds cost) {
  Fade(now);
  spent_ += cost;
  balance_ -= cost;
}

bool OffloadGuard::Stores(Seconds now) {
  Fade(now);
  if (stores_ && balance_ < Seconds(0) - kAllowance) {
    // It paid for long: forgive and start with a short pause.
    if (now - changed_at_ > kFirstPause * 8) pause_ = kFirstPause;
    stores_ = false;
    changed_at_ = now;
  } else if (!stores_ && now - changed_at_ >= pause_) {
    pause_ = std::min(pause_ * 2, kLongestPause);
    stores_ = true;
    changed_at_ = now;
    balance_ = std::max(balance_, Seconds(0));
  }
  return stores_;
}

}  // namespace sluice
