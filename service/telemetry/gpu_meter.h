// GpuMeter: samples what GPUs say about their link and clocks, on a thread of its own, and exports
//   sluice_gpu_pcie_generation, sluice_gpu_pcie_lanes {device, of = now | slot | card}
//   sluice_gpu_pcie_bytes_per_second {device, direction = to_device | to_host}
//   sluice_gpu_pcie_replays_total {device}, sluice_gpu_clock_hertz {device, clock = sm | memory}
// Without NVIDIA's library: no thread, no series. What a device does not know has no sample.
//
// Thread-safe.
#pragma once

#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "prometheus/collectable.h"
#include "service/telemetry/gpu_link.h"
#include "service/telemetry/nvml.h"
#include "service/telemetry/periodic.h"

namespace sluice {

struct GpuReading {
  GpuLink link;
  std::optional<ByteRate> to_device;
  std::optional<ByteRate> to_host;
  std::optional<int> replays;  // since the meter was made; never falls
  std::optional<double> sm_hertz;
  std::optional<double> memory_hertz;
};

class GpuMeter final : public prometheus::Collectable {
 public:
  // `library` may be null.
  GpuMeter(std::shared_ptr<const NvmlLibrary> library, std::string pci_folder,
           absl::Duration interval = absl::Seconds(2));
  static std::shared_ptr<GpuMeter> OfThisMachine();

  // The latest sample; empty without GPUs.
  std::vector<GpuReading> readings() const;
  // One line per GPU whose slot is slower than the card.
  std::vector<std::string> SlowSlots() const;

  std::vector<prometheus::MetricFamily> Collect() const override;

 private:
  struct Gpu {
    NvmlLibrary::Device handle = nullptr;
    int first_replays = 0;
  };
  void Sample();

  const std::shared_ptr<const NvmlLibrary> library_;
  const std::string pci_folder_;
  std::vector<Gpu> gpus_;  // fixed once the constructor is done

  mutable std::mutex mu_;
  std::vector<GpuReading> readings_;  // guarded by mu_

  std::optional<Periodic> thread_;  // last: everything above is ready when it starts
};

}  // namespace sluice
