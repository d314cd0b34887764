// LinkLine: one direction of one link: its queue, and the slice (or run of slices) under way on it.
//
// Time on a line is work: the seconds something takes at the full rate. A line that runs at half
// speed does half a second of work in a second.
//
// Thread-compatible.
#pragma once

#include <cstdint>

#include "absl/time/time.h"
#include "scheduler/link/link_job.h"
#include "scheduler/link/link_options.h"
#include "scheduler/link/link_queue.h"

namespace sluice {

class LinkLine {
 public:
  LinkQueue& queue() { return queue_; }
  const LinkQueue& queue() const { return queue_; }
  const LineOptions& options() const { return options_; }
  bool paced() const { return options_.rate > ByteRate(0); }

  void Configure(LinkDirection direction, const LineOptions& options);
  LinkDirection direction() const { return direction_; }

  // --- What is queued ---
  void Push(LinkJob* job);
  // REQUIRES: not under way.
  void Erase(LinkJob* job);
  // Seconds of work of all jobs, what is under way included as far as it has not arrived.
  double Backlog(absl::Time now) const;

  // --- What is under way ---
  LinkJob* moving() const { return moving_; }
  bool moved() const { return moved_; }
  absl::Time begun() const { return begun_; }
  absl::Time arrives() const { return arrives_; }
  // Whether something is on the line at `when`, which lies in the future of what Finish() has seen.
  bool BusyAt(absl::Time when) const { return moving_ != nullptr && (!moved_ || arrives_ > when); }
  double work() const;  // of what is under way, in all

  // Nothing may move before `when`: a line that stands idle earns no credit.
  void StandIdle(absl::Time when) { ready_ = when; }
  // Moves a run of slices of `job` from now on, or from when a late caller should have begun: up to
  // the end of the slice under way at `until`, when something else may come first. InfinitePast:
  // one slice.
  void Begin(LinkJob& job, absl::Time until, absl::Time now);
  void SetSpeed(double speed, absl::Time when);  // work per second, in (0, 1]; 1 after Begin()
  // Ends a run with the slice under way at `when`.
  void Cut(absl::Time when);
  // Ends a run with its first slice.
  void CutToOneSlice();
  void SetMoved(absl::Time now);
  // Of the job under way, complete at `now`. Only exact for whole runs.
  int LayersBy(absl::Time now) const;
  // When the next layer that LayersBy() would tell arrives; InfiniteFuture if not within the run.
  absl::Time NextLayer() const;
  // What is under way has arrived.
  void Finish();

 private:
  absl::Time TimeAt(int64_t unit) const;
  int64_t RunEnd(absl::Time until) const;
  void SetEnd(int64_t end);
  double WorkAt(int64_t unit) const;

  LinkDirection direction_ = LinkDirection::kHostToDevice;
  LineOptions options_;
  LinkQueue queue_;
  double backlog_ = 0;  // seconds of work of all that has not arrived

  LinkJob* moving_ = nullptr;
  bool moved_ = false;  // its bytes are in place
  int64_t begin_ = 0;   // units
  int64_t end_ = 0;
  absl::Time begun_;
  absl::Time until_;  // see Begin()
  double done_ = 0;   // work by `since_`
  absl::Time since_;  // last change of speed
  double speed_ = 1;  // work per second
  absl::Time arrives_;

  absl::Time free_from_ = absl::InfinitePast();  // end of what was under way before
  absl::Time ready_ = absl::InfiniteFuture();    // see StandIdle()
};

}  // namespace sluice
