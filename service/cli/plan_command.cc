#include "service/cli/plan_command.h"

#include "absl/strings/str_cat.h"
#include "scheduler/base/status_macros.h"
#include "service/cli/plan_json.h"
#include "service/cli/plan_report.h"
#include "service/cli/plan_text.h"
#include "service/profiles/paper_table.h"

namespace sluice {
namespace {

void Print(const CliIo& io, bool json, const nlohmann::json& object, const std::string& text) {
  if (json) {
    io.out << object.dump(2) << std::endl;
  } else {
    io.out << text << std::flush;
  }
}

}  // namespace

absl::StatusOr<PlanResult> MakePlan(const PlanOptions& options, const Catalogue& catalogue) {
  PlanResult result;
  SLUICE_ASSIGN_OR_RETURN(result.now.scenario, BaseScenario(options, catalogue));
  const ModelProfile& model = result.now.scenario.deployment.model;
  SLUICE_ASSIGN_OR_RETURN(std::vector<PlanScenario> scenarios,
                          WhatIfScenarios(result.now.scenario, options.what_if, catalogue));
  SLUICE_ASSIGN_OR_RETURN(result.requests,
                          LoadPlanRequests(options, Tokens(model.max_context), model.name));
  result.context_limit = options.max_input.value_or(Tokens(model.max_context));
  result.now.analysis = Analyze(result.now.scenario.deployment, result.requests.shapes);
  for (PlanScenario& scenario : scenarios) {
    PlanAnalysis analysis = Analyze(scenario.deployment, result.requests.shapes);
    result.what_ifs.push_back({std::move(scenario), std::move(analysis)});
  }
  return result;
}

absl::Status PlanCommand::Answer(const FlagSet& flags, const CliIo& io) const {
  SLUICE_ASSIGN_OR_RETURN(const Catalogue catalogue, Catalogue::Load(options_.profile_dirs));
  if (options_.list) {
    Print(io, options_.json, CatalogueJson(catalogue), CatalogueText(catalogue));
    return absl::OkStatus();
  }
  if (options_.paper_tables()) {
    SLUICE_ASSIGN_OR_RETURN(const std::vector<PaperRow> rows, PaperTable(catalogue));
    Print(io, options_.json, PaperJson(rows), PaperText(rows));
    return absl::OkStatus();
  }
  SLUICE_ASSIGN_OR_RETURN(const PlanResult result, MakePlan(options_, catalogue));
  if (!options_.report.empty()) {
    const std::string command = absl::StrCat("sluice plan ", flags.ToCommandLine());
    SLUICE_RETURN_IF_ERROR(WriteReport(options_.report, PlanReport(result, command)));
  }
  if (!options_.plots.empty()) SLUICE_RETURN_IF_ERROR(WritePlots(options_.plots, result));
  Print(io, options_.json, PlanJson(result), PlanText(result));
  if (!options_.report.empty()) io.err << "report: " << options_.report << std::endl;
  return absl::OkStatus();
}

int PlanCommand::Run(const FlagSet& flags, const CliIo& io) {
  const absl::Status status = Answer(flags, io);
  if (status.ok()) return kExitOk;
  io.err << "sluice: " << status.message() << std::endl;
  // What the user typed or wrote is wrong, except where the disk said no.
  return absl::IsUnavailable(status) ? kExitFailure : kExitUsage;
}

}  // namespace sluice
