// The labels of the four link directions: {src, dst}, each a tier.
#pragma once

#include <array>

#include "scheduler/step.h"

namespace sluice {

struct LinkEnds {
  const char* source;
  const char* target;
};

inline constexpr std::array<const char*, kTierCount> kTierNames = {"device", "host", "disk",
                                                                   "remote"};
static_assert(kTierNames.back() != nullptr, "every tier needs its label");

constexpr const char* TierName(Tier tier) { return kTierNames[static_cast<size_t>(tier)]; }

// `storage`: what is behind the host, kDisk or kRemote.
constexpr std::array<LinkEnds, kLinkDirectionCount> LinkEndsWith(Tier storage) {
  const char* const name = TierName(storage);
  return {LinkEnds{"host", "device"}, LinkEnds{"device", "host"}, LinkEnds{name, "host"},
          LinkEnds{"host", name}};
}
static_assert(LinkEndsWith(Tier::kDisk).back().target != nullptr, "every direction needs labels");

}  // namespace sluice
