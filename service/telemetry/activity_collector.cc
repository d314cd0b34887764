#include "service/telemetry/activity_collector.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "service/telemetry/family.h"
#include "service/telemetry/link_labels.h"

namespace sluice {
namespace {

using prometheus::MetricType;
using Labels = std::map<std::string, std::string>;

double InSeconds(absl::Duration d) { return absl::ToDoubleSeconds(d); }

}  // namespace

ActivityCollector::ActivityCollector(const BackendInfo& info, std::string model,
                                     std::function<ActivitySnapshot()> read)
    : model_(std::move(model)),
      device_(absl::StrCat(info.name, "0")),
      configured_bandwidth_(info.link_bytes_per_second),
      emulated_(info.link_emulated),
      storage_(info.storage_tier),
      read_(std::move(read)) {}

void ActivityCollector::Observe(const ActivitySnapshot& activity) {
  if (read_ != nullptr) return;
  std::lock_guard<std::mutex> lock(mu_);
  observed_ = activity;
}

ActivitySnapshot ActivityCollector::Read() const {
  if (read_ != nullptr) return read_();
  std::lock_guard<std::mutex> lock(mu_);
  return observed_;
}

std::vector<prometheus::MetricFamily> ActivityCollector::Collect() const {
  const ActivitySnapshot now = Read();
  const Labels device = {{"model", model_}, {"device", device_}};
  std::vector<prometheus::MetricFamily> families;
  families.push_back(
      FamilyBuilder(MetricType::Counter, "sluice_activity_seconds_total",
                    "Wall time by what device and link did; the four states sum to the time since "
                    "start.",
                    device)
          .Add(InSeconds(now.compute_only), {{"state", "compute_only"}})
          .Add(InSeconds(now.transfer_only), {{"state", "transfer_only"}})
          .Add(InSeconds(now.both), {{"state", "both"}})
          .Add(InSeconds(now.idle), {{"state", "idle"}})
          .Build());
  families.push_back(FamilyBuilder(MetricType::Counter, "sluice_compute_busy_seconds_total",
                                   "Wall time in which the device computed.", device)
                         .Add(InSeconds(now.compute_only + now.both))
                         .Build());
  families.push_back(FamilyBuilder(MetricType::Counter, "sluice_overlap_seconds_total",
                                   "Wall time in which device and link were both busy.", device)
                         .Add(InSeconds(now.both))
                         .Build());
  families.push_back(FamilyBuilder(MetricType::Counter, "sluice_transfer_stall_seconds_total",
                                   "Wall time in which a step waited for a copy.", device)
                         .Add(InSeconds(now.load_stall), {{"reason", "load_wait"}})
                         .Build());
  CollectLinks(now, &families);
  return families;
}

void ActivityCollector::CollectLinks(const ActivitySnapshot& activity,
                                     std::vector<prometheus::MetricFamily>* families) const {
  const Labels model = {{"model", model_}};
  FamilyBuilder bytes(MetricType::Counter, "sluice_kv_transfer_bytes_total",
                      "KV bytes copied between tiers.", model);
  FamilyBuilder busy(MetricType::Counter, "sluice_kv_transfer_busy_seconds_total",
                     "Wall time in which at least one copy of this direction ran; its rate is the "
                     "utilisation of the link direction.",
                     model);
  FamilyBuilder in_flight(MetricType::Gauge, "sluice_kv_transfer_inflight_bytes",
                          "Bytes queued or moving.", model);
  FamilyBuilder bandwidth(
      MetricType::Gauge, "sluice_link_bandwidth_bytes_per_second",
      emulated_ ? "Configured: stated (EMULATED: copies are paced); measured: average so far."
                : "Configured: stated, 0 if none; measured: average so far.",
      model);
  const auto ends = LinkEndsWith(storage_);
  for (size_t d = 0; d < ends.size(); ++d) {
    const ActivitySnapshot::Direction& link = activity.links[d];
    const Labels at = {{"src", ends[d].source}, {"dst", ends[d].target}};
    const auto moved = static_cast<double>(link.moved.value());
    const double seconds = InSeconds(link.busy);
    bytes.Add(moved, at);
    busy.Add(seconds, at);
    in_flight.Add(static_cast<double>(link.in_flight.value()), at);
    Labels kind = at;
    kind["kind"] = "configured";
    const bool over_link = d < 2;  // the stated one is between device and host
    bandwidth.Add(over_link ? configured_bandwidth_ : 0, kind);
    kind["kind"] = "measured";
    bandwidth.Add(seconds > 0 ? moved / seconds : 0, kind);
  }
  for (FamilyBuilder* family : {&bytes, &busy, &in_flight, &bandwidth}) {
    families->push_back(family->Build());
  }
}

}  // namespace sluice
