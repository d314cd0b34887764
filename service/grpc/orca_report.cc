#include "service/grpc/orca_report.h"

#include <algorithm>

namespace sluice {
namespace {

double Share(Blocks part, Blocks whole) {
  if (whole <= Blocks(0)) return 0;
  return static_cast<double>(part.value()) / static_cast<double>(whole.value());
}

double LinkBusy(const ServerLoad& load) {
  return std::max(load.rates.link_to_device_busy, load.rates.link_to_host_busy);
}

}  // namespace

double DeviceKvUsage(const ServerLoad& load) {
  const TierStats& device = load.engine.scheduler.device;
  return Share(device.referenced + device.in_transit, device.capacity);
}

double BottleneckUtilization(const ServerLoad& load) {
  const auto running = static_cast<double>(load.engine.scheduler.running);
  const double places =
      load.max_running > 0 ? running / static_cast<double>(load.max_running) : 0.0;
  return std::clamp(std::max({DeviceKvUsage(load), places, LinkBusy(load), load.rates.device_busy}),
                    0.0, 1.0);
}

xds::data::orca::v3::OrcaLoadReport MakeOrcaReport(const ServerLoad& load) {
  const SchedulerStats& stats = load.engine.scheduler;
  xds::data::orca::v3::OrcaLoadReport report;
  report.set_application_utilization(BottleneckUtilization(load));
  report.set_rps_fractional(load.requests_per_s);
  report.set_eps(load.errors_per_s);
  auto& named = *report.mutable_named_metrics();
  named["kv_cache_usage_perc"] = DeviceKvUsage(load);
  named["num_requests_waiting"] = static_cast<double>(stats.waiting);
  named["num_requests_running"] = static_cast<double>(stats.running);
  named["host_kv_usage"] = Share(stats.host.capacity - stats.host.free, stats.host.capacity);
  named["pcie_busy"] = LinkBusy(load);
  named["device_busy"] = load.rates.device_busy;
  return report;
}

}  // namespace sluice
