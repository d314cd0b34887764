#include "service/trace/trace_text.h"

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <random>

#include "gtest/gtest.h"

namespace sluice {
namespace {

const absl::Time kOrigin = absl::FromUnixSeconds(1000);
absl::Time At(double ms) { return kOrigin + absl::Milliseconds(ms); }

nlohmann::json Write(const std::vector<TraceEvent>& events, const std::string& device = "cpu") {
  TraceText text(kOrigin, device);
  std::string out = text.Header();
  for (const TraceEvent& event : events) text.Append(event, &out);
  out += text.Footer();
  return nlohmann::json::parse(out);
}

// The first event with this phase ("X", "M") and name.
nlohmann::json Find(const nlohmann::json& trace, const std::string& phase,
                    const std::string& name) {
  for (const nlohmann::json& event : trace["traceEvents"]) {
    if (event["ph"] == phase && event["name"] == name) return event;
  }
  return {};
}

std::vector<std::string> LaneNames(const nlohmann::json& trace, int process) {
  std::vector<std::string> names;
  for (const nlohmann::json& event : trace["traceEvents"]) {
    if (event["name"] == "thread_name" && event["pid"] == process) {
      names.push_back(event["args"]["name"]);
    }
  }
  return names;
}

TraceEvent CopyEvent(double from, double to, LinkDirection direction = LinkDirection::kHostToDevice,
                     CopyClass copy_class = CopyClass::kDemand) {
  CopySpan span;
  span.direction = direction;
  span.copy_class = copy_class;
  return {At(from), At(to), span};
}

TEST(TraceTextTest, AnEmptyTraceIsValidAndNamesItsProcesses) {
  const nlohmann::json trace = Write({}, "quo\"te\\d");
  EXPECT_EQ(trace["traceEvents"].size(), 6U);
  EXPECT_EQ(Find(trace, "M", "process_name")["args"]["name"], "device: quo'te/d");
}

TEST(TraceTextTest, StepsAreNamedByWhatTheyCompute) {
  const nlohmann::json trace =
      Write({{At(0), At(1), StepSpan{1, 2, 64, 0, {}}},
             {At(1), At(2), StepSpan{2, 2, 0, 2, {}}},
             {At(2), At(4.5), StepSpan{3, 3, 32, 2, absl::Milliseconds(1)}}});
  EXPECT_EQ(Find(trace, "X", "prefill")["args"]["prefill_tokens"], 64);
  EXPECT_EQ(Find(trace, "X", "decode")["args"]["decode_tokens"], 2);
  const nlohmann::json mixed = Find(trace, "X", "mixed");
  EXPECT_EQ(mixed["ts"], 2000);
  EXPECT_EQ(mixed["dur"], 2500);
  EXPECT_EQ(mixed["args"]["stall_ms"], 1);
  EXPECT_EQ(LaneNames(trace, 1), std::vector<std::string>{"steps"});
}

TEST(TraceTextTest, EveryDirectionAndClassHasItsLane) {
  std::vector<TraceEvent> events;
  for (int d = 0; d < kLinkDirectionCount; ++d) {
    for (int c = 0; c < kCopyClassCount; ++c) {
      events.push_back(CopyEvent(0, 1, static_cast<LinkDirection>(d), static_cast<CopyClass>(c)));
    }
  }
  std::vector<std::string> names = LaneNames(Write(events), 2);
  EXPECT_EQ(names.size(), static_cast<size_t>(kLinkDirectionCount * kCopyClassCount));
  EXPECT_EQ(std::count(names.begin(), names.end(), "host to device: demand"), 1);
  EXPECT_EQ(std::count(names.begin(), names.end(), "host to disk: write-back"), 1);
  std::sort(names.begin(), names.end());
  EXPECT_EQ(std::adjacent_find(names.begin(), names.end()), names.end());
}

TEST(TraceTextTest, LanesSayWhatIsBehindTheHost) {
  TraceText text(kOrigin, "cpu", "disk+remote");
  std::string out = text.Header();
  text.Append(CopyEvent(0, 1, LinkDirection::kDiskToHost), &out);
  text.Append(CopyEvent(0, 1, LinkDirection::kHostToDisk), &out);
  out += text.Footer();
  EXPECT_EQ(
      LaneNames(nlohmann::json::parse(out), 2),
      (std::vector<std::string>{"disk+remote to host: demand", "host to disk+remote: demand"}));
}

TEST(TraceTextTest, CopiesThatOverlapGetLanesOfTheirOwn) {
  for (uint32_t seed = 1; seed <= 20; ++seed) {
    SCOPED_TRACE(seed);
    std::mt19937 random(seed);
    std::uniform_real_distribution<double> when(0, 100), length(0, 10);
    std::vector<TraceEvent> events;
    for (int i = 0; i < 200; ++i) {
      const double from = when(random);
      events.push_back(CopyEvent(from, from + length(random)));
    }
    std::sort(events.begin(), events.end(),
              [](const TraceEvent& a, const TraceEvent& b) { return a.end < b.end; });
    std::map<int64_t, double> last_end;
    const nlohmann::json trace = Write(events);
    int spans = 0;
    for (const nlohmann::json& event : trace["traceEvents"]) {
      if (event["ph"] != "X") continue;
      ++spans;
      double& end = last_end[event["tid"].get<int64_t>()];
      EXPECT_GE(event["ts"].get<double>(), end - 1e-6);
      end = event["ts"].get<double>() + event["dur"].get<double>();
    }
    EXPECT_EQ(spans, 200);
    EXPECT_EQ(LaneNames(trace, 2).size(), last_end.size());
  }
}

TEST(TraceTextTest, ARequestSaysItsPlanReasonAndKappa) {
  RequestSpan span;
  span.request = 4;
  span.plan = RequestPlan::kSplit;
  span.reason = FinishReason::kLength;
  span.admitted = true;
  span.prompt = Tokens(100);
  span.cached = {Tokens(10), Tokens(60), Tokens(0), Tokens(0)};
  span.computed = Tokens(30);
  span.kappa = 2;
  const nlohmann::json trace =
      Write({{At(0), At(9), PhaseSpan{4, RequestPhase::kDecode, true}}, {At(0), At(9), span}});
  const nlohmann::json args = Find(trace, "X", "request 4")["args"];
  EXPECT_EQ(args["plan"], "split");
  EXPECT_EQ(args["reason"], "length");
  EXPECT_EQ(args["kappa"], 2);
  EXPECT_EQ(args["cached_host_tokens"], 60);
  EXPECT_FALSE(args.contains("predicted_ttft_ms"));  // none was made: JSON has no infinity
  EXPECT_EQ(Find(trace, "X", "decode")["args"]["open"], true);
  EXPECT_EQ(LaneNames(trace, 3), std::vector<std::string>{"request 4"});
}

TEST(TraceTextTest, AGapIsMarked) {
  TraceText text(kOrigin, "cpu");
  std::string out = text.Header();
  text.AppendGap(12, At(3), &out);
  const nlohmann::json trace = nlohmann::json::parse(out + text.Footer());
  EXPECT_EQ(Find(trace, "i", "12 events lost")["ts"], 3000);
}

}  // namespace
}  // namespace sluice
