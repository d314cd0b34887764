// GPUs by NVML: energy counted by the device where it can (Volta and later), else its power times
// the time.

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "service/telemetry/nvml.h"
#include "service/telemetry/power_source.h"

namespace sluice {
namespace {

class NvmlPower final : public PowerSource {
 public:
  NvmlPower(std::shared_ptr<const NvmlLibrary> library, absl::Time now)
      : library_(std::move(library)), last_(now) {
    for (unsigned i = 0; i < library_->Count(); ++i) {
      const std::optional<NvmlLibrary::Device> device = library_->ByIndex(i);
      if (!device.has_value()) continue;
      Gpu gpu{.handle = *device, .start = library_->EnergySinceDriverLoad(*device), .reading = {}};
      gpu.reading.device = absl::StrCat("gpu", i);
      if (gpu.start.has_value() || library_->Power(*device).has_value()) {
        gpus_.push_back(std::move(gpu));
      }
    }
  }

  bool empty() const { return gpus_.empty(); }

  std::vector<PowerReading> Read(absl::Time now) override {
    const double passed = std::max(0.0, absl::ToDoubleSeconds(now - last_));
    last_ = now;
    std::vector<PowerReading> readings;
    for (Gpu& gpu : gpus_) {
      gpu.reading.power = library_->Power(gpu.handle).value_or(Watts(0));
      if (!gpu.start.has_value()) {
        gpu.reading.energy += gpu.reading.power * Seconds(passed);
      } else {
        const Joules total =
            library_->EnergySinceDriverLoad(gpu.handle).value_or(*gpu.start) - *gpu.start;
        gpu.reading.energy = std::max(gpu.reading.energy, total);
      }
      readings.push_back(gpu.reading);
    }
    return readings;
  }

 private:
  struct Gpu {
    NvmlLibrary::Device handle = nullptr;
    std::optional<Joules> start;  // nothing: the device does not count
    PowerReading reading;
  };

  const std::shared_ptr<const NvmlLibrary> library_;
  std::vector<Gpu> gpus_;
  absl::Time last_;
};

}  // namespace

std::unique_ptr<PowerSource> OpenNvml(const std::string& library, absl::Time now) {
  std::shared_ptr<const NvmlLibrary> functions = NvmlLibrary::Open(library);
  if (functions == nullptr) return nullptr;
  auto nvml = std::make_unique<NvmlPower>(std::move(functions), now);
  if (nvml->empty()) return nullptr;
  return nvml;
}

}  // namespace sluice
