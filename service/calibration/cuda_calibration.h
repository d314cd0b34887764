// What `sluice calibrate --backend cuda` measures: copies and kernels of the CUDA backend on one
// GPU, and the HardwareProfile they add up to.
//
// Figures that are not measured (host memory, power, formats other than bf16) are those of a
// built-in profile, and their source says so.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "backend/cpu/probe_compute.h"
#include "backend/cuda/device_probe.h"
#include "scheduler/cost/hardware_profile.h"
#include "service/calibration/cpu_calibration.h"
#include "service/calibration/measured.h"

namespace sluice {

struct CudaCalibrationOptions {
  LayerShape shape{4096, 14336, 32, 8, 128};  // of products and attention
  Bytes large = MiB(256);                     // of the largest copies
  int64_t rows = 4096;                        // of the largest products
  int64_t context = 4096;                     // of attention, tokens
  HardwareProfile base;                       // for what is not measured
  std::string machine;                        // "Xeon ..., Linux 6.1"
  std::string date;
};

struct CudaCalibration {
  HardwareProfile profile;
  std::vector<Measured> figures;  // in the order measured
};

// Returns CANCELLED if the probe's control said so, errors of the device.
absl::StatusOr<CudaCalibration> CalibrateCuda(CudaProbe& probe,
                                              const CudaCalibrationOptions& options,
                                              const CalibrationProgress& progress);

}  // namespace sluice
