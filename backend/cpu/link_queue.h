// LinkQueue: what a link moves next, and when it counts as arrived. Pure: no threads, no clock, no
// bytes; time is an argument.
//
// Copies are cut into slices of one layer of a few blocks, layer by layer over all blocks. Each
// direction moves one slice at a time; the next one comes from the highest class that has work
// (demand, prefetch, write-back), first come first served within it, so that a demand load waits
// for one slice at most. With a bandwidth set, a slice arrives no earlier than its bytes take at
// that rate.
//
// Life of a slice: Start() -> the caller moves the bytes -> Moved() -> Arrive() once it is due.
#pragma once

#include <array>
#include <cstddef>
#include <deque>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "scheduler/base/units.h"
#include "scheduler/step.h"

namespace sluice {

// One layer of some of a copy's blocks.
struct LinkSlice {
  CopyId id;
  LinkDirection direction;
  int layer;
  std::span<const Copy::Pair> blocks;  // valid until Moved()
  bool first;                          // of its copy
};

// What has newly arrived of one copy.
struct LinkArrival {
  CopyId id;
  LinkDirection direction;
  int layers;                        // complete so far
  std::optional<CopyResult> result;  // set when the copy has ended
};

class LinkQueue {
 public:
  // `bytes_per_second` 0: no pacing.
  LinkQueue(int layers, Bytes bytes_per_layer, double bytes_per_second);

  void Push(const Copy& copy);

  // The next slice to move, or nothing if nothing is queued for a direction that is free.
  std::optional<LinkSlice> Start(absl::Time now);
  // The slice's bytes are in place, or moving them failed, which ends the copy.
  void Moved(const LinkSlice& slice, const absl::Status& status, absl::Time now);
  // Takes what has arrived by `now`.
  std::vector<LinkArrival> Arrive(absl::Time now);
  // When the next slice arrives; InfiniteFuture if none is on its way.
  absl::Time next_arrival() const;

 private:
  static constexpr int kClasses = 3;

  struct Job {
    Copy copy;
    int layer = 0;
    size_t block = 0;  // next one in this layer
    absl::Time started;
    absl::Status status;
  };
  struct Lane {
    std::array<std::deque<std::unique_ptr<Job>>, kClasses> queues;
    Job* moving = nullptr;  // whose slice is on its way
    size_t slice_blocks = 0;
    bool moved = false;                           // its bytes are in place
    bool idle = true;                             // had nothing to do since the last slice
    absl::Time arrives;                           // of the slice on its way
    absl::Time free_from = absl::InfinitePast();  // end of the previous slice on the paced line
  };

  Job* Head(const Lane& lane) const;
  size_t SliceBlocks(const Job& job) const;
  std::optional<LinkArrival> Advance(Lane& lane, absl::Time now);

  const int layers_;
  const Bytes bytes_per_layer_;  // of one block
  const double bytes_per_second_;
  std::array<Lane, kLinkDirectionCount> lanes_;
  size_t turn_ = 0;  // direction that goes first among equals
};

}  // namespace sluice
