#include "service/workload/workload_source.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "scheduler/base/status_macros.h"

namespace sluice {

absl::StatusOr<std::vector<TraceRequest>> LoadWorkload(const WorkloadSource& source) {
  if (IsSyntheticName(source.name_or_path)) {
    SyntheticOptions options = source.synthetic;
    options.name = source.name_or_path;
    return MakeSynthetic(options);
  }
  absl::StatusOr<Trace> trace = ReadTrace(source.name_or_path, source.trace);
  if (absl::IsNotFound(trace.status())) {
    return absl::NotFoundError(absl::StrCat(trace.status().message(), "; or name one of ",
                                            absl::StrJoin(SyntheticNames(), ", ")));
  }
  SLUICE_RETURN_IF_ERROR(trace.status());
  if (trace->requests.empty()) {
    return absl::InvalidArgumentError(absl::StrCat(
        source.name_or_path, ": no request is left (", trace->left_out_too_long,
        " longer than max input, ", trace->left_out_trees, " not in the kept share of trees); ",
        "raise max input or scale, or keep more"));
  }
  return std::move(trace->requests);
}

}  // namespace sluice
