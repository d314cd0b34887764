#include "service/trace/trace_ring.h"

#include <algorithm>

namespace sluice {

void TraceRing::Append(const TraceEvent& event) {
  std::lock_guard<std::mutex> lock(mu_);
  if (ring_.size() < capacity_) {
    ring_.push_back(event);  // grows with use: an idle server holds none
  } else {
    ring_[next_ % capacity_] = event;
  }
  ++next_;
}

uint64_t TraceRing::begin() const {
  std::lock_guard<std::mutex> lock(mu_);
  return BeginLocked();
}

uint64_t TraceRing::end() const {
  std::lock_guard<std::mutex> lock(mu_);
  return next_;
}

uint64_t TraceRing::Read(uint64_t from, std::vector<TraceEvent>* events) const {
  std::lock_guard<std::mutex> lock(mu_);
  const uint64_t first = std::max(from, BeginLocked());
  const uint64_t last = std::min<uint64_t>(next_, first + kBatch);
  for (uint64_t n = first; n < last; ++n) events->push_back(ring_[n % capacity_]);
  return std::max(first, last);
}

}  // namespace sluice
