#include "service/simulation/comparison.h"

#include <utility>

#include "service/simulation/summary_json.h"

namespace sluice {
namespace {

using Json = nlohmann::ordered_json;

Json LinkJson(const LinkCoefficients& link) {
  return {{"per_byte_s", link.per_byte.value()},
          {"per_run_s", link.per_run.value()},
          {"latency_s", link.latency.value()}};
}

Json MachineJson(const Comparison& comparison) {
  const SimOptions& machine = comparison.options.machine;
  const CostCoefficients& cost = machine.cost;
  Json json = Json::object();
  json["name"] = comparison.machine;
  json["block_tokens"] = machine.geometry.tokens_per_block.value();
  json["block_bytes"] = machine.geometry.bytes_per_block.value();
  json["device_blocks"] = machine.device_blocks.value();
  json["host_blocks"] = machine.host_blocks.value();
  json["disk_blocks"] = machine.disk_blocks.value();
  json["launch_s"] = cost.launch.value();
  json["floor_s"] = cost.floor.value();
  json["weight_read_s"] = cost.weight_read.value();
  json["per_token_s"] = cost.per_token.value();
  json["per_pair_s"] = cost.per_pair.value();
  json["per_context_token_s"] = cost.per_context_token.value();
  json["host_to_device"] = LinkJson(cost.links[0]);
  json["device_to_host"] = LinkJson(cost.links[1]);
  json["duplex_share"] = cost.duplex_share;
  json["noise"] = machine.noise;
  json["copy_failure_rate"] = machine.copy_failure_rate;
  json["step_failure_rate"] = machine.step_failure_rate;
  return json;
}

}  // namespace

void Comparison::Add(const Contender& contender, const SimulationOptions& used,
                     SimulationResult result) {
  WorkLimits limits;
  limits.step_tokens = used.scheduler.step_token_limit;
  limits.max_running = used.scheduler.max_running;
  Summary summary =
      Summarize(result, used.machine.cost, limits, used.scheduler.policy_options.tenant_weights);
  entries.push_back({contender, std::move(summary), std::move(result)});
}

Json ComparisonJson(const Comparison& comparison) {
  Json json = Json::object();
  json["simulation"] = "sluice simulate";
  json["version"] = comparison.version;
  json["command"] = comparison.command;
  json["seed"] = comparison.seed;
  json["workload"] = comparison.workload;
  json["rate_scale"] = comparison.rate_scale;
  json["machine"] = MachineJson(comparison);
  Json policies = Json::object();
  for (const Comparison::Entry& entry : comparison.entries) {
    policies[entry.contender.label] = SummaryJson(entry.summary, entry.result.scheduler);
  }
  json["policies"] = std::move(policies);
  return json;
}

}  // namespace sluice
