#include "service/cli/plan_result.h"

#include <cmath>

#include "absl/strings/str_cat.h"
#include "service/report/number_text.h"

namespace sluice {
namespace {

// Gains below this are within what the model can tell.
constexpr double kWorthwhile = 1.03;
constexpr double kHelps = 0.05;
constexpr double kMostlyHidden = 0.2;

const char* BasisText(RateBasis basis) {
  switch (basis) {
    case RateBasis::kSustained:
      return "sustained rates";
    case RateBasis::kPeakDense:
      return "peak rates of the data sheets";
    case RateBasis::kPaper:
      break;
  }
  return "the paper's constants";
}

std::string Time(Seconds time) { return FormatSeconds(time.value()); }

// What limits, for one request or many.
std::string Bottleneck(const PlanResult& result) {
  const PlanAnalysis& a = result.now.analysis;
  const bool link = a.load > a.prefill;
  if (result.requests.single) {
    return absl::StrCat("loading takes ", Time(a.load), " and computing the new tokens ",
                        Time(a.prefill), ", so the ", link ? "link" : "device",
                        " is the bottleneck");
  }
  const std::string share = FormatPercent(a.link_bound_by_slack, 2);
  if (a.link_bound_by_slack < kMostlyHidden && !link) {
    return absl::StrCat("only ", share,
                        " of the requests load longer than they compute, so the device is the "
                        "bottleneck");
  }
  return absl::StrCat(share, " of the requests load longer than they compute and transfers take ",
                      FormatPercent(a.transfer_share, 2), " of the time, so the ",
                      link ? "link" : "device", " is the bottleneck");
}

// The what-if with the least time to first token, if it helps at all.
std::string BestChange(const PlanResult& result) {
  const Seconds now = TtftOf(result.now.analysis, TtftKind::kBest);
  const PlanResult::Outcome* best = nullptr;
  Seconds least = now * (1 - kHelps);
  for (const PlanResult::Outcome& outcome : result.what_ifs) {
    const Seconds ttft = TtftOf(outcome.analysis, TtftKind::kBest);
    if (ttft >= least) continue;
    least = ttft;
    best = &outcome;
  }
  if (best == nullptr) {
    return result.what_ifs.empty() ? "" : "; none of the changes below makes it 5 % faster";
  }
  return absl::StrCat("; of the changes below, ", best->scenario.label, " helps most (",
                      Time(least), ", ", ChangeText(least.value(), now.value()), ")");
}

}  // namespace

Seconds TtftOf(const PlanAnalysis& analysis, TtftKind kind) {
  return analysis.ttft[static_cast<size_t>(kind)];
}

std::string RateText(ByteRate rate) {
  return absl::StrCat(FormatSignificant(rate.value() / 1e9, 3), " GB/s");
}

std::string DeploymentText(const Deployment& d) {
  return absl::StrCat(
      d.model.name, " on ",
      d.tensor_parallel > 1 ? absl::StrCat(d.tensor_parallel, " x ") : std::string(),
      d.hardware.name);
}

std::string AssumptionsText(const Deployment& d) {
  std::string text = absl::StrCat(BasisText(d.basis), "; weights ", NumberFormatName(d.weights),
                                  ", KV ", NumberFormatName(d.kv));
  if (d.kv_offload != d.kv)
    absl::StrAppend(&text, " (off the device ", NumberFormatName(d.kv_offload), ")");
  absl::StrAppend(&text, "; link ", RateText(EffectiveLinkRate(d)), ", compute ",
                  FormatSignificant(EffectiveFlopRate(d).value() / 1e12, 4), " TFLOP/s");
  if (d.power_cap.has_value()) {
    absl::StrAppend(&text, "; capped at ", FormatSignificant(d.power_cap->value(), 4),
                    " W per device");
  }
  return text;
}

std::string ChangeText(double value, double base) {
  if (!std::isfinite(value) || !std::isfinite(base) || base == 0) return "–";
  const double change = value / base - 1;
  if (std::abs(change) < 0.005) return "same";
  if (change >= 9) return absl::StrCat("x ", FormatSignificant(value / base, 3));
  return absl::StrCat(change > 0 ? "+" : "-", FormatSignificant(std::abs(change) * 100, 2), " %");
}

std::string Recommendation(const PlanResult& result) {
  const PlanAnalysis& a = result.now.analysis;
  if (a.cold_share == 1) {
    return "Nothing is cached, so offloading has nothing to do here; the device computes every "
           "prompt.";
  }
  const Seconds off = TtftOf(a, TtftKind::kRecompute);
  const Seconds best = TtftOf(a, TtftKind::kBest);
  const std::string mean = result.requests.single ? "" : "mean ";
  if (off / best < kWorthwhile) {
    return absl::StrCat("Offloading does not pay: computing the cached tokens again gives a ", mean,
                        "time to first token of ", Time(off), ", the best plan with offloading ",
                        Time(best), "; ", Bottleneck(result), BestChange(result), ".");
  }
  return absl::StrCat("Offload: the ", mean, "time to first token falls from ", Time(off),
                      " (computing everything again) to ", Time(best), " (",
                      FormatSignificant(off / best, 2), "x); ", Bottleneck(result),
                      BestChange(result), ".");
}

}  // namespace sluice
