// TraceRing: the latest events, a bounded number of them. Older ones are overwritten.
//
// Thread-safe; every call holds a lock for as long as it takes to copy what it hands over, at most
// kBatch events.
#pragma once

#include <cstddef>
#include <cstdint>
#include <mutex>
#include <vector>

#include "service/trace/trace_event.h"

namespace sluice {

class TraceRing {
 public:
  static constexpr size_t kBatch = 1024;

  // REQUIRES: capacity > 0.
  explicit TraceRing(size_t capacity) : capacity_(capacity) {}

  void Append(const TraceEvent& event);

  // Events are numbered from 0 in the order they came.
  uint64_t begin() const;  // the oldest that is still there
  uint64_t end() const;    // one past the latest

  // Appends events from number `from` on to `events`, at most kBatch, and returns the number of the
  // next one to ask for. Those that are gone are skipped: the answer is then more than
  // from + (what was appended).
  uint64_t Read(uint64_t from, std::vector<TraceEvent>* events) const;

 private:
  uint64_t BeginLocked() const { return next_ < capacity_ ? 0 : next_ - capacity_; }

  const size_t capacity_;
  mutable std::mutex mu_;
  std::vector<TraceEvent> ring_;  // guarded by mu_; number n is at n % capacity_
  uint64_t next_ = 0;             // guarded by mu_
};

}  // namespace sluice
