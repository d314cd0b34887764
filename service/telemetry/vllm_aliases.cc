#include "service/telemetry/vllm_aliases.h"

#include <algorithm>
#include <array>
#include <map>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "service/telemetry/family.h"

namespace sluice {
namespace {

using prometheus::ClientMetric;
using prometheus::MetricFamily;
using prometheus::MetricType;
using Labels = std::map<std::string, std::string>;

// A family of ours under another name, with its own labels left out.
struct Renamed {
  const char* native;
  const char* alias;
};
constexpr std::array kRenamed = {
    Renamed{"sluice_requests_running", "vllm:num_requests_running"},
    Renamed{"sluice_requests_waiting", "vllm:num_requests_waiting"},
    Renamed{"sluice_generated_tokens_total", "vllm:generation_tokens_total"},
    Renamed{"sluice_time_to_first_token_seconds", "vllm:time_to_first_token_seconds"},
    Renamed{"sluice_inter_token_latency_seconds", "vllm:inter_token_latency_seconds"},
    Renamed{"sluice_time_per_output_token_seconds", "vllm:request_time_per_output_token_seconds"},
    Renamed{"sluice_e2e_request_latency_seconds", "vllm:e2e_request_latency_seconds"},
    Renamed{"sluice_request_queue_seconds", "vllm:request_queue_time_seconds"},
    Renamed{"sluice_request_prompt_tokens", "vllm:request_prompt_tokens"},
    Renamed{"sluice_request_generated_tokens", "vllm:request_generation_tokens"},
};

// Samples of a family of ours, added up as one sample. Rows of one alias follow each other.
struct Sum {
  const char* native;
  const char* key;     // of the label that selects samples; empty: all
  const char* values;  // any of these, separated by |
  const char* alias;
  const char* help;  // of the first row of an alias
  const char* label = "";
  const char* value = "";
};
constexpr char kTokens[] = "sluice_prompt_tokens_total";
constexpr char kBytes[] = "sluice_kv_transfer_bytes_total";
constexpr char kBusy[] = "sluice_kv_transfer_busy_seconds_total";
constexpr char kEnds[] = "sluice_requests_total";
constexpr char kOffDevice[] = "host|disk|remote";
constexpr char kBySource[] = "vllm:prompt_tokens_by_source_total";
constexpr char kSuccess[] = "vllm:request_success_total";
constexpr std::array kSums = {
    Sum{"sluice_kv_tier_usage_ratio", "tier", "device", "vllm:kv_cache_usage_perc",
        "Device KV in use by live requests, 0 to 1."},
    Sum{"sluice_preemptions_total", "", "", "vllm:num_preemptions_total",
        "Requests whose device blocks were taken away."},
    Sum{kTokens, "", "", "vllm:prompt_tokens_total", "Prompt tokens."},
    Sum{kTokens, "source", "computed", kBySource, "Prompt tokens by where their KV came from.",
        "source", "local_compute"},
    Sum{kTokens, "source", "device", kBySource, "", "source", "local_cache_hit"},
    Sum{kTokens, "source", kOffDevice, kBySource, "", "source", "external_kv_transfer"},
    Sum{kTokens, "", "", "vllm:prefix_cache_queries_total",
        "Prompt tokens looked up on the device."},
    Sum{kTokens, "source", "device", "vllm:prefix_cache_hits_total",
        "Prompt tokens found on the device."},
    Sum{kTokens, "source", "host|disk|remote|computed", "vllm:external_prefix_cache_queries_total",
        "Prompt tokens looked up on the tiers behind the device."},
    Sum{kTokens, "source", kOffDevice, "vllm:external_prefix_cache_hits_total",
        "Prompt tokens found on the tiers behind the device."},
    Sum{kEnds, "outcome", "stop", kSuccess, "Requests that ended, by reason.", "finished_reason",
        "stop"},
    Sum{kEnds, "outcome", "length", kSuccess, "", "finished_reason", "length"},
    Sum{kEnds, "outcome", "abort|deadline", kSuccess, "", "finished_reason", "abort"},
    Sum{kEnds, "outcome", "error", kSuccess, "", "finished_reason", "error"},
    Sum{kBytes, "dst", "device", "vllm:kv_offload_load_bytes_total",
        "KV bytes copied to the device."},
    Sum{kBusy, "dst", "device", "vllm:kv_offload_load_time_total",
        "Seconds in which KV was copied to the device."},
    Sum{kBytes, "src", "device", "vllm:kv_offload_store_bytes_total",
        "KV bytes copied from the device."},
    Sum{kBusy, "src", "device", "vllm:kv_offload_store_time_total",
        "Seconds in which KV was copied from the device."},
};

bool Matches(const ClientMetric& sample, const Sum& sum) {
  if (*sum.key == '\0') return true;
  const std::vector<std::string> wanted = absl::StrSplit(sum.values, '|');
  return std::any_of(sample.label.begin(), sample.label.end(), [&](const auto& label) {
    return label.name == sum.key &&
           std::find(wanted.begin(), wanted.end(), label.value) != wanted.end();
  });
}

double ValueOf(const MetricFamily& family, const Sum& sum) {
  double value = 0;
  for (const ClientMetric& sample : family.metric) {
    if (!Matches(sample, sum)) continue;
    value += family.type == MetricType::Counter ? sample.counter.value : sample.gauge.value;
  }
  return value;
}

// The type of KV on the device: that of the host's codec where both hold the same bytes.
std::string CacheDType(const BackendInfo& info) {
  const bool same = info.device_block_bytes == info.geometry.bytes_per_block;
  if (!same || info.host_codec == "raw") return info.dtype;
  return info.host_codec.substr(0, info.host_codec.find('-'));
}

}  // namespace

VllmAliases::VllmAliases(const BackendInfo& info, std::string model,
                         std::shared_ptr<const prometheus::Collectable> native)
    : block_size_(absl::StrCat(info.geometry.tokens_per_block.value())),
      device_blocks_(absl::StrCat(info.device_blocks.value())),
      dtype_(CacheDType(info)),
      model_(std::move(model)),
      native_(std::move(native)) {}

std::vector<MetricFamily> VllmAliases::Collect() const {
  const Labels constant = {{"model_name", model_}, {"engine", "0"}};
  std::map<std::string, MetricFamily> native;
  for (MetricFamily& family : native_->Collect()) native[family.name] = std::move(family);
  std::vector<MetricFamily> families;
  for (const Renamed& renamed : kRenamed) {
    MetricFamily family = native[renamed.native];
    family.name = renamed.alias;
    for (ClientMetric& sample : family.metric) {
      sample.label.clear();
      for (const auto& [key, value] : constant) sample.label.push_back({key, value});
    }
    families.push_back(std::move(family));
  }
  std::vector<FamilyBuilder> sums;
  std::string last;
  for (const Sum& sum : kSums) {
    const MetricFamily& family = native[sum.native];
    if (last != sum.alias) sums.emplace_back(family.type, sum.alias, sum.help, constant);
    last = sum.alias;
    const Labels labels = *sum.label == '\0' ? Labels() : Labels{{sum.label, sum.value}};
    sums.back().Add(ValueOf(family, sum), labels);
  }
  for (FamilyBuilder& sum : sums) families.push_back(sum.Build());
  families.push_back(FamilyBuilder(MetricType::Gauge, "vllm:cache_config_info",
                                   "Always 1; labels say how the cache is configured.", constant)
                         .Add(1, {{"block_size", block_size_},
                                  {"num_gpu_blocks", device_blocks_},
                                  {"cache_dtype", dtype_}})
                         .Build());
  return families;
}

}  // namespace sluice
