#include "scheduler/waiting_room.h"

#include <algorithm>

#include "scheduler/base/check.h"

namespace sluice {

bool WaitingRoom::HasDeadline(const Sequence& sequence) {
  return !sequence.resumed && sequence.spec.first_token_deadline != absl::InfiniteFuture();
}

size_t WaitingRoom::LowerBound(int64_t arrival) const {
  const auto at = std::lower_bound(
      sequences_.begin(), sequences_.end(), arrival,
      [](const Sequence* sequence, int64_t value) { return sequence->arrival < value; });
  return static_cast<size_t>(at - sequences_.begin());
}

void WaitingRoom::Add(Sequence* sequence, const WaitingView& view) {
  const auto at = static_cast<std::ptrdiff_t>(LowerBound(sequence->arrival));
  sequences_.insert(sequences_.begin() + at, sequence);
  views_.insert(views_.begin() + at, view);
  if (HasDeadline(*sequence)) deadlines_.insert(sequence);
}

void WaitingRoom::Remove(Sequence* sequence) {
  const size_t index = LowerBound(sequence->arrival);
  SLUICE_CHECK(index < sequences_.size() && sequences_[index] == sequence);
  sequences_.erase(sequences_.begin() + static_cast<std::ptrdiff_t>(index));
  views_.erase(views_.begin() + static_cast<std::ptrdiff_t>(index));
  if (HasDeadline(*sequence)) deadlines_.erase(sequence);
}

Sequence* WaitingRoom::earliest_deadline() const {
  return deadlines_.empty() ? nullptr : *deadlines_.begin();
}

}  // namespace sluice
