#include "service/cli/top_rates.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace sluice {
namespace {

// From here on a resource counts as the one that limits.
constexpr double kBusy = 0.85;
constexpr double kMuchStall = 0.2;

double Share(double part, double whole) {
  return whole > 0 ? std::clamp(part / whole, 0.0, 1.0) : 0;
}

double Difference(uint64_t now, uint64_t before) {
  return now > before ? static_cast<double>(now - before) : 0;
}

double WallOf(const v1::Activity& a) {
  return a.compute_only_s() + a.transfer_only_s() + a.both_s() + a.idle_s();
}

uint64_t LoadedTokens(const v1::Activity& a) {
  uint64_t tokens = 0;
  for (const v1::TierActivity& tier : a.tiers()) {
    if (tier.tier() != "device") tokens += tier.hit_tokens();
  }
  return tokens;
}

void FillTenants(const v1::Activity& before, const v1::Activity& now, TopRates* rates) {
  std::map<std::string, const v1::TenantActivity*> earlier;
  for (const v1::TenantActivity& tenant : before.tenants()) earlier[tenant.tenant()] = &tenant;
  double device = 0, link = 0;
  for (const v1::TenantActivity& tenant : now.tenants()) {
    const auto found = earlier.find(tenant.tenant());
    const v1::TenantActivity none;
    const v1::TenantActivity& old = found == earlier.end() ? none : *found->second;
    TopRates::Tenant shown;
    shown.name = tenant.tenant();
    shown.live = tenant.live();
    shown.finished = tenant.finished();
    if (rates->seconds > 0) {
      shown.tokens_per_s = Difference(tenant.output_tokens(), old.output_tokens()) / rates->seconds;
    }
    shown.device = std::max(0.0, tenant.device_s() - old.device_s());
    shown.link = std::max(0.0, tenant.link_s() - old.link_s());
    device += shown.device;
    link += shown.link;
    rates->tenants.push_back(std::move(shown));
  }
  for (TopRates::Tenant& tenant : rates->tenants) {
    tenant.device = Share(tenant.device, device);
    tenant.link = Share(tenant.link, link);
  }
  std::stable_sort(rates->tenants.begin(), rates->tenants.end(),
                   [](const TopRates::Tenant& a, const TopRates::Tenant& b) {
                     return a.device != b.device ? a.device > b.device : a.live > b.live;
                   });
}

std::string Percent(double share) { return absl::StrFormat("%.0f %%", share * 100); }

}  // namespace

TopRates MakeTopRates(const v1::Activity& before, const v1::Activity& now) {
  TopRates rates;
  rates.seconds = std::max(0.0, WallOf(now) - WallOf(before));
  const double wall = rates.seconds;
  const auto per_second = [wall](double amount) { return wall > 0 ? amount / wall : 0; };
  const double both = now.both_s() - before.both_s();
  rates.device_busy = Share(now.compute_only_s() - before.compute_only_s() + both, wall);
  rates.overlap = Share(both, wall);
  rates.idle = Share(now.idle_s() - before.idle_s(), wall);
  rates.stall = Share(now.load_stall_s() - before.load_stall_s(), wall);
  for (int i = 0; i < now.links_size(); ++i) {
    const v1::LinkActivity& link = now.links(i);
    const v1::LinkActivity none;
    const v1::LinkActivity& old = i < before.links_size() ? before.links(i) : none;
    rates.links.push_back({absl::StrCat(link.source(), " -> ", link.target()),
                           Share(link.busy_s() - old.busy_s(), wall),
                           per_second(Difference(link.bytes(), old.bytes())),
                           link.in_flight_bytes()});
  }
  const double computed = Difference(now.prompt_tokens_computed(), before.prompt_tokens_computed());
  const double loaded = Difference(LoadedTokens(now), LoadedTokens(before));
  rates.output_tokens_per_s = per_second(Difference(now.output_tokens(), before.output_tokens()));
  rates.prompt_tokens_per_s = per_second(computed + loaded);
  rates.finished_per_s =
      per_second(Difference(now.requests_finished(), before.requests_finished()));
  rates.loaded = computed > 0;
  rates.kappa = computed > 0 ? loaded / computed : 0;
  FillTenants(before, now, &rates);
  for (const auto& [name, count] : now.decisions()) {
    const auto old = before.decisions().find(name);
    const uint64_t from = old == before.decisions().end() ? 0 : old->second;
    rates.decisions_per_s[name] = per_second(Difference(count, from));
  }
  return rates;
}

std::string Bottleneck(const v1::Activity& now, const TopRates& rates) {
  if (now.draining()) return "draining: new requests are refused";
  if (now.running() + now.waiting() == 0 && rates.device_busy < 0.01) return "idle: no requests";
  const auto link = std::max_element(
      rates.links.begin(), rates.links.end(),
      [](const TopRates::Link& a, const TopRates::Link& b) { return a.busy < b.busy; });
  const double link_busy = link == rates.links.end() ? 0 : link->busy;
  if (link_busy >= kBusy && rates.device_busy >= kBusy) {
    return absl::StrCat("none is spare: device ", Percent(rates.device_busy), " and ", link->name,
                        " ", Percent(link_busy), " busy");
  }
  if (link_busy >= kBusy) {
    return absl::StrCat("the link ", link->name, ": ", Percent(link_busy), " busy, device ",
                        Percent(rates.device_busy));
  }
  if (rates.device_busy >= kBusy) {
    return absl::StrCat("compute: device ", Percent(rates.device_busy), " busy, links at most ",
                        Percent(link_busy));
  }
  if (rates.stall >= kMuchStall) {
    return absl::StrCat("loads: steps wait for copies ", Percent(rates.stall), " of the time");
  }
  const auto blocks = rates.decisions_per_s.find("wait_blocks");
  if (now.waiting() > 0 && blocks != rates.decisions_per_s.end() && blocks->second > 0) {
    return absl::StrCat("device memory: ", now.waiting(), " requests wait for blocks");
  }
  return absl::StrCat("none: device ", Percent(rates.device_busy), " busy, links at most ",
                      Percent(link_busy));
}

}  // namespace sluice
