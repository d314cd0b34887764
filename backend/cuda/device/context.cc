#include "backend/cuda/device/context.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "backend/cuda/device/numa.h"
#include "backend/cuda/device/status.h"
#include "backend/cuda/gpu/gpu.h"
#include "scheduler/base/status_macros.h"

namespace sluice::cuda {
namespace {

// "13.0" of 13000.
std::string VersionText(int version) {
  return absl::StrCat(version / 1000, ".", version % 1000 / 10);
}

// nvidia-smi's form of a UUID. The emulation's devices have none.
template <class Properties>
std::string UuidText(const Properties& properties) {
  if constexpr (requires { properties.uuid; }) {
    std::string text = "GPU-";
    for (size_t i = 0; i < sizeof(properties.uuid.bytes); ++i) {
      if (i == 4 || i == 6 || i == 8 || i == 10) text += '-';
      const auto byte = static_cast<unsigned char>(properties.uuid.bytes[i]);
      absl::StrAppend(&text, absl::Hex(byte, absl::kZeroPad2));
    }
    return text;
  } else {
    return "";
  }
}

absl::StatusOr<DeviceInfo> Describe(int ordinal) {
  cudaDeviceProp properties{};
  SLUICE_CUDA_RETURN_IF_ERROR(cudaGetDeviceProperties(&properties, ordinal));
  std::array<char, 32> pci{};
  SLUICE_CUDA_RETURN_IF_ERROR(
      cudaDeviceGetPCIBusId(pci.data(), static_cast<int>(pci.size()), ordinal));
  int host_addresses = 0;
  SLUICE_CUDA_RETURN_IF_ERROR(cudaDeviceGetAttribute(
      &host_addresses, cudaDevAttrCanUseHostPointerForRegisteredMem, ordinal));
  DeviceInfo device;
  device.ordinal = ordinal;
  device.name = properties.name;
  device.uuid = UuidText(properties);
  device.pci = absl::AsciiStrToLower(pci.data());
  device.major = properties.major;
  device.minor = properties.minor;
  device.multiprocessors = properties.multiProcessorCount;
  device.l2 = Bytes(properties.l2CacheSize);
  device.copy_engines = properties.asyncEngineCount;
  device.integrated = properties.integrated != 0;
  device.host_addresses = host_addresses != 0;
  return device;
}

absl::StatusOr<DriverVersions> CheckDriver() {
  DriverVersions versions;
  SLUICE_CUDA_RETURN_IF_ERROR(cudaDriverGetVersion(&versions.driver));
  SLUICE_CUDA_RETURN_IF_ERROR(cudaRuntimeGetVersion(&versions.runtime));
  if (versions.driver == 0) {
    return absl::FailedPreconditionError(
        "no NVIDIA driver: install one (nvidia-smi must work), give the container a GPU "
        "(--gpus all), or run with --backend=cpu");
  }
  // Any driver of the same major version runs the program (CUDA's minor version compatibility).
  if (versions.driver / 1000 < versions.runtime / 1000) {
    return absl::FailedPreconditionError(absl::StrCat(
        "the NVIDIA driver supports CUDA ", VersionText(versions.driver), ", this program needs ",
        versions.runtime / 1000, ".0 or later; update the driver, or run with --backend=cpu"));
  }
  return versions;
}

std::string ListText(std::span<const DeviceInfo> devices) {
  return absl::StrJoin(devices, "; ", [](std::string* out, const DeviceInfo& device) {
    absl::StrAppend(out, device.ordinal, ": ", device.name, " ", device.pci,
                    device.uuid.empty() ? "" : " ", device.uuid);
  });
}

absl::Status NoSuchDevice(std::string_view wanted, std::span<const DeviceInfo> devices) {
  return absl::NotFoundError(absl::StrCat("no device ", std::string(wanted), "; there are ",
                                          ListText(devices), ". Choose one of them with --device"));
}

// "3b:00.0" to "0000:3b:00.0"; empty if it is no PCI address.
std::string FullPci(const std::string& text) {
  const auto colons = std::count(text.begin(), text.end(), ':');
  const bool plausible = std::all_of(text.begin(), text.end(), [](char c) {
    return std::isxdigit(static_cast<unsigned char>(c)) != 0 || c == ':' || c == '.';
  });
  if (!plausible || colons == 0 || colons > 2) return "";
  const std::string full = colons == 1 ? absl::StrCat("0000:", text) : text;
  return absl::StrContains(full, '.') ? full : absl::StrCat(full, ".0");
}

}  // namespace

std::string ComputeName(const DeviceInfo& device) {
  return absl::StrCat("sm_", device.major, device.minor);
}

absl::StatusOr<std::vector<DeviceInfo>> ListDevices() {
  if (auto versions = CheckDriver(); !versions.ok()) return versions.status();
  int count = 0;
  SLUICE_CUDA_RETURN_IF_ERROR(cudaGetDeviceCount(&count));
  std::vector<DeviceInfo> devices;
  for (int i = 0; i < count; ++i) {
    SLUICE_ASSIGN_OR_RETURN(DeviceInfo device, Describe(i));
    devices.push_back(std::move(device));
  }
  if (devices.empty()) return CudaStatus(cudaErrorNoDevice, "cudaGetDeviceCount");
  return devices;
}

absl::StatusOr<DeviceInfo> ChooseDevice(std::string_view wanted,
                                        std::span<const DeviceInfo> devices) {
  if (devices.empty()) return NoSuchDevice(wanted, devices);
  if (wanted.empty()) return devices.front();
  const std::string text = absl::AsciiStrToLower(std::string(wanted));
  int ordinal = 0;
  if (absl::SimpleAtoi(text, &ordinal)) {
    for (const DeviceInfo& device : devices) {
      if (device.ordinal == ordinal) return device;
    }
    return NoSuchDevice(wanted, devices);
  }
  if (absl::StartsWith(text, "gpu-")) {
    std::vector<DeviceInfo> found;
    for (const DeviceInfo& device : devices) {
      if (absl::StartsWith(absl::AsciiStrToLower(device.uuid), text)) found.push_back(device);
    }
    if (found.size() == 1) return found.front();
    if (found.empty()) return NoSuchDevice(wanted, devices);
    return absl::InvalidArgumentError(absl::StrCat("device ", std::string(wanted),
                                                   " fits several: ", ListText(found),
                                                   "; give more of the UUID"));
  }
  const std::string pci = FullPci(text);
  if (pci.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat("device \"", std::string(wanted),
                     "\"; want a number (0), a UUID (GPU-...) or a PCI address (0000:3b:00.0)"));
  }
  for (const DeviceInfo& device : devices) {
    if (device.pci == pci) return device;
  }
  return NoSuchDevice(wanted, devices);
}

absl::Status CheckDevice(const DeviceInfo& device) {
  if (std::pair(device.major, device.minor) < std::pair(kLeastComputeMajor, kLeastComputeMinor)) {
    return absl::FailedPreconditionError(absl::StrCat(
        "device ", device.ordinal, " (", device.name, ") has compute capability ", device.major,
        ".", device.minor, "; want at least ", kLeastComputeMajor, ".", kLeastComputeMinor,
        " (Ampere). Choose another with --device, or run with --backend=cpu"));
  }
  if (!device.host_addresses) {
    return absl::FailedPreconditionError(
        absl::StrCat("device ", device.ordinal, " (", device.name,
                     ") cannot use host addresses of pinned memory, which offloading needs; "
                     "run with --backend=cpu"));
  }
  return absl::OkStatus();
}

absl::StatusOr<DeviceContext> DeviceContext::Open(std::string_view wanted) {
  DeviceContext context;
  SLUICE_ASSIGN_OR_RETURN(context.versions_, CheckDriver());
  SLUICE_ASSIGN_OR_RETURN(const std::vector<DeviceInfo> devices, ListDevices());
  SLUICE_ASSIGN_OR_RETURN(context.info_, ChooseDevice(wanted, devices));
  SLUICE_RETURN_IF_ERROR(CheckDevice(context.info_));
  context.numa_node_ = NumaNodeOfPci(context.info_.pci);
  SLUICE_RETURN_IF_ERROR(context.MakeCurrent());
  SLUICE_CUDA_RETURN_IF_ERROR(
      cudaDeviceGetStreamPriorityRange(&context.lowest_priority_, &context.highest_priority_));
  // The first call that needs the context makes it: a device that is taken or broken fails here.
  if (const auto memory = context.QueryMemory(); !memory.ok()) return memory.status();
  return context;
}

std::string DeviceContext::Describe() const {
  std::string text = absl::StrCat(info_.name, ", ", ComputeName(info_), ", PCI ", info_.pci);
  if (numa_node_.has_value()) absl::StrAppend(&text, ", NUMA node ", *numa_node_);
  absl::StrAppend(&text, ", driver for CUDA ", VersionText(versions_.driver));
  return text;
}

absl::Status DeviceContext::MakeCurrent() const {
  SLUICE_CUDA_RETURN_IF_ERROR(cudaSetDevice(info_.ordinal));
  return absl::OkStatus();
}

absl::StatusOr<DeviceContext::Memory> DeviceContext::QueryMemory() const {
  size_t free = 0;
  size_t total = 0;
  SLUICE_CUDA_RETURN_IF_ERROR(cudaMemGetInfo(&free, &total));
  return Memory{Bytes(static_cast<int64_t>(free)), Bytes(static_cast<int64_t>(total))};
}

}  // namespace sluice::cuda
