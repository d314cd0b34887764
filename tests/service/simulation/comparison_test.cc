#include "service/simulation/comparison.h"

#include "gmock/gmock.h"
#include "service/simulation/window_chart.h"
#include "tests/service/simulation/small_setup.h"

namespace sluice {
namespace {

using ::testing::HasSubstr;
using testing::SmallSimulation;
using testing::SmallWorkload;

Comparison Compare(uint64_t seed) {
  Comparison comparison;
  comparison.command = "sluice simulate --workload \"small\"";
  comparison.machine = "a <small> machine";
  comparison.workload = "80 requests";
  comparison.options = SmallSimulation();
  const std::vector<TraceRequest> requests = SmallWorkload(seed, 80, 5, 2);
  for (const char* list : {"slack", "fcfs", "offload-off", "all-resident"}) {
    const Contender contender = ParseContenders(list)->front();
    const SimulationOptions options = OptionsFor(contender, comparison.options, requests);
    absl::StatusOr<SimulationResult> result = Simulate(requests, options);
    EXPECT_TRUE(result.ok()) << result.status();
    if (result.ok()) comparison.Add(contender, options, *std::move(result));
  }
  return comparison;
}

TEST(ComparisonTest, TheSameSeedGivesTheSameBytes) {
  EXPECT_EQ(ComparisonJson(Compare(1)).dump(), ComparisonJson(Compare(1)).dump());
  EXPECT_EQ(ComparisonReport(Compare(1)).Html(), ComparisonReport(Compare(1)).Html());
  EXPECT_NE(ComparisonJson(Compare(1)).dump(), ComparisonJson(Compare(2)).dump());
}

TEST(ComparisonTest, TheJsonHasEveryFigure) {
  const nlohmann::ordered_json json = ComparisonJson(Compare(1));
  ASSERT_EQ(json["policies"].size(), 4u);
  for (const auto& [name, policy] : json["policies"].items()) {
    SCOPED_TRACE(name);
    for (const char* key :
         {"requests", "completed", "rejected", "ttft_s", "slowdown", "itl_s", "makespan_s",
          "bound_s", "link_busy_s", "device_busy_s", "exposed_link_s", "max_wait_s", "wait_bound_s",
          "jain", "energy_j", "cached_tokens", "recomputed_tokens", "decisions", "kappa"}) {
      EXPECT_TRUE(policy.contains(key)) << key;
    }
    for (const char* key : {"mean", "p50", "p90", "p99", "max"}) {
      EXPECT_TRUE(policy["ttft_s"][key].is_number()) << key;
    }
    EXPECT_EQ(policy["decisions"].size(), static_cast<size_t>(kDecisionCount));
    EXPECT_EQ(policy["completed"], 80);
    int64_t in_buckets = 0;
    for (const auto& bucket : policy["kappa"]) in_buckets += bucket["requests"].get<int64_t>();
    EXPECT_EQ(in_buckets, 80);
    EXPECT_GT(policy["energy_j"].get<double>(), 100 * policy["makespan_s"].get<double>() * 0.999);
  }
}

TEST(ComparisonTest, ReferencesEncloseThePolicies) {
  const nlohmann::ordered_json json = ComparisonJson(Compare(1));
  const auto cached = [&](const char* policy, const char* tier) {
    return json["policies"][policy]["cached_tokens"][tier].get<int64_t>();
  };
  EXPECT_EQ(cached("offload-off", "host"), 0);
  EXPECT_EQ(cached("all-resident", "host"), 0);
  EXPECT_GT(cached("fcfs", "host"), 0);
  EXPECT_GT(cached("all-resident", "device"), cached("offload-off", "device"));
}

TEST(ComparisonTest, ThePageNamesEveryPolicyAndEscapesText) {
  const std::string html = ComparisonReport(Compare(1)).Html();
  for (const char* text : {"slack", "fcfs", "offload-off", "all-resident", "Time to first token",
                           "a &lt;small&gt; machine", "use over time", "window"}) {
    EXPECT_THAT(html, HasSubstr(text));
  }
}

TEST(WindowChartTest, RequestsPassThroughTheirPhasesInOrder) {
  const Comparison comparison = Compare(1);
  for (const Comparison::Entry& entry : comparison.entries) {
    SCOPED_TRACE(entry.contender.label);
    const GanttChart chart = WindowChart(entry.result);
    ASSERT_GT(chart.rows.size(), 16u);
    EXPECT_EQ(chart.rows[0], "device");
    std::vector<int> last_kind(chart.rows.size(), -1);
    std::vector<double> last_end(chart.rows.size(), 0);
    ASSERT_FALSE(chart.spans.empty());
    for (const GanttChart::Span& span : chart.spans) {
      const auto row = static_cast<size_t>(span.row);
      ASSERT_LT(row, chart.rows.size());
      EXPECT_LT(span.from, span.to);
      if (chart.rows[row][0] != '#') continue;
      EXPECT_GT(span.kind, last_kind[row]);
      EXPECT_GE(span.from, last_end[row]);
      last_kind[row] = span.kind;
      last_end[row] = span.to;
    }
  }
}

}  // namespace
}  // namespace sluice
