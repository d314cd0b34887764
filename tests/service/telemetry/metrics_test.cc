#include "service/telemetry/metrics.h"

#include <sstream>
#include <string>

#include "gmock/gmock.h"
#include "prometheus/registry.h"
#include "prometheus/text_serializer.h"
#include "tests/support/status_matchers.h"

namespace sluice {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

BackendInfo Info() {
  BackendInfo info;
  info.name = "cpu";
  info.dtype = "bf16";
  info.geometry = {Tokens(32), Bytes(1000)};
  info.device_blocks = Blocks(8);
  info.host_blocks = Blocks(16);
  return info;
}

std::string Scrape(const Metrics& metrics) {
  std::ostringstream out;
  prometheus::TextSerializer().Serialize(out, metrics.registry()->Collect());
  return out.str();
}

// The value of the series that starts with `series`, or -1.
double Value(const std::string& text, const std::string& series) {
  const size_t at = text.find("\n" + series + " ");
  return at == std::string::npos ? -1 : std::stod(text.substr(at + series.size() + 2));
}

constexpr char kModel[] = "model=\"m\"";

std::string Series(const std::string& name, const std::string& label = "") {
  if (label.empty()) return name + "{" + kModel + "}";
  return name + "{" + kModel + "," + label + "}";
}

TEST(MetricsTest, EverySeriesExistsFromTheStart) {
  Metrics metrics(Info(), "m");
  const std::string text = Scrape(metrics);
  for (const char* name :
       {"sluice_activity_seconds_total", "sluice_step_phase_seconds_total", "sluice_requests_total",
        "sluice_kv_transfer_bytes_total", "sluice_kv_tier_used_bytes", "sluice_prompt_tokens_total",
        "sluice_scheduler_decisions_total", "sluice_preemptions_total", "sluice_build_info"}) {
    EXPECT_THAT(text, HasSubstr(std::string("# TYPE ") + name + " ")) << name;
  }
  EXPECT_EQ(Value(text, Series("sluice_prompt_tokens_total", "source=\"host\"")), 0);
}

TEST(MetricsTest, TotalsAdvanceByTheDifference) {
  Metrics metrics(Info(), "m");
  SchedulerStats stats;
  ActivitySnapshot activity;
  stats.output_tokens = Tokens(5);
  metrics.Observe(stats, activity);
  stats.output_tokens = Tokens(7);
  metrics.Observe(stats, activity);
  EXPECT_EQ(Value(Scrape(metrics), Series("sluice_generated_tokens_total")), 7);
}

TEST(MetricsTest, TheFourStatesSumToWallTime) {
  Metrics metrics(Info(), "m");
  ActivitySnapshot activity;
  activity.compute_only = absl::Seconds(1);
  activity.transfer_only = absl::Seconds(2);
  activity.both = absl::Seconds(3);
  activity.idle = absl::Seconds(4);
  metrics.Observe({}, activity);
  const std::string text = Scrape(metrics);
  double sum = 0;
  for (const char* state : {"compute_only", "transfer_only", "both", "idle"}) {
    sum += Value(text,
                 Series("sluice_activity_seconds_total", std::string("state=\"") + state + "\""));
  }
  EXPECT_DOUBLE_EQ(sum, absl::ToDoubleSeconds(activity.wall()));
  EXPECT_EQ(Value(text, Series("sluice_overlap_seconds_total")), 3);
  EXPECT_EQ(Value(text, Series("sluice_compute_busy_seconds_total")), 4);
}

TEST(MetricsTest, TiersAreInBytesAndPinnedCountsReferencedAndInTransit) {
  Metrics metrics(Info(), "m");
  SchedulerStats stats;
  stats.device = {Blocks(8), Blocks(1), Blocks(3), Blocks(2), Blocks(2)};
  metrics.Observe(stats, {});
  const std::string text = Scrape(metrics);
  EXPECT_EQ(Value(text, Series("sluice_kv_tier_capacity_bytes", "tier=\"device\"")), 8000);
  EXPECT_EQ(Value(text, Series("sluice_kv_tier_used_bytes", "tier=\"device\"")), 7000);
  EXPECT_EQ(Value(text, Series("sluice_kv_tier_pinned_bytes", "tier=\"device\"")), 5000);
}

TEST(MetricsTest, ACancelledCopyIsNeitherOkNorFailed) {
  Metrics metrics(Info(), "m");
  CopyResult result;
  result.status = absl::CancelledError("shutdown");
  metrics.OnCopy(LinkDirection::kHostToDevice, result, absl::ZeroDuration());
  const std::string text = Scrape(metrics);
  const std::string name = "sluice_kv_transfer_operations_total";
  EXPECT_EQ(Value(text, Series(name, "dst=\"device\",outcome=\"cancelled\",src=\"host\"")), 1);
  EXPECT_EQ(Value(text, Series(name, "dst=\"device\",outcome=\"ok\",src=\"host\"")), 0);
  EXPECT_EQ(Value(text, Series(name, "dst=\"device\",outcome=\"failed\",src=\"host\"")), 0);
}

TEST(MetricsTest, RefusedRequestsAreCountedApart) {
  Metrics metrics(Info(), "m");
  metrics.OnRefused();
  const std::string text = Scrape(metrics);
  EXPECT_EQ(Value(text, Series("sluice_requests_total", "outcome=\"rejected\"")), 1);
  EXPECT_EQ(Value(text, Series("sluice_requests_total", "outcome=\"error\"")), 0);
}

TEST(MetricsServerTest, ASecondServerOnThePortIsUnavailable) {
  Metrics metrics(Info(), "m");
  auto first = MetricsServer::Start("127.0.0.1:0", metrics.registry());
  ASSERT_THAT(first, testing::IsOk());
  const std::string address = "127.0.0.1:" + std::to_string((*first)->port());
  EXPECT_THAT(MetricsServer::Start(address, metrics.registry()),
              testing::StatusIs(absl::StatusCode::kUnavailable, HasSubstr(address)));
}

}  // namespace
}  // namespace sluice
