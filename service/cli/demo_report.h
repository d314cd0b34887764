// What `sluice demo` shows: a row per request, totals, and one answer in full.
#pragma once

#include <string>
#include <vector>

#include "service/cli/client_call.h"
#include "service/cli/demo_workload.h"
#include "service/cli/metrics_client.h"
#include "sluice/v1/control.pb.h"

namespace sluice {

// One row per request, in the order they were sent. `results[i]` belongs to `plan.requests[i]`.
std::string RenderRequests(const DemoPlan& plan, const std::vector<CallResult>& results);

// Tokens by source, bytes per direction, and how the server's time was spent, from its metrics.
std::string RenderTotals(const std::vector<CallResult>& results, const MetricValues& metrics,
                         const v1::ServerInfo& info);

// The last answer that ended well, with its question.
std::string RenderAnswer(const DemoPlan& plan, const std::vector<CallResult>& results);

}  // namespace sluice
