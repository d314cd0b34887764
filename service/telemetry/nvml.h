// NvmlLibrary: NVIDIA's management library, loaded at run time, so that one binary runs with and
// without the driver. The declarations are what its documentation states (NVML API reference,
// "Device Queries"): handles are opaque, return codes are ints with 0 for success.
//
// Thread-safe, as the library is.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "scheduler/cost/measure.h"

namespace sluice {

class NvmlLibrary {
 public:
  using Device = void*;

  // "libnvidia-ml.so.1" in earnest. Null if it cannot be loaded or does not start. Functions that
  // this driver lacks answer nothing.
  static std::shared_ptr<const NvmlLibrary> Open(const std::string& library);
  ~NvmlLibrary();
  NvmlLibrary(const NvmlLibrary&) = delete;
  NvmlLibrary& operator=(const NvmlLibrary&) = delete;

  // Devices in the order of their slots; 0 if the driver does not say.
  unsigned Count() const;
  std::optional<Device> ByIndex(unsigned index) const;

  // Nothing where the device or the driver does not know.
  std::optional<Joules> EnergySinceDriverLoad(Device device) const;  // Volta and later
  std::optional<Watts> Power(Device device) const;
  std::optional<std::string> Name(Device device) const;
  // As the kernel writes it: "0000:3b:00.0".
  std::optional<std::string> PciBus(Device device) const;
  std::optional<int> LinkGeneration(Device device) const;  // now; an idle link falls back to 1
  std::optional<int> LinkWidth(Device device) const;       // now, lanes
  std::optional<int> SlotGeneration(Device device) const;  // the most of card and slot together
  std::optional<int> SlotWidth(Device device) const;       // likewise
  std::optional<int> CardGeneration(Device device) const;  // the most of the card
  std::optional<int> Replays(Device device) const;         // packets sent again, since driver load
  // Over the last 20 ms, which the call takes.
  std::optional<ByteRate> Throughput(Device device, bool to_device) const;
  std::optional<double> ClockHertz(Device device, bool memory) const;

 private:
  struct Functions;
  explicit NvmlLibrary(std::unique_ptr<const Functions> functions);

  const std::unique_ptr<const Functions> functions_;
};

}  // namespace sluice
