// The plots of a plan report, as values for service/report.
#pragma once

#include "service/cli/plan_result.h"
#include "service/report/chart.h"

namespace sluice {

// Which plan wins where on the κ - new tokens plane; κ_crit and the requests on top.
RegionMap RegionsChart(const PlanResult& result);

// FLOP/s a step reaches against FLOP per byte of KV moved over the link: the κ_M - κ_HW picture.
// Left of the ridge the link limits, right of it the device.
LineChart RooflineChart(const PlanResult& result);

// TTFT of each plan against the link's rate, for the typical request.
LineChart BandwidthChart(const PlanResult& result);

// Where the time goes in each plan: computing, and waiting for the link.
BarChart TimeSplitChart(const PlanResult& result);

// Distribution of κ over the requests, with κ_crit.
LineChart KappaChart(const PlanResult& result);

// Load against compute time of the requests; below the diagonal the link is slower.
LineChart SlackChart(const PlanResult& result);

// TTFT as it is and with each what-if.
BarChart WhatIfChart(const PlanResult& result);

}  // namespace sluice
