// LinkWorld: a random schedule of copies, revocations and failures on a LinkScheduler in virtual
// time, checked call by call against the rules of link_scheduler.h written down a second time, the
// slow way:
//   - every slice is of the copy that a scan over all copies would choose;
//   - layers arrive in order, every copy ends once, with the right status;
//   - a copy that is overdue has ended by the stated bound;
//   - a control copy without other control copies begins within one slice;
//   - nothing stays behind: with nothing to expect, nothing is queued;
//   - on undisturbed worlds every line is busy until exactly the time its bytes need.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "absl/time/time.h"
#include "scheduler/link/link_scheduler.h"

namespace sluice::testing {

struct LinkWorldOptions {
  LinkSchedulerOptions link;
  int copies = 40;
  absl::Duration gap;        // mean time between actions
  double revoke_share = 0;   // of actions
  int fails_every = 0;       // every n-th copy fails at its first slice; 0: none
  bool undisturbed = false;  // nothing is revoked, fails, slows down or is held back
};

LinkWorldOptions RandomLinkWorldOptions(uint64_t seed);

class LinkWorld {
 public:
  LinkWorld(const LinkWorldOptions& options, uint64_t seed);

  // Returns what went wrong first, or "".
  std::string Run();

  struct End {
    double at;  // seconds since the start
    absl::StatusCode code;
    int layers;
  };
  const std::map<int64_t, End>& ends() const { return ends_; }
  const std::map<std::pair<int64_t, int>, double>& layer_times() const { return layer_times_; }
  const std::string& trace() const { return trace_; }  // every slice and end, bit for bit
  int64_t served_overdue() const { return served_overdue_; }
  int64_t slices() const { return slices_; }

 private:
  struct Live {
    Copy copy;
    absl::Time pushed;
    absl::Time overdue;
    int layers = 0;
    bool started = false;
    bool revoked = false;
    bool bounded = false;  // it is overdue, and must have ended by `bound`
    absl::Time bound;
  };

  void Push();
  void RevokeOne();
  void AdvanceTo(absl::Time until);
  void Turn();
  void OnSlice(const LinkSlice& slice);
  void OnArrival(const LinkArrival& arrival);
  void OnEnd(const Live& live, const LinkArrival& arrival);
  void SetBounds();
  absl::Time NextOverdue() const;
  bool GoesBefore(const Live& a, const Live& b) const;
  int64_t Expected(LinkDirection direction) const;
  double Work(const Copy& copy) const;
  double LongestSlice(LinkDirection direction) const;
  bool Paced(LinkDirection direction) const;
  bool Fails(int64_t id) const;
  void Complain(const std::string& text);

  const LinkWorldOptions options_;
  std::mt19937_64 random_;
  LinkScheduler link_;
  absl::Time now_ = absl::UnixEpoch();
  int64_t pushed_ = 0;
  std::map<int64_t, Live> live_;  // by id, which is the order of arrival
  std::map<int64_t, End> ends_;
  std::map<std::pair<int64_t, int>, double> layer_times_;
  std::array<absl::Time, kLinkDirectionCount> busy_until_{};
  int64_t served_overdue_ = 0;
  int64_t slices_ = 0;
  std::string trace_;
  std::string error_;
};

}  // namespace sluice::testing
