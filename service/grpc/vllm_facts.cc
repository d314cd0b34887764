#include "service/grpc/vllm_facts.h"

#include <algorithm>
#include <limits>
#include <optional>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"

namespace sluice {
namespace {

// Gateways know engines that speak this service by this name.
constexpr char kServerType[] = "vllm-grpc";

int32_t Clamp32(int64_t value) {
  return static_cast<int32_t>(std::clamp<int64_t>(value, 0, std::numeric_limits<int32_t>::max()));
}

double CacheHitRate(const SchedulerStats& stats) {
  Tokens cached;
  for (const Tokens tier : stats.prompt_tokens_cached) cached += tier;
  const Tokens all = cached + stats.prompt_tokens_computed;
  if (all <= Tokens(0)) return 0;
  return static_cast<double>(cached.value()) / static_cast<double>(all.value());
}

}  // namespace

std::string SamplingDefaultsJson(const SamplingDefaults& defaults) {
  std::vector<std::string> fields;
  const auto add = [&fields](const char* name, const auto& value) {
    if (value.has_value()) {
      fields.push_back(absl::StrFormat("\"%s\":%.9g", name, static_cast<double>(*value)));
    }
  };
  // The shortest text that gives the same float.
  const auto add_float = [&fields](const char* name, const std::optional<float>& value) {
    if (value.has_value()) fields.push_back(absl::StrCat("\"", name, "\":", *value));
  };
  add_float("temperature", defaults.temperature);
  add_float("top_p", defaults.top_p);
  add("top_k", defaults.top_k);
  add_float("min_p", defaults.min_p);
  add_float("repetition_penalty", defaults.repetition_penalty);
  if (fields.empty()) return "";
  return absl::StrCat("{", absl::StrJoin(fields, ","), "}");
}

vllm::grpc::engine::GetModelInfoResponse MakeVllmModelInfo(const ServiceContext& context) {
  const v1::ServerInfo& info = context.info;
  vllm::grpc::engine::GetModelInfoResponse out;
  out.set_model_path(info.model_path());
  out.set_is_generation(true);
  out.set_max_context_length(info.max_model_len());
  out.set_vocab_size(info.vocab_size());
  out.set_served_model_name(info.model());
  if (context.tokenizer.has_text()) out.set_tokenizer_path(info.model_path());
  out.set_model_type(context.model_type);
  if (!info.architecture().empty()) out.add_architectures(info.architecture());
  for (const uint32_t id : info.eos_token_ids()) {
    out.add_eos_token_ids(static_cast<int32_t>(id));
  }
  if (info.has_bos_token_id()) out.set_bos_token_id(static_cast<int32_t>(info.bos_token_id()));
  // One token at least is for the output.
  out.set_max_req_input_len(Clamp32(int64_t{info.max_model_len()} - 1));
  out.set_default_sampling_params_json(SamplingDefaultsJson(context.sampling_defaults));
  return out;
}

vllm::grpc::engine::GetServerInfoResponse MakeVllmServerInfo(const SchedulerStats& stats,
                                                             absl::Duration uptime,
                                                             absl::Time now) {
  vllm::grpc::engine::GetServerInfoResponse out;
  out.set_active_requests(static_cast<uint32_t>(Clamp32(stats.waiting + stats.running)));
  out.set_last_receive_timestamp(absl::ToDoubleSeconds(now - absl::UnixEpoch()));
  out.set_uptime_seconds(absl::ToDoubleSeconds(uptime));
  out.set_server_type(kServerType);
  out.set_data_parallel_size(1);
  return out;
}

vllm::grpc::engine::GetLoadsResponse MakeVllmLoads(
    const vllm::grpc::engine::GetLoadsRequest& request, const ServerLoad& load,
    const v1::ServerInfo& info, absl::Time now) {
  const SchedulerStats& stats = load.engine.scheduler;
  const int64_t width = info.block_size();
  vllm::grpc::engine::GetLoadsResponse out;
  out.set_timestamp(absl::FormatTime(absl::RFC3339_full, now, absl::UTCTimeZone()));
  out.set_version(info.version());
  out.set_dp_rank_count(1);
  if (request.dp_rank() != 0) return out;
  vllm::grpc::engine::SchedulerLoad* rank = out.add_loads();
  rank->set_num_running_reqs(Clamp32(stats.running));
  rank->set_num_waiting_reqs(Clamp32(stats.waiting));
  rank->set_num_total_reqs(Clamp32(stats.running + stats.waiting));
  const Blocks used = stats.device.referenced + stats.device.in_transit;
  rank->set_num_used_tokens(Clamp32(used.value() * width));
  rank->set_max_total_num_tokens(Clamp32(stats.device.capacity.value() * width));
  rank->set_token_usage(DeviceKvUsage(load));
  rank->set_gen_throughput(load.rates.output_tokens_per_s);
  rank->set_cache_hit_rate(CacheHitRate(stats));
  rank->set_utilization(BottleneckUtilization(load));
  rank->set_max_running_requests(Clamp32(load.max_running));
  return out;
}

}  // namespace sluice
