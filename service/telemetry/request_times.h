// What the engine saw of one request and the scheduler's RequestStats do not say.
#pragma once

#include "absl/time/time.h"

namespace sluice {

struct RequestTimes {
  // Start of the first step that computed something for it; InfinitePast if none did.
  absl::Time first_step = absl::InfinitePast();
  // Its share, by tokens, of the compute time of the steps that prefilled it.
  absl::Duration prefill;
};

}  // namespace sluice
