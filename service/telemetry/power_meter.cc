#include "service/telemetry/power_meter.h"

#include <utility>

#include "absl/strings/str_join.h"
#include "service/telemetry/family.h"

namespace sluice {

std::shared_ptr<PowerMeter> PowerMeter::OfThisMachine(std::function<absl::Time()> clock) {
  std::vector<std::unique_ptr<PowerSource>> sources;
  sources.push_back(OpenRapl("/sys/class/powercap", clock()));
  sources.push_back(OpenNvml("libnvidia-ml.so.1", clock()));
  return std::make_shared<PowerMeter>(std::move(sources), std::move(clock));
}

PowerMeter::PowerMeter(std::vector<std::unique_ptr<PowerSource>> sources,
                       std::function<absl::Time()> clock, absl::Duration interval)
    : clock_(std::move(clock)), sources_(std::move(sources)) {
  std::erase(sources_, nullptr);
  if (sources_.empty()) return;
  Sample();
  thread_.emplace([this] { Sample(); }, interval);
}

void PowerMeter::Sample() {
  std::vector<PowerReading> readings;
  for (const std::unique_ptr<PowerSource>& source : sources_) {
    for (PowerReading& reading : source->Read(clock_())) readings.push_back(std::move(reading));
  }
  std::lock_guard<std::mutex> lock(mu_);
  readings_ = std::move(readings);
}

std::vector<PowerReading> PowerMeter::readings() const {
  std::lock_guard<std::mutex> lock(mu_);
  return readings_;
}

std::string PowerMeter::DeviceNames() const {
  const std::vector<PowerReading> now = readings();
  if (now.empty()) return "none";
  return absl::StrJoin(now, ", ", [](std::string* out, const PowerReading& reading) {
    out->append(reading.device);
  });
}

std::vector<prometheus::MetricFamily> PowerMeter::Collect() const {
  const std::vector<PowerReading> now = readings();
  if (now.empty()) return {};
  FamilyBuilder energy(prometheus::MetricType::Counter, "sluice_energy_joules_total",
                       "Energy used since start, as the hardware counts it.", {});
  FamilyBuilder power(prometheus::MetricType::Gauge, "sluice_power_watts",
                      "Power drawn now, or over the last second.", {});
  for (const PowerReading& reading : now) {
    energy.Add(reading.energy.value(), {{"device", reading.device}});
    power.Add(reading.power.value(), {{"device", reading.device}});
  }
  std::vector<prometheus::MetricFamily> families;
  families.push_back(energy.Build());
  families.push_back(power.Build());
  return families;
}

}  // namespace sluice
