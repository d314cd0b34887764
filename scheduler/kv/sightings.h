// Sightings counts how often blocks were seen, also across times in which nothing of them is
// cached: what a gate needs that stores only what comes again.
//
// A table of fixed size without chains: two blocks that fall into the same slot displace each
// other, and one in some millions is taken for another. Both only move a block's store in time.
//
// Thread-compatible.
#pragma once

#include <cstdint>
#include <vector>

#include "scheduler/base/hash.h"
#include "scheduler/base/units.h"

namespace sluice {

class Sightings {
 public:
  // Remembers about `expected` blocks. None: counts nothing.
  explicit Sightings(Blocks expected);

  // Counts one sighting. Returns how many there were, this one included; at most 255.
  // REQUIRES: expected > 0.
  int Add(const Hash128& hash);

 private:
  struct Slot {
    uint32_t tag : 24;
    uint32_t count : 8;
  };
  std::vector<Slot> slots_;  // a power of two
};

}  // namespace sluice
