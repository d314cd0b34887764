// NVML by dlopen, so that one binary runs with and without NVIDIA's driver. The few declarations
// below are what its documentation states (NVML API reference, "Device Queries"); handles are
// opaque, return codes are ints with 0 for success, energy is in millijoules since the driver was
// loaded (Volta and later), power in milliwatts.

#include <dlfcn.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "service/telemetry/power_source.h"

namespace sluice {
namespace {

using NvmlDevice = void*;
constexpr int kSuccess = 0;
constexpr double kMilli = 1e-3;

// The functions that are used. All there, or the library is not.
struct NvmlLibrary {
  void* handle = nullptr;
  int (*init)() = nullptr;
  int (*shutdown)() = nullptr;
  int (*count)(unsigned int*) = nullptr;
  int (*by_index)(unsigned int, NvmlDevice*) = nullptr;
  int (*energy)(NvmlDevice, unsigned long long*) = nullptr;  // NOLINT(google-runtime-int): ABI
  int (*power)(NvmlDevice, unsigned int*) = nullptr;

  template <class Function>
  bool Find(const char* name, Function* function) const {
    *function = reinterpret_cast<Function>(dlsym(handle, name));
    return *function != nullptr;
  }
  bool FindAll() {
    return Find("nvmlInit_v2", &init) && Find("nvmlShutdown", &shutdown) &&
           Find("nvmlDeviceGetCount_v2", &count) &&
           Find("nvmlDeviceGetHandleByIndex_v2", &by_index) &&
           Find("nvmlDeviceGetTotalEnergyConsumption", &energy) &&
           Find("nvmlDeviceGetPowerUsage", &power);
  }
};

class Nvml final : public PowerSource {
 public:
  Nvml(const NvmlLibrary& library, absl::Time now) : library_(library), last_(now) {
    unsigned int count = 0;
    if (library_.count(&count) != kSuccess) count = 0;
    for (unsigned int i = 0; i < count; ++i) {
      Gpu gpu;
      if (library_.by_index(i, &gpu.handle) != kSuccess) continue;
      gpu.reading.device = absl::StrCat("gpu", i);
      gpu.counts_energy = library_.energy(gpu.handle, &gpu.start_mj) == kSuccess;
      if (gpu.counts_energy || ReadPower(gpu).has_value()) gpus_.push_back(std::move(gpu));
    }
  }
  ~Nvml() override {
    library_.shutdown();
    dlclose(library_.handle);
  }
  Nvml(const Nvml&) = delete;
  Nvml& operator=(const Nvml&) = delete;

  bool empty() const { return gpus_.empty(); }

  std::vector<PowerReading> Read(absl::Time now) override {
    const double passed = std::max(0.0, absl::ToDoubleSeconds(now - last_));
    last_ = now;
    std::vector<PowerReading> readings;
    for (Gpu& gpu : gpus_) {
      gpu.reading.power = ReadPower(gpu).value_or(Watts(0));
      unsigned long long mj = 0;  // NOLINT(google-runtime-int): ABI
      if (!gpu.counts_energy) {   // before Volta: what it draws now, times the time
        gpu.reading.energy += gpu.reading.power * Seconds(passed);
      } else if (library_.energy(gpu.handle, &mj) == kSuccess && mj >= gpu.start_mj) {
        const Joules total(static_cast<double>(mj - gpu.start_mj) * kMilli);
        gpu.reading.energy = std::max(gpu.reading.energy, total);
      }
      readings.push_back(gpu.reading);
    }
    return readings;
  }

 private:
  struct Gpu {
    NvmlDevice handle = nullptr;
    unsigned long long start_mj = 0;  // NOLINT(google-runtime-int): ABI
    bool counts_energy = false;
    PowerReading reading;
  };

  std::optional<Watts> ReadPower(const Gpu& gpu) const {
    unsigned int mw = 0;
    if (library_.power(gpu.handle, &mw) != kSuccess) return std::nullopt;
    return Watts(static_cast<double>(mw) * kMilli);
  }

  const NvmlLibrary library_;
  std::vector<Gpu> gpus_;
  absl::Time last_;
};

}  // namespace

std::unique_ptr<PowerSource> OpenNvml(const std::string& library, absl::Time now) {
  NvmlLibrary functions;
  functions.handle = dlopen(library.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (functions.handle == nullptr) return nullptr;
  if (!functions.FindAll() || functions.init() != kSuccess) {
    dlclose(functions.handle);
    return nullptr;
  }
  auto nvml = std::make_unique<Nvml>(functions, now);
  if (nvml->empty()) return nullptr;
  return nvml;
}

}  // namespace sluice
