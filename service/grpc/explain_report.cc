#include "service/grpc/explain_report.h"

#include <optional>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"

namespace sluice {
namespace {

uint32_t Count(Tokens tokens) { return static_cast<uint32_t>(tokens.value()); }

Tokens NewTokens(const Explanation& e) { return e.prompt - e.on_device - e.on_host - e.on_disk; }

const Explanation::Plan& PlanOf(const Explanation& e, RequestPlan plan) {
  return e.plans[static_cast<size_t>(plan)];
}

std::string Time(absl::Duration duration) {
  return absl::StrFormat("%.1f ms", absl::ToDoubleMilliseconds(duration));
}

// The cheapest possible plan besides the chosen one.
std::optional<RequestPlan> NextBest(const Explanation& e) {
  std::optional<RequestPlan> best;
  for (int i = 0; i < kRequestPlanCount; ++i) {
    const auto plan = static_cast<RequestPlan>(i);
    if (plan == e.plan || !PlanOf(e, plan).possible) continue;
    if (!best.has_value() || PlanOf(e, plan).price < PlanOf(e, *best).price) best = plan;
  }
  return best;
}

const char* InStorage(std::string_view storage) {
  if (storage == "disk") return "on disk";
  return storage == "remote" ? "in the remote store" : "on disk or in the remote store";
}

std::string Places(const Explanation& e, std::string_view storage) {
  std::vector<std::string> places;
  const auto add = [&](Tokens tokens, const char* where) {
    if (tokens > Tokens(0)) places.push_back(absl::StrCat(tokens.value(), " ", where));
  };
  add(e.on_device, "on the device");
  add(e.on_host, "in host memory");
  add(e.on_disk, InStorage(storage));
  add(NewTokens(e), "new");
  return absl::StrCat("Of ", e.prompt.value(), " prompt tokens, ", absl::StrJoin(places, ", "));
}

std::string Comparison(const Explanation& e) {
  const std::optional<RequestPlan> other = NextBest(e);
  if (!other.has_value()) return "nothing else is possible";
  const double price = PlanOf(e, e.plan).price * 1e3;
  const double other_price = PlanOf(e, *other).price * 1e3;
  const char* other_name = RequestPlanName(*other);
  if (price <= other_price) {
    return absl::StrFormat("at a price of %.1f ms, against %.1f ms of %s, the next best", price,
                           other_price, other_name);
  }
  return absl::StrFormat(
      "as the policy always does, at a price of %.1f ms although %s has one of %.1f ms", price,
      other_name, other_price);
}

std::string Reason(const Explanation& e, std::string_view storage) {
  const Explanation::Plan& plan = PlanOf(e, e.plan);
  return absl::StrCat(Places(e, storage), "; ", RequestPlanName(e.plan), " adds ", Time(plan.link),
                      " to the link and ", Time(plan.compute), " to compute, ", Comparison(e), ".");
}

v1::PlanEstimate MakePlan(RequestPlan plan, const Explanation::Plan& estimate) {
  v1::PlanEstimate out;
  out.set_plan(RequestPlanName(plan));
  out.set_possible(estimate.possible);
  if (!estimate.possible) return out;
  out.set_link_s(absl::ToDoubleSeconds(estimate.link));
  out.set_compute_s(absl::ToDoubleSeconds(estimate.compute));
  out.set_ready_s(absl::ToDoubleSeconds(estimate.ready));
  out.set_price(estimate.price);
  return out;
}

}  // namespace

v1::ExplainResponse MakeExplainResponse(const Explanation& e, std::string_view storage) {
  v1::ExplainResponse out;
  out.set_prompt_tokens(Count(e.prompt));
  out.set_device_tokens(Count(e.on_device));
  out.set_host_tokens(Count(e.on_host));
  out.set_disk_tokens(Count(e.on_disk));
  out.set_new_tokens(Count(NewTokens(e)));
  out.set_pending_tokens(Count(e.pending));
  for (int i = 0; i < kRequestPlanCount; ++i) {
    const auto plan = static_cast<RequestPlan>(i);
    *out.add_plans() = MakePlan(plan, PlanOf(e, plan));
  }
  out.set_plan(RequestPlanName(e.plan));
  out.set_reason(Reason(e, storage));
  out.set_predicted_ttft_s(absl::ToDoubleSeconds(e.predicted_ttft));
  out.set_waiting(static_cast<uint32_t>(e.waiting));
  out.set_fits_now(e.fits_now);
  out.set_kappa(e.kappa);
  out.set_kappa_critical(e.kappa_critical);
  out.mutable_prices()->set_link(e.link_price);
  out.mutable_prices()->set_compute(e.compute_price);
  out.mutable_prices()->set_memory(e.memory_price);
  return out;
}

}  // namespace sluice
