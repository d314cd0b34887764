// sluice calibrate: measures this machine and writes what it found as a hardware profile.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "service/calibration/cpu_calibration.h"
#include "service/calibration/cuda_calibration.h"
#include "service/cli/command.h"
#include "service/cli/interrupter.h"

namespace sluice {

struct CalibrateOptions {
  std::string backend = "cpu";
  std::string device;  // with "cuda": as CudaBackendOptions::device
  std::string model;   // empty: a generic shape
  std::string disk;    // empty: where the file goes
  std::string out;     // empty: DefaultCalibrationPath()
  int threads = 0;
  bool quick = false;
};

class CalibrateCommand : public Command {
 public:
  const char* name() const override { return "calibrate"; }
  const char* summary() const override {
    return "Measure this machine, for predictions and plans.";
  }
  void DefineFlags(FlagSet& flags) override;
  int Run(const FlagSet& flags, const CliIo& io) override;

  const CalibrateOptions& options() const { return options_; }

 private:
  // Where the file goes. Returns FAILED_PRECONDITION if there is no default place.
  absl::StatusOr<std::string> OutPath() const;
  absl::StatusOr<CpuCalibrationOptions> Probes(const std::string& out) const;
  absl::Status Calibrate(Interrupter& interrupter, const CliIo& io) const;
  // Of the GPU.
  absl::StatusOr<CudaCalibration> MeasureGpu(const ProbeControl& control,
                                             const CalibrationProgress& progress) const;
  // Writes and shows what was measured.
  absl::Status Finish(const std::string& out, const HardwareProfile& profile,
                      const std::vector<Measured>& figures, const CliIo& io) const;

  CalibrateOptions options_;
};

// The directory of `path`, or the nearest above it that exists.
std::string NearestDirectory(const std::string& path);

// What was measured, as a table.
std::string RenderFigures(const std::vector<Measured>& figures);

}  // namespace sluice
