// LinkScheduler: what every link moves next, and when it counts as arrived. Pure: no threads, no
// clock, no bytes; time is an argument and must not go back.
//
// Each of the four directions is a line of its own that moves one slice at a time. Copies are cut
// into slices of one layer of a few blocks, layer by layer over all blocks. A free line takes the
// next slice from
//   1. control copies,
//   2. overdue copies (LinkSchedulerOptions::promote_after), in the order they became overdue,
//   3. demand loads, 4. prefetches, 5. write-backs,
// and within 1, 3, 4 and 5 from the lowest Copy::rank, then first come first served. So a copy that
// is more urgent than what is being moved waits for the rest of one slice.
//
// Nothing starves. A copy of class c (demand = 1, prefetch = 2, write-back = 3) pushed at time t is
// overdue at o = t + c x promote_after, and on a paced line it has ended by
//   o + (Backlog(o) + control) / duplex_share
// where `control` is the work of control copies pushed after o: from o on, its line serves nothing
// that comes later but those.
//
// Pacing. A slice arrives when its bytes have taken as long as they take at the stated rate, and
// not before the caller has moved them. While both directions of the host link are busy each runs
// at duplex_share of its rate. While demand loads wait for the host link (host to device, queued or
// moving), write-back (device to host) that is not overdue is held back by a token bucket of one
// slice that fills at write_back_share of the line's rate.
//
// Life of a slice: Start() -> the caller moves the bytes -> Moved() -> Arrive() once it is due.
// In virtual time:
//   for (;;) {
//     Arrive(now); while (slice = Start(now)) Moved(*slice, OkStatus(), now);
//     now = next_event();
//   }
//
// Thread-compatible.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "scheduler/base/units.h"
#include "scheduler/cost/measure.h"
#include "scheduler/link/link_job.h"
#include "scheduler/link/link_line.h"
#include "scheduler/link/link_options.h"
#include "scheduler/step.h"

namespace sluice {

// One layer of some of a copy's blocks.
struct LinkSlice {
  CopyId id;
  LinkDirection direction;
  int layer;
  // Valid until Moved(). Empty with LinkSchedulerOptions::coalesce: the slice is then a run of
  // slices, over as many layers as it takes.
  std::span<const Copy::Pair> blocks;
  bool first;  // of its copy
};

// What has newly arrived of one copy.
struct LinkArrival {
  CopyId id;
  LinkDirection direction;
  int layers;                        // complete so far
  bool started;                      // false: revoked before its first slice
  std::optional<CopyResult> result;  // set when the copy has ended; bytes: those of the whole copy
};

class LinkScheduler {
 public:
  // REQUIRES: options.Validate().ok().
  explicit LinkScheduler(const LinkSchedulerOptions& options);
  LinkScheduler(const LinkScheduler&) = delete;
  LinkScheduler& operator=(const LinkScheduler&) = delete;

  // REQUIRES: no copy under way has this id; at least one block.
  void Push(Copy copy, absl::Time now);
  // The copy's queued slices are dropped; a slice under way ends first. Its result is CANCELLED,
  // unless that slice completes it or fails. Ignores copies that have ended or never came.
  void Revoke(CopyId id, absl::Time now);

  // The next slice to move, or nothing if no free direction has anything it may move now. Several
  // free directions: the most urgent first, in turn among equals.
  std::optional<LinkSlice> Start(absl::Time now);
  // The slice's bytes are in place, or moving them failed, which ends the copy when the slice
  // arrives.
  void Moved(const LinkSlice& slice, const absl::Status& status, absl::Time now);
  // Takes what has arrived by `now`: layers and results, at most one entry per copy.
  std::vector<LinkArrival> Arrive(absl::Time now);

  // When to call Arrive() and Start() next: a moved slice arrives, a held-back one may start or a
  // revoked copy ends. InfiniteFuture if nothing is to be expected without another call.
  absl::Time next_event() const;
  // The same, but also when a layer arrives in the middle of a coalesced run. Arrive() at any time
  // takes the layers that have arrived by then.
  absl::Time next_layer_event() const;

  // Time to move everything queued or moving in `direction` at its full rate. 0 where unpaced.
  Seconds Backlog(LinkDirection direction, absl::Time now) const;
  // Copies that have not ended, in all directions.
  int64_t size() const { return static_cast<int64_t>(jobs_.size()); }

 private:
  using Line = LinkLine;

  Line& line(LinkDirection direction) { return lines_[static_cast<size_t>(direction)]; }
  const Line& line(LinkDirection direction) const { return lines_[static_cast<size_t>(direction)]; }
  Line* HostPeer(LinkDirection direction);

  bool HoldsBack(const Line& line, absl::Time now) const;
  LinkJob* Head(const Line& line, absl::Time now) const;
  absl::Time NextMove(const Line& line) const;
  void Begin(Line& line, LinkJob& job, absl::Time now);
  LinkArrival Report(Line& line, LinkJob& job);
  void Finish(Line& line, absl::Time now, std::vector<LinkArrival>* arrivals);
  // Takes the copy out of its line for good.
  LinkArrival End(Line& line, LinkJob& job, absl::Time now);

  const LinkSchedulerOptions options_;
  std::array<Line, kLinkDirectionCount> lines_;
  absl::flat_hash_map<CopyId, std::unique_ptr<LinkJob>> jobs_;
  std::vector<LinkArrival> revoked_;                // ended without a slice; for the next Arrive()
  absl::Time revoked_at_ = absl::InfiniteFuture();  // the first of them
  int64_t demand_loads_ = 0;                        // host to device, not ended
  absl::Time bucket_full_ = absl::InfinitePast();   // when the token bucket holds a slice again
  bool bucket_drawn_ = false;                       // by the slice under way
  int64_t pushed_ = 0;                              // copies ever
  size_t turn_ = 0;                                 // direction that goes first among equals
};

}  // namespace sluice
