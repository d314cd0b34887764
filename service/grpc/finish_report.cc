#include "service/grpc/finish_report.h"

#include <algorithm>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace sluice {
namespace {

uint32_t Count(Tokens tokens) { return static_cast<uint32_t>(tokens.value()); }

Tokens Cached(const RequestStats& stats, Tier tier) {
  return stats.cached[static_cast<size_t>(tier)];
}

double SecondsBetween(absl::Time from, absl::Time to) {
  if (from == absl::InfiniteFuture() || to == absl::InfiniteFuture()) return 0;
  return std::max(0.0, absl::ToDoubleSeconds(to - from));
}

std::string PlanReason(const RequestStats& stats) {
  const int64_t prompt = stats.prompt.value();
  const int64_t resident = Cached(stats, Tier::kDevice).value();
  const int64_t loaded = prompt - resident - stats.computed.value();
  switch (stats.plan) {
    case RequestPlan::kResident:
      if (resident == 0) {
        return absl::StrCat("Nothing of the prompt was cached, so all ", prompt,
                            " tokens were computed.");
      }
      return absl::StrCat(resident, " of ", prompt,
                          " prompt tokens were cached on the device, so nothing had to move.");
    case RequestPlan::kLoad:
      return absl::StrFormat(
          "%d of %d prompt tokens were cached off the device and loaded (%.1f MiB, %.1f ms of them "
          "waited for) instead of computed again.",
          loaded, prompt, static_cast<double>(stats.loaded.value()) / (1 << 20),
          absl::ToDoubleMilliseconds(stats.load_exposed));
    case RequestPlan::kSplit:
      return absl::StrFormat(
          "%d cached prompt tokens were computed again while %d others were loaded (%.1f MiB), so "
          "that link and compute ended together.",
          stats.cached_recomputed.value(), loaded,
          static_cast<double>(stats.loaded.value()) / (1 << 20));
    case RequestPlan::kInPlace:
      return absl::StrCat(stats.attended_in_place.value(), " of ", prompt,
                          " prompt tokens were attended to in host memory instead of moved.");
    case RequestPlan::kRecompute:
      return absl::StrCat("Cached blocks off the device were computed again, not loaded: ",
                          stats.computed.value(), " of ", prompt, " prompt tokens were computed.");
  }
  return "";
}

}  // namespace

v1::Usage MakeUsage(const RequestStats& stats, int64_t output_tokens) {
  v1::Usage usage;
  usage.set_prompt_tokens(Count(stats.prompt));
  usage.set_output_tokens(static_cast<uint32_t>(output_tokens));
  usage.set_cached_device_tokens(Count(Cached(stats, Tier::kDevice)));
  usage.set_cached_host_tokens(Count(Cached(stats, Tier::kHost)));
  usage.set_cached_disk_tokens(Count(Cached(stats, Tier::kDisk)));
  usage.set_cached_remote_tokens(Count(Cached(stats, Tier::kRemote)));
  usage.set_computed_tokens(Count(stats.computed));
  usage.set_recomputed_tokens(Count(stats.recomputed));
  usage.set_attended_in_place_tokens(Count(stats.attended_in_place));
  usage.set_loaded_bytes(static_cast<uint64_t>(stats.loaded.value()));
  return usage;
}

v1::Timing MakeTiming(const RequestStats& stats, bool link_emulated) {
  v1::Timing timing;
  timing.set_queue_s(SecondsBetween(stats.arrival, stats.admitted));
  timing.set_ttft_s(SecondsBetween(stats.arrival, stats.first_token));
  timing.set_total_s(SecondsBetween(stats.arrival, stats.finished));
  timing.set_compute_s(absl::ToDoubleSeconds(stats.compute));
  timing.set_load_exposed_s(absl::ToDoubleSeconds(stats.load_exposed));
  timing.set_load_overlapped_s(
      absl::ToDoubleSeconds(std::max(absl::ZeroDuration(), stats.load_busy - stats.load_exposed)));
  timing.set_load_queued_s(absl::ToDoubleSeconds(stats.load_queued));
  timing.set_preemptions(static_cast<uint32_t>(stats.preemptions));
  timing.set_kappa_ratio(stats.kappa());
  timing.set_plan(RequestPlanName(stats.plan));
  timing.set_plan_reason(PlanReason(stats));
  timing.set_link_emulated(link_emulated);
  return timing;
}

}  // namespace sluice
