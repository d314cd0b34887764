// A small machine and workloads for it.
#pragma once

#include <random>
#include <vector>

#include "service/simulation/simulation.h"
#include "service/workload/trace_request.h"

namespace sluice::testing {

// 16-token blocks of 16 KB; 8 MB/s between 60 device and 400 host blocks. Steps: 1 ms + 2 ms of
// weights or 20 µs per token.
inline SimulationOptions SmallSimulation() {
  SimulationOptions options;
  CostCoefficients cost;
  cost.launch = Seconds(1e-3);
  cost.floor = Seconds(0);
  cost.duplex_share = 1;
  cost.weight_read = Seconds(2e-3);
  cost.per_token = Seconds(20e-6);
  cost.per_pair = Seconds(10e-9);
  cost.per_context_token = Seconds(100e-9);
  cost.layers = 4;
  for (LinkCoefficients& link : cost.links)
    link = {Seconds(1 / 8e6), Seconds(1e-6), Seconds(20e-6)};
  cost.kv_bytes_per_token = Bytes(1024);
  cost.idle_power = Watts(100);
  cost.compute_power = Watts(500);
  cost.transfer_power = Watts(50);

  SchedulerOptions& scheduler = options.scheduler;
  scheduler.max_model_len = Tokens(900);
  scheduler.queue_limit = 10000;
  scheduler.policy = "fcfs";
  scheduler.step_token_limit = Tokens(256);
  scheduler.max_running = 16;
  scheduler.cost = cost;
  scheduler.geometry = {Tokens(16), Bytes(16 * 1024)};
  scheduler.device_blocks = Blocks(60);
  scheduler.host_blocks = Blocks(400);
  SimOptions& machine = options.machine;
  machine.cost = cost;
  machine.geometry = scheduler.geometry;
  machine.device_blocks = scheduler.device_blocks;
  machine.host_blocks = scheduler.host_blocks;
  return options;
}

// Questions on a few documents, some prompts that share nothing.
inline std::vector<TraceRequest> SmallWorkload(uint64_t seed, int count, double mean_gap_ms,
                                               int tenants = 1) {
  std::mt19937_64 rng(seed);
  std::vector<TraceRequest> requests;
  double at = 0;
  for (int i = 0; i < count; ++i) {
    at += mean_gap_ms * 2 * static_cast<double>(rng() % 1000) / 1000;
    TraceRequest request;
    request.arrival = absl::Microseconds(static_cast<int64_t>(at * 1000));
    request.tenant = i % tenants;
    const uint64_t document = rng() % 6;
    if (document != 0)
      request.prompt.Append(document, Tokens(100 + 60 * static_cast<int64_t>(document)));
    request.prompt.Append(1000 + static_cast<uint64_t>(i),
                          Tokens(1 + static_cast<int64_t>(rng() % 60)));
    request.output = Tokens(1 + static_cast<int64_t>(rng() % 40));
    requests.push_back(request);
  }
  return requests;
}

}  // namespace sluice::testing
