// What `sluice calibrate --backend cpu` measures: the parts of the CPU backend, one after the
// other, through the code that serves, and the HardwareProfile they add up to.
//
// Figures that cannot be measured here (power) are those of the built-in profile cpu-default, and
// their source says so.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "backend/cpu/probe_compute.h"
#include "backend/probe_timer.h"
#include "scheduler/base/units.h"
#include "scheduler/cost/hardware_profile.h"
#include "service/calibration/measured.h"

namespace sluice {

struct CpuCalibrationOptions {
  LayerShape shape;     // of products and attention
  int64_t layers = 32;  // of steps and KV blocks
  int threads = 0;      // 0: one per CPU this process may run on
  // Where to measure the disk. A directory that cannot be written is an error if `require_disk`;
  // else the profile has no disk.
  std::string disk;
  bool require_disk = false;
  // Size of the buffers that no cache should hold. Weights take half of it, the file on disk all.
  Bytes large = MiB(512);
  ProbeControl control;  // its `time` is for each of about 25 figures

  std::string machine;  // "Xeon ..., Linux 6.1": for the profile's description
  std::string date;     // of the measurement
};

struct CpuCalibration {
  HardwareProfile profile;
  std::vector<Measured> figures;  // in the order measured
};

// Called before each probe, and at the end with done == total.
using CalibrationProgress =
    std::function<void(int64_t done, int64_t total, const std::string& probe)>;

// Returns CANCELLED if control.cancelled said so, RESOURCE_EXHAUSTED without memory for the probes
// (about twice `large`), the disk's error.
absl::StatusOr<CpuCalibration> CalibrateCpu(const CpuCalibrationOptions& options,
                                            const CalibrationProgress& progress);

}  // namespace sluice
