// What `sluice bench` says: a summary of the records, as tables and as JSON.
#pragma once

#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "service/cli/bench_runner.h"
#include "service/report/percentiles.h"

namespace sluice {

struct BenchSummary {
  int64_t ok = 0;
  std::map<std::string, int64_t> failed;  // by code name
  std::map<std::string, int64_t> plans;   // finished requests by plan
  absl::Duration elapsed;

  // Milliseconds; of requests that ended well.
  Samples ttft_ms, itl_ms, tpot_ms, e2e_ms;
  double max_late_ms = 0;  // open loop: the client's own delay

  // Sums over requests that ended well.
  int64_t prompt_tokens = 0;
  int64_t output_tokens = 0;
  int64_t cached_device_tokens = 0;
  int64_t cached_host_tokens = 0;
  int64_t cached_other_tokens = 0;  // disk and remote
  int64_t computed_tokens = 0;
  int64_t recomputed_tokens = 0;
  uint64_t loaded_bytes = 0;
  int64_t preemptions = 0;
  double load_exposed_s = 0;
  double load_overlapped_s = 0;
  bool link_emulated = false;

  int64_t failures() const;
  double PerSecond(double count) const;  // count / elapsed
};

BenchSummary Summarize(const std::vector<BenchRecord>& records, absl::Duration elapsed);

// Tables for the terminal. `link_bytes_per_second` labels link times when they are emulated.
std::string RenderSummary(BenchSummary& summary, double link_bytes_per_second);

// Results only; the caller adds command, machine, seed and date.
nlohmann::json SummaryJson(BenchSummary& summary);

// " (link emulated at 0.05 GB/s)" if it is, else nothing. Goes beside every link figure.
std::string LinkLabel(bool emulated, double bytes_per_second);

}  // namespace sluice
