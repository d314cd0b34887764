// WaitingRoom keeps the sequences that wait for admission in order of arrival, beside what a policy
// may see of them, and the deadlines of those never admitted. Engine thread only.
#pragma once

#include <cstdint>
#include <set>
#include <span>
#include <utility>
#include <vector>

#include "absl/time/time.h"
#include "scheduler/policy/policy.h"
#include "scheduler/sequence.h"

namespace sluice {

class WaitingRoom {
 public:
  // Lends `sequence`. O(1) for the latest arrival, else O(n). REQUIRES: not in the room.
  void Add(Sequence* sequence, const WaitingView& view);
  // O(n). REQUIRES: in the room.
  void Remove(Sequence* sequence);

  bool empty() const { return sequences_.empty(); }
  size_t size() const { return sequences_.size(); }

  // In order of arrival; good until the next Add or Remove.
  std::span<const WaitingView> views() const { return views_; }
  WaitingView& view(size_t index) { return views_[index]; }
  Sequence* at(size_t index) const { return sequences_[index]; }
  // O(log n). REQUIRES: in the room.
  size_t IndexOf(const Sequence* sequence) const { return LowerBound(sequence->arrival); }
  std::span<Sequence* const> sequences() const { return sequences_; }

  // The sequence with the earliest deadline; nullptr if none has one.
  Sequence* earliest_deadline() const;

 private:
  struct Sooner {
    bool operator()(const Sequence* a, const Sequence* b) const {
      return std::pair(a->spec.first_token_deadline, a->arrival) <
             std::pair(b->spec.first_token_deadline, b->arrival);
    }
  };
  static bool HasDeadline(const Sequence& sequence);
  size_t LowerBound(int64_t arrival) const;

  std::vector<Sequence*> sequences_;
  std::vector<WaitingView> views_;  // parallel to sequences_
  std::set<Sequence*, Sooner> deadlines_;
};

}  // namespace sluice
