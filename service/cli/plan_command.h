// `sluice plan`: whether KV offloading pays for a model, a machine and a workload, and what would
// change it. Answers from the cost model alone; no server, no device.
#pragma once

#include <string>

#include "service/cli/command.h"
#include "service/cli/plan_options.h"
#include "service/cli/plan_result.h"

namespace sluice {

// Thread-compatible.
class PlanCommand : public Command {
 public:
  const char* name() const override { return "plan"; }
  const char* summary() const override {
    return "tell whether KV offloading pays for a model, hardware and workload";
  }
  void DefineFlags(FlagSet& flags) override { options_.Define(flags); }
  absl::Status Validate() const override { return options_.Validate(); }
  int Run(const FlagSet& flags, const CliIo& io) override;

  const PlanOptions& options() const { return options_; }

 private:
  absl::Status Answer(const FlagSet& flags, const CliIo& io) const;

  PlanOptions options_;
};

// All the work but the showing. Returns the errors of BaseScenario(), WhatIfScenarios() and
// LoadPlanRequests().
absl::StatusOr<PlanResult> MakePlan(const PlanOptions& options, const Catalogue& catalogue);

}  // namespace sluice
