#include "scheduler/kv/sightings.h"

#include <algorithm>
#include <bit>

namespace sluice {

Sightings::Sightings(Blocks expected) {
  if (expected > Blocks(0)) slots_.resize(std::bit_ceil(expected.size()), Slot{0, 0});
}

int Sightings::Add(const Hash128& hash) {
  Slot& slot = slots_[hash.low & (slots_.size() - 1)];
  const uint32_t tag = static_cast<uint32_t>((hash.low >> 40) ^ hash.high) & 0xFFFFFFU;
  if (slot.tag != tag) slot = Slot{tag, 0};
  slot.count = std::min<uint32_t>(slot.count + 1U, 255U);
  return static_cast<int>(slot.count);
}

}  // namespace sluice
