#include "service/telemetry/tenant_series.h"

#include <algorithm>

#include "service/telemetry/buckets.h"

namespace sluice {
namespace {

constexpr char kOther[] = "other";

double InSeconds(absl::Duration d) { return absl::ToDoubleSeconds(d); }

}  // namespace

TenantSeries::TenantSeries(SeriesMaker& make)
    : requests_(make.Counters("sluice_tenant_requests_total", "Requests that ended, by tenant.")),
      tokens_(make.Counters("sluice_tenant_tokens_total",
                            "Tokens of finished requests, by tenant and kind.")),
      device_(make.Counters("sluice_tenant_device_seconds_total",
                            "Device time of finished requests: their share of their steps.")),
      link_(make.Counters("sluice_tenant_link_seconds_total",
                          "Link time of the loads of finished requests.")),
      block_seconds_(make.Counters("sluice_tenant_kv_block_seconds_total",
                                   "Device KV blocks held by finished requests, times seconds.")),
      ttft_(make.Histograms("sluice_tenant_time_to_first_token_seconds",
                            "Time to first token, by tenant.")) {
  AddSlot("default");
}

int TenantSeries::AddSlot(const std::string& name) {
  const Labels at = {{"tenant", name}};
  const auto with = [&](const char* key, const char* value) {
    Labels labels = at;
    labels[key] = value;
    return labels;
  };
  series_.push_back(
      {&requests_.Add(with("outcome", "finished")), &requests_.Add(with("outcome", "rejected")),
       &tokens_.Add(with("kind", "prompt")), &tokens_.Add(with("kind", "output")), &device_.Add(at),
       &link_.Add(at), &block_seconds_.Add(at), &ttft_.Add(at, buckets::kTenantSeconds)});
  const auto slot = static_cast<int>(series_.size()) - 1;
  slots_[name] = slot;
  std::lock_guard<std::mutex> lock(mu_);
  use_.push_back({});
  use_.back().name = name;
  return slot;
}

int TenantSeries::Slot(const std::string& tenant) {
  const auto found = slots_.find(tenant);
  if (found != slots_.end()) return found->second;
  if (series_.size() < kMaxTenants) return AddSlot(tenant);
  if (other_ < 0) other_ = AddSlot(kOther);
  return other_;
}

void TenantSeries::OnArrival(int slot) {
  std::lock_guard<std::mutex> lock(mu_);
  ++use_[static_cast<size_t>(slot)].live;
}

void TenantSeries::OnFirstToken(int slot, absl::Duration since_arrival) {
  series_[static_cast<size_t>(slot)].ttft->Observe(InSeconds(since_arrival));
}

void TenantSeries::OnFinish(int slot, const RequestStats& stats) {
  const Series& series = series_[static_cast<size_t>(slot)];
  series.finished->Increment();
  series.prompt->Increment(AsDouble(stats.prompt));
  series.output->Increment(AsDouble(stats.output));
  series.device->Increment(InSeconds(stats.device_share));
  series.link->Increment(InSeconds(stats.load_busy));
  series.block_seconds->Increment(stats.block_seconds);
  std::lock_guard<std::mutex> lock(mu_);
  TenantUse& use = use_[static_cast<size_t>(slot)];
  --use.live;
  ++use.finished;
  use.prompt += stats.prompt;
  use.output += stats.output;
  use.device += stats.device_share;
  use.link += stats.load_busy;
}

void TenantSeries::OnRefused(int slot) {
  series_[static_cast<size_t>(slot)].rejected->Increment();
  std::lock_guard<std::mutex> lock(mu_);
  --use_[static_cast<size_t>(slot)].live;
}

std::vector<TenantUse> TenantSeries::Busiest(size_t limit) const {
  std::vector<TenantUse> busiest;
  {
    std::lock_guard<std::mutex> lock(mu_);
    busiest = use_;
  }
  std::erase_if(busiest, [](const TenantUse& t) { return t.live == 0 && t.finished == 0; });
  std::stable_sort(busiest.begin(), busiest.end(),
                   [](const TenantUse& a, const TenantUse& b) { return a.device > b.device; });
  if (busiest.size() > limit) busiest.resize(limit);
  return busiest;
}

}  // namespace sluice
