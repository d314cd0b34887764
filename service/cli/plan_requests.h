// The requests that `sluice plan` asks about: one, or a workload seen through a prefix cache.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "scheduler/cost/cost_model.h"
#include "service/cli/plan_options.h"

namespace sluice {

struct PlanRequests {
  std::string name;  // "one request: 65,536 cached + 64 new tokens", "agentic: 1,000 requests …"
  bool single = false;
  std::vector<RequestShape> shapes;  // at least one
  int64_t total = 0;                 // of the workload; `shapes` may be every n-th of them
};

// Most shapes priced; of larger workloads every n-th is taken.
inline constexpr size_t kMostShapes = 2000;

// Reads or makes the requests. Prompts longer than --max-input, or else than `max_context`, are
// left out; a single request that is longer is INVALID_ARGUMENT. Returns the errors of
// LoadWorkload() otherwise.
//
// Without a request or a workload it is kDefaultPlanWorkload, or, where the model's context is too
// short for that, one request that fills most of the context.
//
// `cached` is what an unlimited prefix cache would hold of earlier prompts: all of it counts as
// off the device.
absl::StatusOr<PlanRequests> LoadPlanRequests(const PlanOptions& options, Tokens max_context,
                                              const std::string& model_name);

// A request in the middle of the others: medians of the requests that have something cached, of all
// if none has.
RequestShape TypicalRequest(const std::vector<RequestShape>& shapes);

// "65,536".
std::string WithCommas(int64_t n);

}  // namespace sluice
