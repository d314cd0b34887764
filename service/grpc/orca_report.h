// What a load balancer is told about this server, as an ORCA load report.
//
// Pure.
#pragma once

#include <cstdint>

#include "service/engine/engine_loop.h"
#include "service/grpc/load_window.h"
#include "xds/data/orca/v3/orca_load_report.pb.h"

namespace sluice {

struct ServerLoad {
  EngineLoad engine;
  LoadRates rates;
  double requests_per_s = 0;  // Generate rpcs that ended
  double errors_per_s = 0;    // of these, those that failed through no fault of the client
  int64_t max_running = 0;    // 0: unknown
};

// Of the device pool, in [0, 1]: blocks that live requests or copies hold. What could be evicted at
// once counts as free.
double DeviceKvUsage(const ServerLoad& load);

// Of the resource that is busiest: KV room, places for running requests, link or device.
double BottleneckUtilization(const ServerLoad& load);

// application_utilization is the bottleneck's; the parts are named metrics.
xds::data::orca::v3::OrcaLoadReport MakeOrcaReport(const ServerLoad& load);

}  // namespace sluice
