// sluice bench: load on a server, and what clients see of it.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "service/cli/bench_report.h"
#include "service/cli/bench_runner.h"
#include "service/cli/bench_trace.h"
#include "service/cli/bench_workload.h"
#include "service/cli/command.h"
#include "service/cli/interrupter.h"
#include "service/cli/request_flags.h"

namespace sluice {

struct BenchOptions {
  ConnectionFlags connection;
  std::optional<int64_t> concurrency;   // closed loop (default 16)
  std::optional<double> rate;           // open loop
  int64_t max_in_flight = 256;          // open loop
  std::optional<int64_t> num_requests;  // default 64 unless a duration is given
  std::optional<double> duration_s;
  int64_t warmup = 0;
  WorkloadOptions workload;
  BenchTraceOptions trace;  // instead of `workload`'s prompts
  std::string prompts_file;
  std::string json;  // path; "-" = stdout
  // "server", or "gpu": copies and kernels of the GPU backend, by the program gpu_bench.
  std::string suite = "server";

  BenchLoad Load() const;
  // Most requests of a trace or workload to read or make, warm-up included.
  int64_t TraceRequests() const;
};

class BenchCommand : public Command {
 public:
  const char* name() const override { return "bench"; }
  const char* summary() const override {
    return "Measure a server: throughput and latency, closed or open loop.";
  }
  void DefineFlags(FlagSet& flags) override;
  absl::Status Validate() const override;
  int Run(const FlagSet& flags, const CliIo& io) override;

  const BenchOptions& options() const { return options_; }

 private:
  absl::Status Measure(const FlagSet& flags, Interrupter& interrupter, const CliIo& io);
  // Puts what the requests say into `load` too: how many, and when.
  absl::StatusOr<std::unique_ptr<RequestSource>> MakeTraceSource(std::vector<TraceRequest> requests,
                                                                 const v1::ServerInfo& info,
                                                                 BenchLoad* load) const;
  struct Outcome {
    std::vector<BenchRecord> records;
    absl::Duration elapsed;
  };
  // Warm-up, then measurement.
  Outcome RunLoad(Client& client, const RequestSource& source, const BenchLoad& load,
                  Interrupter& interrupter, const CliIo& io) const;
  absl::Status Report(BenchSummary summary, const v1::ServerInfo& info, const FlagSet& flags,
                      const CliIo& io) const;

  BenchOptions options_;
};

// Becomes the program gpu_bench that lies beside `self`, which writes its results to `json` unless
// that is empty. Returns only if that fails: FAILED_PRECONDITION, with how to get the program.
absl::Status RunGpuSuite(const std::string& self, const std::string& json);

// The non-empty lines of `path`. Returns NOT_FOUND or INVALID_ARGUMENT naming it.
absl::StatusOr<std::vector<std::string>> ReadPromptLines(const std::string& path);

}  // namespace sluice
