// What `serve --backend=sim` puts in the place of a checkpoint and its backend.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "backend/backend.h"
#include "backend/model/model_config.h"
#include "scheduler/cost/coefficients.h"
#include "service/cli/sim_machine_flags.h"

namespace sluice {

struct SimServing {
  // As far as a server looks at it: shape, context, vocabulary, end of sequence. Prompts are token
  // ids; answers mean nothing.
  ModelConfig model;
  int64_t parameters = 0;
  std::string fingerprint;  // names model and KV format
  CostCoefficients cost;    // for SchedulerOptions::cost
  std::unique_ptr<Backend> backend;
};

// A machine in real time. Answers of requests that do not ignore the end of sequence have
// `mean_output` tokens in the mean; 0: they go on to their limit.
// Returns the errors of ResolveSimMachine() and SimOptions::Validate().
absl::StatusOr<SimServing> MakeSimServing(const SimMachineFlags& flags, double mean_output,
                                          std::function<absl::Time()> clock);

}  // namespace sluice
