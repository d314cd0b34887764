// TraceText writes spans as Chrome trace JSON, which ui.perfetto.dev and chrome://tracing open.
//
//   Header() + Event() ... + Footer()
//
// Lanes: process 1 is the device (one lane: its steps), process 2 the links (a lane per direction
// and class; copies that overlap in time get further lanes, because spans of one lane must nest),
// process 3 the requests (a lane each). A lane is named when it is first used.
//
// Thread-compatible.
#pragma once

#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/time/time.h"
#include "service/trace/trace_event.h"

namespace sluice {

class TraceText {
 public:
  // Times are shown relative to `origin`; `device` says what computes, `storage` what is behind the
  // host (BackendInfo::storage_place).
  TraceText(absl::Time origin, std::string device, std::string storage = "disk")
      : origin_(origin), device_(std::move(device)), storage_(std::move(storage)) {}

  std::string Header();
  // Appends one event, with its lane's name before it if it is new.
  void Append(const TraceEvent& event, std::string* out);
  // Appends a mark that `count` events are missing here.
  void AppendGap(uint64_t count, absl::Time at, std::string* out);
  std::string Footer() const;

 private:
  struct Lane {
    int process;
    int64_t thread;
  };

  void AppendSpan(const Lane& lane, const std::string& name, const char* category,
                  const TraceEvent& event, const std::string& arguments, std::string* out);
  void AppendStep(const StepSpan& span, const TraceEvent& event, std::string* out);
  void AppendCopy(const CopySpan& span, const TraceEvent& event, std::string* out);
  void AppendPhase(const PhaseSpan& span, const TraceEvent& event, std::string* out);
  void AppendRequest(const RequestSpan& span, const TraceEvent& event, std::string* out);
  // The first lane of this direction and class that is free at `event.start`.
  Lane CopyLane(const CopySpan& span, const TraceEvent& event, std::string* out);
  Lane RequestLane(int64_t request, std::string* out);
  // "disk to host".
  std::string DirectionName(LinkDirection direction) const;
  void NameLane(const Lane& lane, const std::string& name, std::string* out);
  void BeginEvent(std::string* out);
  double Microseconds(absl::Time time) const;

  const absl::Time origin_;
  const std::string device_;
  const std::string storage_;
  bool any_ = false;
  std::set<std::pair<int, int64_t>> named_;
  std::map<int, std::vector<absl::Time>> copy_lanes_;  // by direction and class: ends of each lane
};

}  // namespace sluice
