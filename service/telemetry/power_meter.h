// PowerMeter: samples the machine's power sources on a thread of its own and exports
// sluice_energy_joules_total{device} and sluice_power_watts{device}. Without sources: no thread, no
// series.
//
// Thread-safe.
#pragma once

#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "absl/time/time.h"
#include "prometheus/collectable.h"
#include "service/telemetry/power_source.h"

namespace sluice {

class PowerMeter final : public prometheus::Collectable {
 public:
  // Whatever this machine has.
  static std::shared_ptr<PowerMeter> OfThisMachine(std::function<absl::Time()> clock);

  PowerMeter(std::vector<std::unique_ptr<PowerSource>> sources, std::function<absl::Time()> clock,
             absl::Duration interval = absl::Seconds(1));
  ~PowerMeter() override;
  PowerMeter(const PowerMeter&) = delete;
  PowerMeter& operator=(const PowerMeter&) = delete;

  // The latest sample; empty if nothing here counts energy.
  std::vector<PowerReading> readings() const;
  // For the log: "gpu0, package-0", or "none".
  std::string DeviceNames() const;

  std::vector<prometheus::MetricFamily> Collect() const override;

 private:
  void Sample();
  void ThreadMain();

  const std::function<absl::Time()> clock_;
  const absl::Duration interval_;
  std::vector<std::unique_ptr<PowerSource>> sources_;  // the thread's, once it runs

  mutable std::mutex mu_;
  std::condition_variable stop_;
  bool stopping_ = false;               // guarded by mu_
  std::vector<PowerReading> readings_;  // guarded by mu_

  std::thread thread_;  // last: everything above is ready when it starts
};

}  // namespace sluice
