// How policies behave; each uses what concerns it. Plain data.
#pragma once

#include <vector>

#include "scheduler/cost/measure.h"

namespace sluice {

struct PolicyOptions {
  // slack: a request that has waited longer than this, plus the time the work ahead of it on
  // arrival takes, goes before all others. Smaller: closer to first come first served, fairer to
  // large requests; larger: lower mean time to first token.
  Seconds patience{30};

  // slack: work queued ahead per resource. Larger hides more jitter; smaller decides later.
  Seconds lookahead{0.25};

  // Relative shares by tenant, in order of appearance; missing ones are 1.
  std::vector<double> tenant_weights;
};

}  // namespace sluice
