#include "service/telemetry/request_series.h"

#include <algorithm>

#include "service/telemetry/buckets.h"

namespace sluice {
namespace {

constexpr std::array<const char*, kFinishReasonCount> kOutcomes = {"stop", "length", "abort",
                                                                   "deadline", "error"};
constexpr std::array kParts = {"queue", "load", "stall", "prefill", "decode"};

// In the order of RequestPlan.
constexpr std::array<Decision, kRequestPlanCount> kPlanDecisions = {
    Decision::kAdmitResident, Decision::kAdmitLoad, Decision::kAdmitSplit, Decision::kAdmitInPlace,
    Decision::kAdmitRecompute};

double InSeconds(absl::Duration d) { return absl::ToDoubleSeconds(d); }

double Count(const SchedulerStats& stats, Decision decision) {
  return static_cast<double>(stats.decisions[static_cast<size_t>(decision)]);
}

}  // namespace

RequestSeries::RequestSeries(SeriesMaker& make)
    : running_(make.Gauge("sluice_requests_running", "Admitted requests.")),
      waiting_(make.Gauge("sluice_requests_waiting", "Requests not yet admitted.")),
      loading_(
          make.Gauge("sluice_requests_loading", "Admitted requests whose loads are under way.")),
      ended_(make.Counters("sluice_requests_total", "Requests that ended, by outcome.")),
      rejected_(ended_.Add({{"outcome", "rejected"}})),
      ttft_(make.Histogram("sluice_time_to_first_token_seconds",
                           "From request accepted to its first token leaving the engine.",
                           buckets::kTtftSeconds)),
      itl_(make.Histogram("sluice_inter_token_latency_seconds", "Between two tokens of a request.",
                          buckets::kItlSeconds)),
      tpot_(make.Histogram("sluice_time_per_output_token_seconds",
                           "Mean time per output token after the first, per request.",
                           buckets::kItlSeconds)),
      e2e_(make.Histogram("sluice_e2e_request_latency_seconds", "From request accepted to its end.",
                          buckets::kE2eSeconds)),
      queue_(make.Histogram("sluice_request_queue_seconds", "From request accepted to admitted.",
                            buckets::kTtftSeconds)),
      prompt_tokens_(make.Histogram("sluice_request_prompt_tokens", "Tokens of a prompt.",
                                    buckets::kRequestTokens)),
      generated_tokens_(make.Histogram("sluice_request_generated_tokens",
                                       "Output tokens of a request.", buckets::kRequestTokens)),
      kappa_(make.Histogram("sluice_request_kappa_ratio",
                            "Tokens loaded from off the device per token computed, per request.",
                            buckets::kKappa)),
      slack_(make.Histogram("sluice_request_slack_seconds",
                            "Compute time of a request's prompt minus the time its loads kept the "
                            "link busy; below zero the link takes longer.",
                            buckets::kSlackSeconds)),
      predicted_(make.Histogram("sluice_scheduler_predicted_ttft_seconds",
                                "Time to first token as predicted at arrival.",
                                buckets::kTtftSeconds)),
      prediction_error_(
          make.Histogram("sluice_scheduler_ttft_prediction_error_ratio",
                         "(Actual - predicted) / predicted time to first token; above "
                         "zero it came later than predicted.",
                         buckets::kErrorRatio)),
      bounds_given_(make.Counter("sluice_wait_bounds_total",
                                 "Admitted requests that were promised a longest wait.")),
      bounds_broken_(make.Counter("sluice_wait_bounds_broken_total",
                                  "Those of them that waited longer than promised.")) {
  for (size_t i = 0; i < kOutcomes.size(); ++i) {
    outcomes_[i] = &ended_.Add({{"outcome", kOutcomes[i]}});
  }
  auto& plans = make.Counters("sluice_request_plans_total",
                              "Admissions by how the request's cached KV is used.");
  for (int i = 0; i < kRequestPlanCount; ++i) {
    plans_.emplace_back(plans.Add({{"plan", RequestPlanName(static_cast<RequestPlan>(i))}}));
  }
  auto& preemptions =
      make.Counters("sluice_preemptions_total", "Requests whose device blocks were taken away.");
  for (const char* mode : {"swap", "recompute"}) {
    preemptions_.emplace_back(preemptions.Add({{"mode", mode}}));
  }
  auto& parts = make.Counters("sluice_request_time_seconds_total",
                              "Time of finished requests by what they spent it on; the parts of a "
                              "request sum to its end-to-end latency.");
  for (const char* part : kParts) parts_.push_back(&parts.Add({{"part", part}}));
}

void RequestSeries::Observe(const SchedulerStats& stats) {
  running_.Set(static_cast<double>(stats.running));
  waiting_.Set(static_cast<double>(stats.waiting));
  loading_.Set(static_cast<double>(stats.loading));
  for (size_t i = 0; i < plans_.size(); ++i) plans_[i].Follow(Count(stats, kPlanDecisions[i]));
  preemptions_[0].Follow(Count(stats, Decision::kPreemptSwap));
  preemptions_[1].Follow(Count(stats, Decision::kPreemptRecompute));
}

void RequestSeries::OnFinish(const RequestFinish& finish, const RequestTimes& times) {
  const RequestStats& stats = finish.stats;
  outcomes_[static_cast<size_t>(finish.reason)]->Increment();
  e2e_.Observe(InSeconds(stats.finished - stats.arrival));
  NoteParts(stats, times);
  if (stats.admitted == absl::InfiniteFuture()) return;
  const absl::Duration waited = stats.admitted - stats.arrival;
  queue_.Observe(InSeconds(waited));
  prompt_tokens_.Observe(AsDouble(stats.prompt));
  generated_tokens_.Observe(AsDouble(stats.output));
  if (stats.output > Tokens(1)) {
    tpot_.Observe(InSeconds(stats.finished - stats.first_token) / (AsDouble(stats.output) - 1));
  }
  if (stats.wait_bound != absl::InfiniteDuration()) {
    bounds_given_.Increment();
    if (waited > stats.wait_bound) bounds_broken_.Increment();
  }
  kappa_.Observe(stats.kappa());
  if (stats.first_token == absl::InfiniteFuture()) return;
  slack_.Observe(InSeconds(times.prefill - stats.load_busy));
  NotePrediction(stats);
}

void RequestSeries::NoteParts(const RequestStats& stats, const RequestTimes& times) {
  const absl::Time admitted = std::min(stats.admitted, stats.finished);
  const absl::Time first_step = times.first_step == absl::InfinitePast()
                                    ? stats.finished
                                    : std::clamp(times.first_step, admitted, stats.finished);
  const absl::Time first_token = std::clamp(stats.first_token, first_step, stats.finished);
  // Whatever its loads held up was held up before the first token.
  const absl::Duration stall =
      std::clamp(stats.load_exposed, absl::ZeroDuration(), first_token - first_step);
  const std::array<absl::Duration, kParts.size()> spent = {
      admitted - stats.arrival, first_step - admitted, stall, first_token - first_step - stall,
      stats.finished - first_token};
  for (size_t i = 0; i < spent.size(); ++i) parts_[i]->Increment(InSeconds(spent[i]));
}

void RequestSeries::NotePrediction(const RequestStats& stats) {
  if (stats.predicted_ttft == absl::InfiniteDuration()) return;
  const double predicted = InSeconds(stats.predicted_ttft);
  predicted_.Observe(predicted);
  if (predicted <= 0) return;
  const double actual = InSeconds(stats.first_token - stats.arrival);
  prediction_error_.Observe((actual - predicted) / predicted);
}

}  // namespace sluice
