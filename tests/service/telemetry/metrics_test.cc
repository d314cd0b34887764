#include "service/telemetry/metrics.h"

#include <algorithm>
#include <sstream>
#include <string>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "prometheus/collectable.h"
#include "prometheus/text_serializer.h"
#include "service/telemetry/buckets.h"
#include "service/telemetry/metrics_server.h"
#include "service/telemetry/remote_series.h"
#include "service/telemetry/tiered_series.h"
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
  prometheus::TextSerializer().Serialize(out, metrics.native()->Collect());
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

// A series that is made at the scrape: its own label comes first.
std::string Device(const std::string& name, const std::string& more = "") {
  return name + "{device=\"cpu0\"," + kModel + more + "}";
}

TEST(MetricsTest, ARemoteTierIsCalledThat) {
  BackendInfo info = Info();
  info.disk_blocks = Blocks(4);
  info.storage_tier = Tier::kRemote;
  Metrics metrics(info, "m");
  const std::string text = Scrape(metrics);
  EXPECT_THAT(text, HasSubstr("sluice_kv_remote_corrupt_blocks_total"));
  EXPECT_THAT(text, HasSubstr("tier=\"remote\""));
  EXPECT_THAT(text, HasSubstr("src=\"remote\""));
  EXPECT_THAT(text, HasSubstr("dst=\"remote\""));
  EXPECT_THAT(text, Not(HasSubstr("tier=\"disk\"")));
  EXPECT_THAT(text, Not(HasSubstr("src=\"disk\"")));
}

TEST(MetricsTest, ARemoteStoreTellsOfItsBreakerAndItsErrors) {
  RemoteStats stats;
  stats.breaker_state = 2;
  stats.breaker_opened = 3;
  stats.blocks_shared = 5;
  stats.errors[static_cast<size_t>(RemoteError::kTimeout)] = 7;
  const RemoteSeries series("m", [&stats] { return stats; });
  std::ostringstream out;
  prometheus::TextSerializer().Serialize(out, series.Collect());
  EXPECT_EQ(Value(out.str(), Series("sluice_kv_remote_breaker_state")), 2);
  EXPECT_EQ(Value(out.str(), Series("sluice_kv_remote_breaker_opened_total")), 3);
  EXPECT_THAT(out.str(), HasSubstr("result=\"shared\"} 5"));
  EXPECT_THAT(out.str(), HasSubstr("kind=\"timeout\""));
}

TEST(MetricsTest, AStoreOverTwoPlacesTellsWhereBlocksCameFrom) {
  TieredStats stats;
  stats.disk_blocks = 4;
  stats.remote_bytes = Bytes(90);
  stats.disk_corrupt = 2;
  stats.copies_away = 6;
  stats.waiting = Bytes(11);
  const TieredSeries series("m", [&stats] { return stats; });
  std::ostringstream out;
  prometheus::TextSerializer().Serialize(out, series.Collect());
  const std::string text = out.str();
  const auto at = [](const char* name, const char* label, const char* value) {
    return Series(name, std::string(label) + "=\"" + value + "\"");
  };
  EXPECT_EQ(Value(text, at("sluice_kv_storage_blocks_read_total", "place", "disk")), 4);
  EXPECT_EQ(Value(text, at("sluice_kv_storage_bytes_read_total", "place", "remote")), 90);
  EXPECT_EQ(Value(text, at("sluice_kv_storage_wrong_blocks_total", "place", "disk")), 2);
  EXPECT_EQ(Value(text, at("sluice_kv_storage_copies_total", "result", "away")), 6);
  EXPECT_EQ(Value(text, at("sluice_kv_storage_fills_total", "result", "full")), 0);
  EXPECT_EQ(Value(text, Series("sluice_kv_storage_waiting_bytes")), 11);
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
  stats.steps_ahead = 3;
  metrics.Observe(stats, activity);
  EXPECT_EQ(Value(Scrape(metrics), Series("sluice_generated_tokens_total")), 7);
  EXPECT_EQ(Value(Scrape(metrics), Series("sluice_steps_ahead_total")), 3);
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
                 Device("sluice_activity_seconds_total", std::string(",state=\"") + state + "\""));
  }
  EXPECT_DOUBLE_EQ(sum, absl::ToDoubleSeconds(activity.wall()));
  EXPECT_EQ(Value(text, Device("sluice_overlap_seconds_total")), 3);
  EXPECT_EQ(Value(text, Device("sluice_compute_busy_seconds_total")), 4);
}

TEST(MetricsTest, TiersAreInBytesAndPinnedCountsReferencedAndInTransit) {
  Metrics metrics(Info(), "m");
  SchedulerStats stats;
  stats.device = {Blocks(8), Blocks(1), Blocks(3), Blocks(2), Blocks(2), Blocks(0)};
  metrics.Observe(stats, {});
  const std::string text = Scrape(metrics);
  EXPECT_EQ(Value(text, Series("sluice_kv_tier_capacity_bytes", "tier=\"device\"")), 8000);
  EXPECT_EQ(Value(text, Series("sluice_kv_tier_used_bytes", "tier=\"device\"")), 7000);
  EXPECT_EQ(Value(text, Series("sluice_kv_tier_pinned_bytes", "tier=\"device\"")), 5000);
}

TEST(MetricsTest, ResidencyFollowsTheSchedulersCounts) {
  Metrics metrics(Info(), "m");
  SchedulerStats stats;
  stats.residency[1].Add(0.5);
  stats.residency[1].Add(1e6);
  metrics.Observe(stats, {});
  stats.residency[1].Add(0.5);
  metrics.Observe(stats, {});
  metrics.Observe(stats, {});
  const std::string text = Scrape(metrics);
  const std::string name = "sluice_kv_block_residency_seconds";
  EXPECT_EQ(Value(text, Series(name + "_count", "tier=\"host\"")), 3);
  EXPECT_EQ(Value(text, Series(name + "_sum", "tier=\"host\"")), 1e6 + 1);
  EXPECT_EQ(Value(text, Series(name + "_bucket", "tier=\"host\",le=\"0.1\"")), 0);
  EXPECT_EQ(Value(text, Series(name + "_bucket", "tier=\"host\",le=\"0.5\"")), 2);
  EXPECT_EQ(Value(text, Series(name + "_bucket", "tier=\"host\",le=\"1800\"")), 2);
  EXPECT_EQ(Value(text, Series(name + "_count", "tier=\"device\"")), 0);
}

TEST(MetricsTest, SubscribersThatLoseTrackAreCountedByReason) {
  Metrics metrics(Info(), "m");
  for (int i = 0; i < 4; ++i) metrics.OnKvSubscribed();
  metrics.OnKvUnsubscribed(absl::StatusCode::kDataLoss);
  metrics.OnKvUnsubscribed(absl::StatusCode::kOutOfRange);
  metrics.OnKvUnsubscribed(absl::StatusCode::kCancelled);
  metrics.OnKvEvents(5);
  const std::string text = Scrape(metrics);
  EXPECT_EQ(Value(text, Series("sluice_kv_event_subscribers")), 1);
  EXPECT_EQ(Value(text, Series("sluice_kv_event_gaps_total", "reason=\"fell_behind\"")), 1);
  EXPECT_EQ(Value(text, Series("sluice_kv_event_gaps_total", "reason=\"too_old\"")), 1);
  EXPECT_EQ(Value(text, Series("sluice_kv_events_total")), 5);
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

// A request that waited 1 s, loaded for 2 s (0.5 s of it while the device idled), and then decoded.
Event::Finish Finished(absl::Time arrival) {
  Event::Finish finish;
  finish.reason = FinishReason::kLength;
  RequestStats& stats = finish.stats;
  stats.arrival = arrival;
  stats.admitted = arrival + absl::Seconds(1);
  stats.first_token = arrival + absl::Seconds(4);
  stats.finished = arrival + absl::Seconds(9);
  stats.prompt = Tokens(100);
  stats.output = Tokens(6);
  stats.cached = {Tokens(20), Tokens(60), Tokens(0), Tokens(0)};
  stats.computed = Tokens(20);
  stats.load_busy = absl::Seconds(2);
  stats.load_exposed = absl::Milliseconds(500);
  stats.device_share = absl::Seconds(3);
  stats.predicted_ttft = absl::Seconds(2);
  stats.wait_bound = absl::Milliseconds(900);
  return finish;
}

RequestTimes FirstStepAfter(absl::Time arrival, absl::Duration wait) {
  RequestTimes times;
  times.first_step = arrival + wait;
  times.prefill = absl::Milliseconds(1500);
  return times;
}

TEST(MetricsTest, ThePartsOfARequestSumToItsLatency) {
  Metrics metrics(Info(), "m");
  const absl::Time arrival = absl::FromUnixSeconds(1000);
  const int tenant = metrics.OnArrival("t");
  metrics.OnFinish(tenant, Finished(arrival), FirstStepAfter(arrival, absl::Seconds(2)));
  const std::string text = Scrape(metrics);
  const auto part = [&](const std::string& name) {
    return Value(text, Series("sluice_request_time_seconds_total", "part=\"" + name + "\""));
  };
  EXPECT_DOUBLE_EQ(part("queue"), 1);
  EXPECT_DOUBLE_EQ(part("load"), 1);
  EXPECT_DOUBLE_EQ(part("stall"), 0.5);
  EXPECT_DOUBLE_EQ(part("prefill"), 1.5);
  EXPECT_DOUBLE_EQ(part("decode"), 5);
  EXPECT_DOUBLE_EQ(Value(text, Series("sluice_e2e_request_latency_seconds_sum")), 9);
}

TEST(MetricsTest, ARequestThatWasNeverAdmittedOnlyQueued) {
  Metrics metrics(Info(), "m");
  Event::Finish finish = Finished(absl::FromUnixSeconds(1000));
  finish.reason = FinishReason::kDeadline;
  finish.stats.admitted = finish.stats.first_token = absl::InfiniteFuture();
  metrics.OnFinish(metrics.OnArrival("t"), finish, {});
  const std::string text = Scrape(metrics);
  EXPECT_EQ(Value(text, Series("sluice_request_time_seconds_total", "part=\"queue\"")), 9);
  EXPECT_EQ(Value(text, Series("sluice_request_time_seconds_total", "part=\"decode\"")), 0);
  EXPECT_EQ(Value(text, Series("sluice_requests_total", "outcome=\"deadline\"")), 1);
  EXPECT_EQ(Value(text, Series("sluice_request_queue_seconds_count")), 0);
}

TEST(MetricsTest, KappaSlackPredictionAndPromiseAreCounted) {
  Metrics metrics(Info(), "m");
  const absl::Time arrival = absl::FromUnixSeconds(1000);
  metrics.OnFinish(metrics.OnArrival("t"), Finished(arrival),
                   FirstStepAfter(arrival, absl::Seconds(2)));
  const std::string text = Scrape(metrics);
  EXPECT_EQ(Value(text, Series("sluice_request_kappa_ratio_sum")), 3);
  EXPECT_DOUBLE_EQ(Value(text, Series("sluice_request_slack_seconds_sum")), -0.5);
  EXPECT_EQ(Value(text, Series("sluice_scheduler_predicted_ttft_seconds_sum")), 2);
  EXPECT_EQ(Value(text, Series("sluice_scheduler_ttft_prediction_error_ratio_sum")), 1);
  EXPECT_EQ(Value(text, Series("sluice_wait_bounds_broken_total")), 1);
}

TEST(MetricsTest, TenantsAreBoundedInNumber) {
  Metrics metrics(Info(), "m");
  const auto lines = [&] {
    const std::string text = Scrape(metrics);
    return std::count(text.begin(), text.end(), '\n');
  };
  for (int i = 0; i < kMaxTenants + 5; ++i) {
    const int slot = metrics.OnArrival(absl::StrCat("tenant-", i));
    metrics.OnFinish(slot, Finished(absl::FromUnixSeconds(1000)), {});
  }
  const auto full = lines();
  const int other = metrics.OnArrival("one more");
  metrics.OnFinish(other, Finished(absl::FromUnixSeconds(1000)), {});
  EXPECT_EQ(other, metrics.OnArrival("and another"));
  EXPECT_EQ(lines(), full);
  EXPECT_EQ(Value(Scrape(metrics),
                  Series("sluice_tenant_requests_total", "outcome=\"finished\",tenant=\"other\"")),
            7);  // "default" has the first place
  EXPECT_EQ(metrics.BusiestTenants(3).size(), 3U);
}

TEST(MetricsTest, ThePageHasABoundedNumberOfSeries) {
  Metrics metrics(Info(), "m");
  for (int i = 0; i < 3 * kMaxTenants; ++i) metrics.OnArrival(absl::StrCat("t", i));
  size_t samples = 0;
  for (const prometheus::MetricFamily& family : metrics.native()->Collect()) {
    for (const prometheus::ClientMetric& sample : family.metric) {
      samples += sample.histogram.bucket.empty() ? 1 : sample.histogram.bucket.size() + 2;
    }
  }
  EXPECT_LT(samples, 1500U);
}

TEST(MetricsTest, ActivityIsReadWhenSomebodyScrapes) {
  ActivitySnapshot activity;
  MetricsOptions options;
  options.read_activity = [&] { return activity; };
  Metrics metrics(Info(), "m", std::move(options));
  activity.idle = absl::Seconds(5);
  EXPECT_EQ(Value(Scrape(metrics), Device("sluice_activity_seconds_total", ",state=\"idle\"")), 5);
  activity.idle = absl::Seconds(6);
  EXPECT_EQ(Value(Scrape(metrics), Device("sluice_activity_seconds_total", ",state=\"idle\"")), 6);
}

TEST(MetricsTest, CopiesUnderWayAreCountedUpAndDown) {
  Metrics metrics(Info(), "m");
  metrics.OnCopiesStarted(LinkDirection::kDeviceToHost, 3);
  metrics.OnCopy(LinkDirection::kDeviceToHost, {}, absl::ZeroDuration());
  EXPECT_EQ(Value(Scrape(metrics),
                  Series("sluice_kv_transfer_inflight_operations", "dst=\"host\",src=\"device\"")),
            2);
}

TEST(MetricsTest, LatencyBucketsHoldVllmsAndAscend) {
  for (const double bound : {.001, .005, .01, .25, 2.5, 2560.0}) {
    EXPECT_THAT(buckets::kTtftSeconds, ::testing::Contains(bound));
  }
  for (const double bound : {.01, .025, .75, 80.0}) {
    EXPECT_THAT(buckets::kItlSeconds, ::testing::Contains(bound));
  }
  for (const auto* bounds :
       {&buckets::kTtftSeconds, &buckets::kItlSeconds, &buckets::kE2eSeconds,
        &buckets::kTenantSeconds, &buckets::kCopySeconds, &buckets::kCopyBytes,
        &buckets::kStepTokens, &buckets::kStepSeconds, &buckets::kRequestTokens,
        &buckets::kRpcSeconds, &buckets::kKappa, &buckets::kSlackSeconds, &buckets::kErrorRatio}) {
    EXPECT_TRUE(std::is_sorted(bounds->begin(), bounds->end()));
    EXPECT_EQ(std::adjacent_find(bounds->begin(), bounds->end()), bounds->end());
  }
}

TEST(MetricsServerTest, ASecondServerOnThePortIsUnavailable) {
  Metrics metrics(Info(), "m");
  auto first = MetricsServer::Start("127.0.0.1:0", {{"/metrics", metrics.native()}});
  ASSERT_THAT(first, testing::IsOk());
  const std::string address = "127.0.0.1:" + std::to_string((*first)->port());
  EXPECT_THAT(MetricsServer::Start(address, {{"/metrics", metrics.native()}}),
              testing::StatusIs(absl::StatusCode::kUnavailable, HasSubstr(address)));
}

}  // namespace
}  // namespace sluice
