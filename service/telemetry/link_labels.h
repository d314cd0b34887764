// The labels of the four link directions: {src, dst}, each a tier.
#pragma once

#include <array>

#include "scheduler/step.h"

namespace sluice {

struct LinkEnds {
  const char* source;
  const char* target;
};

inline constexpr std::array<LinkEnds, kLinkDirectionCount> kLinkEnds = {
    LinkEnds{"host", "device"}, LinkEnds{"device", "host"}, LinkEnds{"disk", "host"},
    LinkEnds{"host", "disk"}};
static_assert(kLinkEnds.back().target != nullptr, "every direction needs its labels");

inline constexpr std::array<const char*, kTierCount> kTierNames = {"device", "host", "disk",
                                                                   "remote"};
static_assert(kTierNames.back() != nullptr, "every tier needs its label");

}  // namespace sluice
