// PowerSource: something of this machine that counts the energy of one or more devices.
//
// Thread-compatible. Sources that are not there are not made: whoever asks gets none, and exports
// no series.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "scheduler/cost/measure.h"

namespace sluice {

struct PowerReading {
  std::string device;  // "gpu0", "package-0", "dram-0"
  Joules energy;       // since the source was opened; never falls
  Watts power;         // now, or since the last reading
};

class PowerSource {
 public:
  virtual ~PowerSource() = default;

  // What each device has used up to `now`. Devices that cannot be read any more keep their last
  // energy and draw 0 W.
  virtual std::vector<PowerReading> Read(absl::Time now) = 0;
};

// Intel and AMD processors by the kernel's powercap folder ("/sys/class/powercap"): packages and
// their memory. Null if there is none or its counters cannot be read (only root may, usually).
// REQUIRES of whoever reads it: at least once a minute, because the counters wrap.
std::unique_ptr<PowerSource> OpenRapl(const std::string& folder, absl::Time now);

// NVIDIA GPUs by their management library, loaded at run time ("libnvidia-ml.so.1"). Null if it
// cannot be loaded or finds no GPU.
std::unique_ptr<PowerSource> OpenNvml(const std::string& library, absl::Time now);

}  // namespace sluice
