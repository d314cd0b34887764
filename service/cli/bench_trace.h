// The requests of `sluice bench --replay FILE` and `--workload NAME`: prompts that share what the
// trace says they share, as token ids, and the times at which they come.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "service/cli/bench_workload.h"
#include "service/config/flag_set.h"
#include "service/workload/trace_request.h"

namespace sluice {

// Which trace or workload, and how it is made to fit. Empty names: neither.
struct BenchTraceOptions {
  std::string replay;    // path of a trace
  std::string workload;  // a name of SyntheticNames()
  std::optional<double> rate_scale;
  std::optional<double> keep;
  std::optional<int64_t> scale;
  std::optional<Tokens> max_input;
  std::optional<int64_t> tenants;

  bool any() const { return !replay.empty() || !workload.empty(); }

  // Adds the flags, under a heading of their own.
  void Define(FlagSet& flags);
  // Returns INVALID_ARGUMENT for a name that is not known, and for a flag that needs --replay or
  // --workload without one.
  absl::Status Validate() const;
};

// Reads or makes at most `requests`. `rate` and `seed` are for --workload; without a rate its
// requests have no times. REQUIRES: options.any().
absl::StatusOr<std::vector<TraceRequest>> LoadBenchTrace(const BenchTraceOptions& options,
                                                         int64_t requests,
                                                         std::optional<double> rate, uint64_t seed);

class TraceWorkload : public RequestSource {
 public:
  // Prompts use the vocabulary of `info`, without its special tokens; sampling is that of
  // `options`. Outputs that the server's context has no room for are cut. Returns INVALID_ARGUMENT
  // if a prompt alone does not fit.
  static absl::StatusOr<TraceWorkload> Create(std::vector<TraceRequest> requests,
                                              const WorkloadOptions& options,
                                              const v1::ServerInfo& info);

  // REQUIRES: 0 <= index < size(). Thread-safe.
  v1::GenerateRequest Request(int64_t index) const override;

  int64_t size() const { return static_cast<int64_t>(requests_.size()); }
  // When the requests from `first` on come, since the first of them.
  std::vector<absl::Duration> Arrivals(int64_t first) const;

 private:
  TraceWorkload(std::vector<TraceRequest> requests, const WorkloadOptions& options,
                std::vector<uint32_t> vocabulary)
      : requests_(std::move(requests)), options_(options), vocabulary_(std::move(vocabulary)) {}

  std::vector<TraceRequest> requests_;
  WorkloadOptions options_;
  std::vector<uint32_t> vocabulary_;  // ids that prompts may hold
};

}  // namespace sluice
