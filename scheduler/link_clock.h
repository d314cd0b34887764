// LinkClock remembers the copies under way and estimates when they will end. The scheduler does
// not see the links' queues; it knows what was handed out, at what price, and what has come back.
// Per direction, copies are taken to run one after the other.
//
// Engine thread only; pure.
#pragma once

#include <array>
#include <cstdint>
#include <optional>

#include "absl/container/flat_hash_map.h"
#include "scheduler/base/units.h"
#include "scheduler/cost/measure.h"
#include "scheduler/step.h"

namespace sluice {

// A copy under way.
struct CopyUnderWay {
  LinkDirection direction = LinkDirection::kHostToDevice;
  Bytes bytes;
  int64_t runs = 1;  // contiguous on both sides
  Seconds price;     // predicted
  Seconds due;       // when it should have ended, with all that was queued before it
};

// Runs of blocks that follow each other in both pools.
int64_t RunsOf(const Copy& copy);

class LinkClock {
 public:
  // A copy joins the queue of its direction; fills in `due`.
  void OnPlanned(CopyId id, CopyUnderWay copy, Seconds now);
  // It has ended, one way or another. Returns what it was; nothing for unknown ids.
  std::optional<CopyUnderWay> OnEnded(CopyId id, Seconds now);

  bool Busy(LinkDirection direction) const {
    return lanes_[static_cast<size_t>(direction)].copies > 0;
  }

  // Time until everything queued in the direction has ended.
  Seconds Backlog(LinkDirection direction, Seconds now) const;
  // Time since everything queued in the direction should have ended; 0 if nothing is or it is not
  // due yet.
  Seconds Late(LinkDirection direction, Seconds now) const;
  // Time until the copy ends; 0 for one that has.
  Seconds Left(CopyId id, Seconds now) const;

 private:
  struct Lane {
    Seconds queued;  // prices of all copies that have not ended
    Seconds since;   // when the one at its head began, as far as is known
    int64_t copies = 0;
  };
  std::array<Lane, kLinkDirectionCount> lanes_{};
  absl::flat_hash_map<CopyId, CopyUnderWay> copies_;  // never iterated
};

}  // namespace sluice
