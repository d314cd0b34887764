// WaitingQueue keeps the sequences that wait for admission in the policy's order, and the deadlines
// of those never admitted. All calls are O(log n). Engine thread only.
#pragma once

#include <cstdint>
#include <set>
#include <utility>

#include "absl/time/time.h"
#include "scheduler/policy/policy.h"
#include "scheduler/sequence.h"

namespace sluice {

class WaitingQueue {
 public:
  // Lends `policy`.
  explicit WaitingQueue(const Policy& policy) : order_(Before{&policy}) {}

  // Lends `sequence`, which must not change its place in the order before Remove().
  void Add(Sequence* sequence);
  void Remove(Sequence* sequence);

  bool empty() const { return order_.empty(); }
  int64_t size() const { return static_cast<int64_t>(order_.size()); }

  // REQUIRES: not empty.
  Sequence* front() const { return *order_.begin(); }

  // The sequence with the earliest deadline; nullptr if none has one.
  Sequence* earliest_deadline() const;

  auto begin() const { return order_.begin(); }
  auto end() const { return order_.end(); }

 private:
  struct Before {
    const Policy* policy;
    bool operator()(const Sequence* a, const Sequence* b) const {
      return policy->AdmitsBefore(a->waiting_view(), b->waiting_view());
    }
  };
  struct Sooner {
    bool operator()(const Sequence* a, const Sequence* b) const {
      return std::pair(a->spec.first_token_deadline, a->arrival) <
             std::pair(b->spec.first_token_deadline, b->arrival);
    }
  };
  static bool HasDeadline(const Sequence& sequence);

  std::set<Sequence*, Before> order_;
  std::set<Sequence*, Sooner> deadlines_;
};

}  // namespace sluice
