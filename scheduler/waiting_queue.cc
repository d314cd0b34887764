#include "scheduler/waiting_queue.h"

#include "scheduler/base/check.h"

namespace sluice {

bool WaitingQueue::HasDeadline(const Sequence& sequence) {
  return !sequence.resumed && sequence.spec.first_token_deadline != absl::InfiniteFuture();
}

void WaitingQueue::Add(Sequence* sequence) {
  SLUICE_CHECK(order_.insert(sequence).second);
  if (HasDeadline(*sequence)) deadlines_.insert(sequence);
}

void WaitingQueue::Remove(Sequence* sequence) {
  SLUICE_CHECK(order_.erase(sequence) == 1);
  if (HasDeadline(*sequence)) deadlines_.erase(sequence);
}

Sequence* WaitingQueue::earliest_deadline() const {
  return deadlines_.empty() ? nullptr : *deadlines_.begin();
}

}  // namespace sluice
