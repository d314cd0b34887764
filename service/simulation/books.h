// Books: an EventSink that writes down what happens to every request of a simulation.
//
// Thread-compatible.
#pragma once

#include <cstdint>
#include <vector>

#include "backend/sim/sim_clock.h"
#include "scheduler/scheduler.h"
#include "service/engine/event_sink.h"
#include "service/simulation/distribution.h"
#include "service/simulation/request_record.h"

namespace sluice {

class Books final : public EventSink {
 public:
  // Request ids are indices into `requests` records. `clock` must outlive it.
  Books(const SimClock& clock, size_t requests);

  bool Push(Event event) override;
  Tokens capacity() const override;

  // Now, in seconds since the start of the workload.
  double Now() const;

  RequestRecord& record(size_t index) { return records_[index]; }
  const std::vector<RequestRecord>& records() const { return records_; }
  int64_t ended() const { return ended_; }
  // Gaps between the tokens of a request, in seconds.
  const LogHistogram& gaps() const { return gaps_; }

 private:
  void Finish(const Event::Finish& finish, RequestRecord* record);

  const SimClock& clock_;
  const absl::Time start_;
  std::vector<RequestRecord> records_;
  LogHistogram gaps_;
  int64_t ended_ = 0;
};

}  // namespace sluice
