// PowerMeter: samples the machine's power sources on a thread of its own and exports
// sluice_energy_joules_total{device} and sluice_power_watts{device}. Without sources: no thread, no
// series.
//
// Thread-safe.
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "prometheus/collectable.h"
#include "service/telemetry/periodic.h"
#include "service/telemetry/power_source.h"

namespace sluice {

class PowerMeter final : public prometheus::Collectable {
 public:
  // Whatever this machine has.
  static std::shared_ptr<PowerMeter> OfThisMachine(std::function<absl::Time()> clock);

  PowerMeter(std::vector<std::unique_ptr<PowerSource>> sources, std::function<absl::Time()> clock,
             absl::Duration interval = absl::Seconds(1));

  // The latest sample; empty if nothing here counts energy.
  std::vector<PowerReading> readings() const;
  // For the log: "gpu0, package-0", or "none".
  std::string DeviceNames() const;

  std::vector<prometheus::MetricFamily> Collect() const override;

 private:
  void Sample();

  const std::function<absl::Time()> clock_;
  std::vector<std::unique_ptr<PowerSource>> sources_;  // the thread's, once it runs

  mutable std::mutex mu_;
  std::vector<PowerReading> readings_;  // guarded by mu_

  std::optional<Periodic> thread_;  // last: everything above is ready when it starts
};

}  // namespace sluice
