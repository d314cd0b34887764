// OffloadGuard keeps shadow accounts of offloading: the seconds that KV kept off the device saved,
// against being computed again, and the seconds that keeping it there cost. Where it does not pay,
// it says so, and the scheduler stops storing: nobody should be worse off with a host tier than
// without one (algorithms.md section 4, point 11).
//
// Both accounts are in seconds of the scarcest resource (PlanPrice::price) and fade with a
// half-life of kHalfLife, so that the guard follows the load. After a while off it tries again,
// with pauses that double as long as it still does not pay.
//
// Pure; engine thread only. `now` must not go back.
#pragma once

#include "scheduler/cost/measure.h"

namespace sluice {

class OffloadGuard {
 public:
  static constexpr Seconds kHalfLife{60};
  // Spending that is never worth a decision, as a share of time.
  static constexpr double kTolerated = 0.02;
  static constexpr Seconds kFirstPause{60};
  static constexpr Seconds kLongestPause{1920};

  // A request was admitted that used KV off the device. `saved`: price of computing that again less
  // price paid.
  void OnUse(Seconds now, Seconds saved);
  // A store has ended that cost so much.
  void OnStore(Seconds now, Seconds cost);

  // Whether new blocks should be stored. Changes only here.
  bool Stores(Seconds now);

  // Since the start.
  Seconds saved() const { return saved_; }
  Seconds spent() const { return spent_; }
  bool stores() const { return stores_; }

 private:
  void Fade(Seconds now);

  Seconds saved_;
  Seconds spent_;
  Seconds balance_;  // saved less spent, fading
  Seconds faded_at_;
  bool stores_ = true;
  Seconds changed_at_;  // stores_
  Seconds pause_ = kFirstPause;
};

}  // namespace sluice
