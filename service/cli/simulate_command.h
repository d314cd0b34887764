// sluice simulate: a workload on a machine that is not there, under one policy after the other.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "service/cli/command.h"
#include "service/cli/interrupter.h"
#include "service/cli/sim_machine_flags.h"
#include "service/cli/simulate_report.h"
#include "service/simulation/contender.h"
#include "service/simulation/simulation.h"
#include "service/workload/workload_source.h"

namespace sluice {

struct SimulateOptions {
  SimMachineFlags machine;

  std::string trace;
  std::string workload;
  std::optional<int64_t> requests;  // default 1,000 for a workload, all for a trace
  std::optional<double> rate;
  double rate_scale = 1;
  std::optional<double> utilization;
  std::optional<int64_t> max_input;
  double keep = 1;
  int64_t scale = 1;
  int64_t tenants = 1;
  double tenant_skew = 0;
  bool exact_outputs = false;  // see TraceRequest::stated
  uint64_t seed = 1;

  std::string policy = "slack";
  int64_t max_num_seqs = 256;
  Tokens max_num_batched_tokens{8192};
  double tpot_target_s = 0.1;
  int64_t max_queue = 1 << 20;
  double patience_s = 30;
  double lookahead_s = 0.25;

  double noise = 0;
  double copy_failure_rate = 0;
  double step_failure_rate = 0;

  std::string json;    // path; "-" = stdout
  std::string report;  // path
};

class SimulateCommand : public Command {
 public:
  const char* name() const override { return "simulate"; }
  const char* summary() const override {
    return "Compare scheduling policies on a trace or workload, on a simulated machine.";
  }
  void DefineFlags(FlagSet& flags) override;
  absl::Status Validate() const override;
  int Run(const FlagSet& flags, const CliIo& io) override;

  const SimulateOptions& options() const { return options_; }

 private:
  absl::Status Compare(const FlagSet& flags, Interrupter& interrupter, const CliIo& io);
  absl::StatusOr<std::vector<TraceRequest>> LoadRequests(const SimulationOptions& simulation,
                                                         Comparison* comparison,
                                                         Interrupter& interrupter,
                                                         const CliIo& io) const;
  SimulationOptions MakeSimulation(const SimMachineSetup& setup) const;

  SimulateOptions options_;
};

}  // namespace sluice
