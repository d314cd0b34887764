#include "service/simulation/simulation.h"

#include "gmock/gmock.h"
#include "scheduler/policy/registry.h"
#include "service/simulation/contender.h"
#include "service/simulation/load_level.h"
#include "service/simulation/summary.h"
#include "tests/service/simulation/small_setup.h"

namespace sluice {
namespace {

using ::testing::HasSubstr;
using testing::SmallSimulation;
using testing::SmallWorkload;

SimulationResult MustSimulate(const std::vector<TraceRequest>& requests,
                              const SimulationOptions& options) {
  absl::StatusOr<SimulationResult> result = Simulate(requests, options);
  EXPECT_TRUE(result.ok()) << result.status();
  return result.ok() ? *std::move(result) : SimulationResult();
}

TEST(SimulationTest, OneRequestOnAnIdleMachineTakesWhatTheCostModelSays) {
  const SimulationOptions options = SmallSimulation();
  TraceRequest request;
  request.arrival = absl::Seconds(3);
  request.prompt.Append(1, Tokens(400));
  request.output = Tokens(11);
  const SimulationResult result = MustSimulate({request}, options);
  const RequestRecord& record = result.requests[0];
  ASSERT_TRUE(record.completed());
  EXPECT_EQ(record.reason, FinishReason::kStop);
  EXPECT_EQ(record.output, Tokens(11));
  EXPECT_DOUBLE_EQ(record.arrival, 3);
  const CostCoefficients& cost = options.machine.cost;
  const Seconds prefill = PrefillTimeAlone(cost, Tokens(0), Tokens(400), Tokens(256));
  EXPECT_NEAR(record.ttft(), prefill.value(), 1e-7);
  // Ten decode steps: launch, weights, the context read once.
  double decode = 0;
  for (int i = 0; i < 10; ++i) decode += 3e-3 + (401 + i) * 100e-9;
  EXPECT_NEAR(record.finished - record.first_token, decode, 1e-7);
  EXPECT_EQ(result.token_gaps.count, 10);
  EXPECT_NEAR(absl::ToDoubleSeconds(result.activity.wall()), record.finished, 1e-9);
  EXPECT_NEAR(absl::ToDoubleSeconds(result.activity.compute_only + result.activity.both),
              prefill.value() + decode, 1e-7);
}

// A second question on a document that has been pushed out to the host meanwhile.
TEST(SimulationTest, ALoadOverlapsThePrefillAsComputed) {
  SimulationOptions options = SmallSimulation();
  options.scheduler.device_blocks = options.machine.device_blocks = Blocks(40);
  std::vector<TraceRequest> requests(3);
  for (size_t i = 0; i < 3; ++i) {
    requests[i].arrival = absl::Seconds(static_cast<int64_t>(10 * i));
    requests[i].prompt.Append(i == 1 ? 2 : 1, Tokens(480));
    requests[i].prompt.Append(100 + i, Tokens(20));
    requests[i].output = Tokens(2);
  }
  const SimulationResult result = MustSimulate(requests, options);
  const RequestRecord& again = result.requests[2];
  ASSERT_TRUE(again.completed());
  EXPECT_EQ(again.cached[static_cast<size_t>(Tier::kHost)] +
                again.cached[static_cast<size_t>(Tier::kDevice)],
            Tokens(480));
  WorkItem item;
  item.on_device = again.cached[static_cast<size_t>(Tier::kDevice)];
  item.on_host = again.cached[static_cast<size_t>(Tier::kHost)];
  item.fresh = Tokens(20);
  ASSERT_GT(item.on_host, Tokens(0));
  EXPECT_NEAR(again.ttft(), AloneTtft(options.machine.cost, Tokens(256), item).value(), 1e-4);
  EXPECT_GT(again.exposed_s, 0);
  EXPECT_NEAR(absl::ToDoubleSeconds(result.exposed), again.exposed_s, 1e-9);
}

// Under every policy and reference: each request ends once with all its tokens, what was cached and
// computed adds up to its prompt, what moved is what was loaded, times are in order.
TEST(SimulationTest, EveryContenderServesEveryRequestInFull) {
  const std::vector<TraceRequest> requests = SmallWorkload(1, 150, 8, 2);
  const absl::StatusOr<std::vector<Contender>> contenders = ParseContenders("all");
  ASSERT_TRUE(contenders.ok());
  ASSERT_EQ(contenders->size(), PolicyNames().size() + 2);
  for (const Contender& contender : *contenders) {
    SCOPED_TRACE(contender.label);
    const SimulationOptions options = OptionsFor(contender, SmallSimulation(), requests);
    const SimulationResult result = MustSimulate(requests, options);
    ASSERT_EQ(result.requests.size(), requests.size());
    int64_t output = 0;
    for (size_t i = 0; i < requests.size(); ++i) {
      const RequestRecord& r = result.requests[i];
      ASSERT_TRUE(r.completed()) << i;
      EXPECT_EQ(r.output, requests[i].output) << i;
      output += r.output.value();
      Tokens prompt = r.computed;
      for (const Tokens cached : r.cached) prompt += cached;
      EXPECT_EQ(prompt, requests[i].input()) << i;
      EXPECT_LE(r.arrival, r.queued + 1e-9);
      EXPECT_LE(r.queued, r.admitted);
      EXPECT_LT(r.admitted, r.first_token);
      EXPECT_LE(r.first_token, r.finished);
      EXPECT_LE(r.wait(), r.wait_bound) << i;
    }
    EXPECT_EQ(result.scheduler.output_tokens.value(), output);
    EXPECT_EQ(result.token_gaps.count, output - static_cast<int64_t>(requests.size()));
    if (contender.mode != Contender::Mode::kPolicy) {
      EXPECT_EQ(result.activity.links[0].moved, Bytes(0));
    }
  }
}

TEST(SimulationTest, NothingEndsBeforeTheBound) {
  for (uint64_t seed = 1; seed <= 10; ++seed) {
    SCOPED_TRACE(seed);
    const std::vector<TraceRequest> requests = SmallWorkload(seed, 60, 0);
    const SimulationOptions options = SmallSimulation();
    const SimulationResult result = MustSimulate(requests, options);
    WorkLimits limits;
    limits.step_tokens = options.scheduler.step_token_limit;
    limits.max_running = options.scheduler.max_running;
    const Summary summary = Summarize(result, options.machine.cost, limits, {});
    EXPECT_GT(summary.bound_s, 0);
    EXPECT_LE(summary.bound_s, summary.makespan_s);
    EXPECT_LE(summary.device_busy_s, summary.makespan_s + 1e-9);
    EXPECT_LE(summary.link_busy_s[0], summary.makespan_s + 1e-9);
    EXPECT_GE(summary.slowdown.mean, 1);
  }
}

TEST(SimulationTest, TheSameSeedGivesTheSameResult) {
  SimulationOptions options = SmallSimulation();
  options.machine.noise = 0.2;
  options.machine.copy_failure_rate = 0.1;
  const std::vector<TraceRequest> requests = SmallWorkload(3, 120, 4);
  const SimulationResult a = MustSimulate(requests, options);
  const SimulationResult b = MustSimulate(requests, options);
  options.machine.seed = 1;
  const SimulationResult c = MustSimulate(requests, options);
  bool differs = false;
  for (size_t i = 0; i < requests.size(); ++i) {
    EXPECT_EQ(a.requests[i].first_token, b.requests[i].first_token);
    EXPECT_EQ(a.requests[i].finished, b.requests[i].finished);
    differs |= a.requests[i].finished != c.requests[i].finished;
  }
  EXPECT_TRUE(differs);
}

TEST(SimulationTest, FailingCopiesCostTimeAndNothingElse) {
  SimulationOptions options = SmallSimulation();
  const std::vector<TraceRequest> requests = SmallWorkload(4, 150, 6);
  options.machine.copy_failure_rate = 0.3;
  const SimulationResult result = MustSimulate(requests, options);
  int64_t failed = 0;
  for (const RequestRecord& r : result.requests) failed += r.completed() ? 0 : 1;
  EXPECT_EQ(failed, 0);
  EXPECT_GT(result.scheduler.tokens_recomputed + result.scheduler.prompt_tokens_computed,
            MustSimulate(requests, SmallSimulation()).scheduler.prompt_tokens_computed);
}

TEST(SimulationTest, FailingStepsEndTheirRequestsOnly) {
  SimulationOptions options = SmallSimulation();
  options.machine.step_failure_rate = 0.02;
  const std::vector<TraceRequest> requests = SmallWorkload(5, 100, 20);
  const SimulationResult result = MustSimulate(requests, options);
  int64_t completed = 0;
  int64_t failed = 0;
  for (const RequestRecord& r : result.requests) {
    ASSERT_TRUE(r.ended);
    ++(r.completed() ? completed : failed);
    EXPECT_EQ(r.code, r.completed() ? absl::StatusCode::kOk : absl::StatusCode::kInternal);
  }
  EXPECT_GT(failed, 0);
  EXPECT_GT(completed, failed);
}

TEST(SimulationTest, WhatNeverFitsIsRefusedAndCounted) {
  std::vector<TraceRequest> requests = SmallWorkload(6, 5, 10);
  requests[2].prompt.Append(999, Tokens(3000));
  const SimulationOptions options = SmallSimulation();
  const SimulationResult result = MustSimulate(requests, options);
  EXPECT_TRUE(result.requests[2].refused);
  EXPECT_EQ(result.requests[2].code, absl::StatusCode::kInvalidArgument);
  const Summary summary = Summarize(result, options.machine.cost, {}, {});
  EXPECT_EQ(summary.requests, 5);
  EXPECT_EQ(summary.completed, 4);
  EXPECT_EQ(summary.rejected, 1);
}

TEST(SimulationTest, ProgressCanStopIt) {
  const std::vector<TraceRequest> requests = SmallWorkload(7, 300, 5);
  int64_t seen = 0;
  const absl::StatusOr<SimulationResult> result =
      Simulate(requests, SmallSimulation(), [&](int64_t ended) {
        seen = ended;
        return ended < 100;
      });
  EXPECT_EQ(result.status().code(), absl::StatusCode::kCancelled);
  EXPECT_GE(seen, 100);
  EXPECT_LT(seen, 300);
}

TEST(SimulationTest, PoolsThatDisagreeAreRefused) {
  SimulationOptions options = SmallSimulation();
  options.machine.host_blocks = Blocks(1);
  EXPECT_THAT(Simulate(SmallWorkload(1, 1, 1), options).status().message(),
              HasSubstr("pools differ"));
}

TEST(SimulationTest, TheWindowShowsTheRequestsInTheMiddle) {
  SimulationOptions options = SmallSimulation();
  options.window_requests = 10;
  const SimulationResult result = MustSimulate(SmallWorkload(8, 100, 10), options);
  EXPECT_EQ(result.window_first, 45u);
  EXPECT_EQ(result.window_last, 55u);
  ASSERT_FALSE(result.window_steps.empty());
  for (size_t i = 45; i < 55; ++i) {
    EXPECT_LE(result.window_steps.front().from, result.requests[i].finished);
    EXPECT_GE(result.window_steps.back().to, result.requests[i].finished - 1e-9);
  }
  ASSERT_FALSE(result.usage.empty());
  for (size_t i = 1; i < result.usage.size(); ++i) {
    EXPECT_GT(result.usage[i].at, result.usage[i - 1].at);
    EXPECT_GE(result.usage[i].compute_s, result.usage[i - 1].compute_s);
  }
}

// At 60 % the queue stays short, at 150 % it grows to the end.
TEST(LoadLevelTest, ArrivalsAreScaledToTheUtilization) {
  const SimulationOptions options = SmallSimulation();
  const std::vector<TraceRequest> workload = SmallWorkload(9, 400, 50);
  double mean_at_low = 0;
  for (const double utilization : {0.6, 1.5}) {
    SCOPED_TRACE(utilization);
    std::vector<TraceRequest> requests = workload;
    const absl::StatusOr<double> scale = RateScaleFor(requests, options, utilization);
    ASSERT_TRUE(scale.ok()) << scale.status();
    ScaleRate(*scale, &requests);
    const SimulationResult result = MustSimulate(requests, options);
    const Distribution ttft = DistributionOf(TtftsOf(result));
    const double span = absl::ToDoubleSeconds(requests.back().arrival);
    if (utilization < 1) {
      mean_at_low = ttft.mean;
      EXPECT_LT(ttft.max, 0.2 * span);
    } else {
      EXPECT_GT(ttft.mean, 4 * mean_at_low);
      EXPECT_GT(result.requests.back().finished, 1.25 * span);
    }
  }
}

TEST(LoadLevelTest, ABurstHasNoRateToScale) {
  EXPECT_THAT(RateScaleFor(SmallWorkload(1, 5, 0), SmallSimulation(), 0.9).status().message(),
              HasSubstr("arrive at once"));
}

TEST(ContenderTest, NamesAreCheckedAndReferencesCombined) {
  EXPECT_THAT(ParseContenders("fcfs,nonsense").status().message(), HasSubstr("\"nonsense\""));
  EXPECT_THAT(ParseContenders("fcfs,fcfs").status().message(), HasSubstr("named twice"));
  EXPECT_THAT(ParseContenders("what@offload-off").status().message(), HasSubstr("what@offload"));
  EXPECT_THAT(ParseContenders("").status().message(), HasSubstr("slack"));
  const auto contenders = ParseContenders("fcfs, lpm@offload-off,all-resident");
  ASSERT_TRUE(contenders.ok());
  EXPECT_EQ((*contenders)[1].policy, "lpm");
  EXPECT_EQ((*contenders)[1].mode, Contender::Mode::kOffloadOff);
  EXPECT_EQ((*contenders)[2].policy, "slack");
  EXPECT_EQ((*contenders)[2].mode, Contender::Mode::kAllResident);
}

}  // namespace
}  // namespace sluice
