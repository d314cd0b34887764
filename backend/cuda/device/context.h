// DeviceContext: the one GPU that this process uses, checked for what the backend needs before
// anything is allocated on it. Every failure is one line that says what to do.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "scheduler/base/units.h"

namespace sluice::cuda {

// What the oldest supported device can do: sm_80 (cp.async, bf16 tensor cores).
inline constexpr int kLeastComputeMajor = 8;
inline constexpr int kLeastComputeMinor = 0;

struct DeviceInfo {
  int ordinal = 0;   // CUDA's, after CUDA_VISIBLE_DEVICES
  std::string name;  // "NVIDIA H100 80GB HBM3"
  std::string uuid;  // "GPU-8f6d...", as nvidia-smi prints it; empty if the runtime tells none
  std::string pci;   // "0000:3b:00.0", lower case
  int major = 0;     // compute capability
  int minor = 0;
  int multiprocessors = 0;
  Bytes l2;
  int copy_engines = 0;  // 2 or more: both directions at once, beside kernels
  bool integrated = false;
  // Kernels may use the host's address of registered host memory.
  bool host_addresses = false;
};

struct DriverVersions {
  int driver = 0;   // newest CUDA the driver supports: 13000 is 13.0
  int runtime = 0;  // that this program was built with
};

// "sm_90".
std::string ComputeName(const DeviceInfo& device);

// All devices, in CUDA's order.
// Returns FAILED_PRECONDITION if there is no driver, too old a driver, or no device.
absl::StatusOr<std::vector<DeviceInfo>> ListDevices();

// The device that `wanted` names: "" (the first), an ordinal, a UUID or a unique beginning of one
// ("GPU-8f6d"), a PCI address with or without its domain ("0000:3b:00.0", "3b:00.0").
// Returns INVALID_ARGUMENT for what is none of these, NOT_FOUND with a list of what there is.
absl::StatusOr<DeviceInfo> ChooseDevice(std::string_view wanted,
                                        std::span<const DeviceInfo> devices);

// Returns FAILED_PRECONDITION if the backend cannot run on it, naming what is missing.
absl::Status CheckDevice(const DeviceInfo& device);

// Thread-safe after Open().
class DeviceContext {
 public:
  // Chooses, checks and initializes the device, and makes it the calling thread's.
  // Errors as above.
  static absl::StatusOr<DeviceContext> Open(std::string_view wanted);

  const DeviceInfo& info() const { return info_; }
  const DriverVersions& versions() const { return versions_; }
  // Of the device's slot; none if the system has one node or does not tell.
  std::optional<int> numa_node() const { return numa_node_; }
  // Priorities for Stream::Create(): kernels of the most urgent stream go first.
  int lowest_priority() const { return lowest_priority_; }
  int highest_priority() const { return highest_priority_; }
  // "NVIDIA H100 80GB HBM3, sm_90, PCI 0000:3b:00.0, NUMA node 0, driver 13.0".
  std::string Describe() const;

  // CUDA's current device belongs to a thread: each that calls CUDA does this first.
  absl::Status MakeCurrent() const;
  struct Memory {
    Bytes free;
    Bytes total;
  };
  absl::StatusOr<Memory> QueryMemory() const;

 private:
  DeviceContext() = default;

  DeviceInfo info_;
  DriverVersions versions_;
  std::optional<int> numa_node_;
  int lowest_priority_ = 0;
  int highest_priority_ = 0;
};

}  // namespace sluice::cuda
