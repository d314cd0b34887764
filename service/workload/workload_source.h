// A workload by what a person types: the name of a synthetic one, or the path of a trace.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "service/workload/synthetic.h"
#include "service/workload/trace_reader.h"
#include "service/workload/trace_request.h"

namespace sluice {

struct WorkloadSource {
  // A name of SyntheticNames() makes requests by `synthetic` (its name is ignored); anything else
  // is the path of a trace and is read by `trace`.
  std::string name_or_path;
  SyntheticOptions synthetic;
  TraceOptions trace;
};

// The requests, at least one. Returns the errors of MakeSynthetic() and ReadTrace(); what is
// neither a name nor a file is NOT_FOUND and lists the names; INVALID_ARGUMENT if no request is
// left.
absl::StatusOr<std::vector<TraceRequest>> LoadWorkload(const WorkloadSource& source);

}  // namespace sluice
