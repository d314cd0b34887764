#include "service/telemetry/nvml.h"

#include <dlfcn.h>

#include <array>
#include <utility>

#include "absl/strings/ascii.h"

namespace sluice {
namespace {

constexpr int kSuccess = 0;
constexpr double kMilli = 1e-3;
constexpr double kKilo = 1e3;
constexpr double kMega = 1e6;

// Selectors of the library's enumerations.
constexpr int kTransmitted = 0;  // by the device: to the host
constexpr int kReceived = 1;
constexpr int kSmClock = 1;
constexpr int kMemoryClock = 2;

using Device = NvmlLibrary::Device;
using Number = unsigned int;
using LongNumber = unsigned long long;  // NOLINT(google-runtime-int): ABI
using GetCount = int (*)(Device, Number*);
using SelectCount = int (*)(Device, int, Number*);

// nvmlPciInfo_t of nvmlDeviceGetPciInfo_v3.
struct PciInfo {
  char bus_id_legacy[16];
  Number domain, bus, device, device_id, subsystem_id;
  char bus_id[32];  // "00000000:3B:00.0"
};

std::optional<int> Ask(GetCount function, Device device) {
  Number value = 0;
  if (function == nullptr || function(device, &value) != kSuccess) return std::nullopt;
  return static_cast<int>(value);
}

std::optional<double> Ask(SelectCount function, Device device, int which) {
  Number value = 0;
  if (function == nullptr || function(device, which, &value) != kSuccess) return std::nullopt;
  return static_cast<double>(value);
}

}  // namespace

struct NvmlLibrary::Functions {
  void* handle = nullptr;
  // Without these there is no library.
  int (*init)() = nullptr;
  int (*shutdown)() = nullptr;
  int (*count)(Number*) = nullptr;
  int (*by_index)(Number, Device*) = nullptr;
  // Each may be missing.
  int (*energy)(Device, LongNumber*) = nullptr;  // millijoules
  GetCount power = nullptr;                      // milliwatts
  int (*name)(Device, char*, Number) = nullptr;
  int (*pci)(Device, PciInfo*) = nullptr;
  GetCount link_generation = nullptr;
  GetCount link_width = nullptr;
  GetCount slot_generation = nullptr;
  GetCount slot_width = nullptr;
  GetCount card_generation = nullptr;
  GetCount replays = nullptr;
  SelectCount throughput = nullptr;  // kilobytes per second
  SelectCount clock = nullptr;       // megahertz

  template <class Function>
  bool Find(const char* symbol, Function* function) const {
    *function = reinterpret_cast<Function>(dlsym(handle, symbol));
    return *function != nullptr;
  }
  bool FindAll() {
    Find("nvmlDeviceGetTotalEnergyConsumption", &energy);
    Find("nvmlDeviceGetPowerUsage", &power);
    Find("nvmlDeviceGetName", &name);
    Find("nvmlDeviceGetPciInfo_v3", &pci);
    Find("nvmlDeviceGetCurrPcieLinkGeneration", &link_generation);
    Find("nvmlDeviceGetCurrPcieLinkWidth", &link_width);
    Find("nvmlDeviceGetMaxPcieLinkGeneration", &slot_generation);
    Find("nvmlDeviceGetMaxPcieLinkWidth", &slot_width);
    Find("nvmlDeviceGetGpuMaxPcieLinkGeneration", &card_generation);
    Find("nvmlDeviceGetPcieReplayCounter", &replays);
    Find("nvmlDeviceGetPcieThroughput", &throughput);
    Find("nvmlDeviceGetClockInfo", &clock);
    return Find("nvmlInit_v2", &init) && Find("nvmlShutdown", &shutdown) &&
           Find("nvmlDeviceGetCount_v2", &count) &&
           Find("nvmlDeviceGetHandleByIndex_v2", &by_index);
  }
};

std::shared_ptr<const NvmlLibrary> NvmlLibrary::Open(const std::string& library) {
  auto functions = std::make_unique<Functions>();
  functions->handle = dlopen(library.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (functions->handle == nullptr) return nullptr;
  if (!functions->FindAll() || functions->init() != kSuccess) {
    dlclose(functions->handle);
    return nullptr;
  }
  return std::shared_ptr<const NvmlLibrary>(new NvmlLibrary(std::move(functions)));
}

NvmlLibrary::NvmlLibrary(std::unique_ptr<const Functions> functions)
    : functions_(std::move(functions)) {}

NvmlLibrary::~NvmlLibrary() {
  functions_->shutdown();
  dlclose(functions_->handle);
}

unsigned NvmlLibrary::Count() const {
  unsigned count = 0;
  return functions_->count(&count) == kSuccess ? count : 0;
}

std::optional<Device> NvmlLibrary::ByIndex(unsigned index) const {
  Device device = nullptr;
  if (functions_->by_index(index, &device) != kSuccess) return std::nullopt;
  return device;
}

std::optional<Joules> NvmlLibrary::EnergySinceDriverLoad(Device device) const {
  LongNumber millijoules = 0;
  if (functions_->energy == nullptr || functions_->energy(device, &millijoules) != kSuccess) {
    return std::nullopt;
  }
  return Joules(static_cast<double>(millijoules) * kMilli);
}

std::optional<Watts> NvmlLibrary::Power(Device device) const {
  const std::optional<int> milliwatts = Ask(functions_->power, device);
  if (!milliwatts.has_value()) return std::nullopt;
  return Watts(*milliwatts * kMilli);
}

std::optional<std::string> NvmlLibrary::Name(Device device) const {
  std::array<char, 96> text{};
  if (functions_->name == nullptr ||
      functions_->name(device, text.data(), static_cast<unsigned>(text.size() - 1)) != kSuccess) {
    return std::nullopt;
  }
  return std::string(text.data());
}

std::optional<std::string> NvmlLibrary::PciBus(Device device) const {
  PciInfo info{};
  if (functions_->pci == nullptr || functions_->pci(device, &info) != kSuccess) return std::nullopt;
  info.bus_id[sizeof(info.bus_id) - 1] = '\0';
  std::string bus = absl::AsciiStrToLower(info.bus_id);
  // NVML writes domains with eight digits, the kernel with four.
  if (bus.size() > 12 && bus.compare(0, 4, "0000") == 0) bus.erase(0, 4);
  return bus;
}

std::optional<int> NvmlLibrary::LinkGeneration(Device device) const {
  return Ask(functions_->link_generation, device);
}
std::optional<int> NvmlLibrary::LinkWidth(Device device) const {
  return Ask(functions_->link_width, device);
}
std::optional<int> NvmlLibrary::SlotGeneration(Device device) const {
  return Ask(functions_->slot_generation, device);
}
std::optional<int> NvmlLibrary::SlotWidth(Device device) const {
  return Ask(functions_->slot_width, device);
}
std::optional<int> NvmlLibrary::CardGeneration(Device device) const {
  return Ask(functions_->card_generation, device);
}
std::optional<int> NvmlLibrary::Replays(Device device) const {
  return Ask(functions_->replays, device);
}

std::optional<ByteRate> NvmlLibrary::Throughput(Device device, bool to_device) const {
  const std::optional<double> kilobytes =
      Ask(functions_->throughput, device, to_device ? kReceived : kTransmitted);
  if (!kilobytes.has_value()) return std::nullopt;
  return ByteRate(*kilobytes * kKilo);
}

std::optional<double> NvmlLibrary::ClockHertz(Device device, bool memory) const {
  const std::optional<double> megahertz =
      Ask(functions_->clock, device, memory ? kMemoryClock : kSmClock);
  if (!megahertz.has_value()) return std::nullopt;
  return *megahertz * kMega;
}

}  // namespace sluice
