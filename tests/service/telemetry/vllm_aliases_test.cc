#include "service/telemetry/vllm_aliases.h"

#include <string>

#include "gmock/gmock.h"
#include "prometheus/collectable.h"
#include "prometheus/text_serializer.h"
#include "service/telemetry/metrics.h"

namespace sluice {
namespace {

using ::testing::HasSubstr;

std::string Scrape(const Metrics& metrics) {
  return prometheus::TextSerializer().Serialize(metrics.vllm_aliases()->Collect());
}

BackendInfo Info() {
  BackendInfo info;
  info.name = "cpu";
  info.dtype = "bf16";
  info.geometry = {Tokens(32), Bytes(1000)};
  info.device_blocks = Blocks(8);
  return info;
}

constexpr char kLabels[] = "engine=\"0\",model_name=\"m\"";

TEST(VllmAliasesTest, GatewaysFindTheNamesTheyAskFor) {
  Metrics metrics(Info(), "m");
  SchedulerStats stats;
  stats.waiting = 4;
  stats.running = 3;
  stats.device = {Blocks(8), Blocks(2), Blocks(4), Blocks(2), Blocks(0)};
  metrics.Observe(stats, {});
  const std::string text = Scrape(metrics);
  const std::string at = std::string("{") + kLabels;
  EXPECT_THAT(text, HasSubstr("vllm:num_requests_waiting" + at + "} 4\n"));
  EXPECT_THAT(text, HasSubstr("vllm:num_requests_running" + at + "} 3\n"));
  EXPECT_THAT(text, HasSubstr("vllm:kv_cache_usage_perc" + at + "} 0.5\n"));
  EXPECT_THAT(text, HasSubstr("vllm:cache_config_info{engine=\"0\",model_name=\"m\","
                              "block_size=\"32\",cache_dtype=\"bf16\",num_gpu_blocks=\"8\"} 1\n"));
}

TEST(VllmAliasesTest, TheTypeOfTheCacheIsThatOfTheDevice) {
  BackendInfo info = Info();
  info.host_codec = "fp8-kt128-vt128-v1";
  info.device_block_bytes = Bytes(2000);  // only the host is quantized
  EXPECT_THAT(Scrape(Metrics(info, "m")), HasSubstr("cache_dtype=\"bf16\""));
  info.device_block_bytes = info.geometry.bytes_per_block;
  EXPECT_THAT(Scrape(Metrics(info, "m")), HasSubstr("cache_dtype=\"fp8\""));
}

TEST(VllmAliasesTest, TokensAreSplitAsVllmSplitsThem) {
  Metrics metrics(Info(), "m");
  SchedulerStats stats;
  stats.prompt_tokens_cached = {Tokens(10), Tokens(20), Tokens(3), Tokens(0)};
  stats.prompt_tokens_computed = Tokens(7);
  ActivitySnapshot activity;
  activity.links[static_cast<size_t>(LinkDirection::kHostToDevice)].moved = Bytes(500);
  activity.links[static_cast<size_t>(LinkDirection::kDeviceToHost)].busy = absl::Seconds(2);
  metrics.Observe(stats, activity);
  const std::string text = Scrape(metrics);
  const std::string at = std::string("{") + kLabels;
  EXPECT_THAT(text, HasSubstr("vllm:prompt_tokens_total" + at + "} 40\n"));
  EXPECT_THAT(text, HasSubstr("vllm:prefix_cache_queries_total" + at + "} 40\n"));
  EXPECT_THAT(text, HasSubstr("vllm:prefix_cache_hits_total" + at + "} 10\n"));
  EXPECT_THAT(text, HasSubstr("vllm:external_prefix_cache_queries_total" + at + "} 30\n"));
  EXPECT_THAT(text, HasSubstr("vllm:external_prefix_cache_hits_total" + at + "} 23\n"));
  EXPECT_THAT(text, HasSubstr("vllm:prompt_tokens_by_source_total" + at +
                              ",source=\"external_kv_transfer\"} 23\n"));
  EXPECT_THAT(text, HasSubstr("vllm:kv_offload_load_bytes_total" + at + "} 500\n"));
  EXPECT_THAT(text, HasSubstr("vllm:kv_offload_store_time_total" + at + "} 2\n"));
}

TEST(VllmAliasesTest, HistogramsAreTheSameUnderBothNames) {
  Metrics metrics(Info(), "m");
  const int tenant = metrics.OnArrival("default");
  metrics.OnFirstToken(tenant, absl::Milliseconds(30), absl::FromUnixSeconds(1000));
  const std::string text = Scrape(metrics);
  EXPECT_THAT(
      text, HasSubstr(std::string("vllm:time_to_first_token_seconds_count{") + kLabels + "} 1\n"));
  EXPECT_THAT(text, HasSubstr(std::string("vllm:time_to_first_token_seconds_bucket{") + kLabels +
                              ",le=\"0.04\"} 1\n"));
}

TEST(VllmAliasesTest, EveryAliasHasHelpAndNoNativeNameSlipsIn) {
  for (const prometheus::MetricFamily& family : Metrics(Info(), "m").vllm_aliases()->Collect()) {
    EXPECT_EQ(family.name.rfind("vllm:", 0), 0U) << family.name;
    EXPECT_FALSE(family.help.empty()) << family.name;
    EXPECT_FALSE(family.metric.empty()) << family.name;
  }
}

}  // namespace
}  // namespace sluice
