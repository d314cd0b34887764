#include "service/cli/calibrate_command.h"

#include <atomic>
#include <filesystem>
#include <vector>

#include "absl/strings/str_cat.h"
#include "backend/model/model_config.h"
#include "scheduler/base/status_macros.h"
#include "service/calibration/calibration_file.h"
#include "service/cli/cuda_serving.h"
#include "service/cli/machine_info.h"
#include "service/cli/progress_bar.h"
#include "service/cli/table.h"
#include "service/profiles/catalogue.h"

namespace sluice {

std::string NearestDirectory(const std::string& path) {
  std::error_code error;
  std::filesystem::path directory = std::filesystem::absolute(path, error).parent_path();
  while (!std::filesystem::is_directory(directory, error) && directory.has_relative_path()) {
    directory = directory.parent_path();
  }
  return directory.string();
}

std::string RenderFigures(const std::vector<Measured>& figures) {
  Table table({{"probe", Table::Align::kLeft}, {"value"}, {"80 % of runs from"}, {"to"}, {"runs"}});
  for (const Measured& m : figures) {
    table.AddRow({m.what, m.Value(), FormatQuantity(m.low, m.unit), FormatQuantity(m.high, m.unit),
                  absl::StrCat(m.repeats)});
  }
  return table.Render();
}

void CalibrateCommand::DefineFlags(FlagSet& flags) {
  CalibrateOptions& o = options_;
  flags.Group("What to measure");
  flags.Choice("backend", &o.backend, {"cpu", "cuda"}, "the backend whose machine it is");
  flags
      .String("device", &o.device, "GPU",
              "with --backend=cuda, which one: a number, a UUID or its beginning, a PCI address")
      .Default("the first");
  flags
      .String("model", &o.model, "DIR",
              "measure with the shapes of this model (its config.json is read, no weights)")
      .Default("a generic shape");
  flags.String("disk", &o.disk, "DIR", "measure the disk this directory is on")
      .Default("where the file goes");
  flags.Integer("threads", &o.threads, 0, 4096, "N", "compute threads; 0 = one per CPU");
  flags.Bool("quick", &o.quick, "take a few seconds instead of half a minute, and be less sure");
  flags.Group("Output");
  flags.String("out", &o.out, "FILE", "write the profile here; sluice serve looks at the default")
      .Default("~/.cache/sluice/hardware.json");
}

absl::StatusOr<std::string> CalibrateCommand::OutPath() const {
  if (!options_.out.empty()) return options_.out;
  std::string path = DefaultCalibrationPath();
  if (path.empty()) {
    return absl::FailedPreconditionError(
        "--out: this user has no home directory to write to; name a file");
  }
  return path;
}

absl::StatusOr<CpuCalibrationOptions> CalibrateCommand::Probes(const std::string& out) const {
  CpuCalibrationOptions probes;
  if (!options_.model.empty()) {
    SLUICE_ASSIGN_OR_RETURN(const ModelConfig config, LoadModelConfig(options_.model));
    probes.shape = {config.hidden, config.intermediate, config.heads, config.kv_heads,
                    config.head_dim};
    probes.layers = config.layers;
  }
  probes.threads = options_.threads;
  if (options_.quick) {
    probes.large = MiB(128);
    probes.control.time = absl::Milliseconds(60);
  }
  probes.disk = options_.disk.empty() ? NearestDirectory(out) : options_.disk;
  probes.require_disk = !options_.disk.empty();
  const MachineInfo machine = GetMachineInfo();
  probes.machine = absl::StrCat(machine.cpu, ", ", machine.kernel);
  probes.date = UtcDate(absl::Now());
  return probes;
}

absl::Status CalibrateCommand::Calibrate(Interrupter& interrupter, const CliIo& io) const {
  SLUICE_ASSIGN_OR_RETURN(const std::string out, OutPath());
  SLUICE_ASSIGN_OR_RETURN(CpuCalibrationOptions probes, Probes(out));
  std::atomic<bool> cancelled{false};
  probes.control.cancelled = [&cancelled] { return cancelled.load(); };
  interrupter.SetHandler([&cancelled] { cancelled.store(true); });
  std::unique_ptr<ProgressBar> bar;
  const CalibrationProgress progress = [&](int64_t done, int64_t total, const std::string& probe) {
    if (bar == nullptr) {
      bar = std::make_unique<ProgressBar>(io.err, io.err_is_terminal, "calibrating", total);
    }
    bar->Update(done, probe);
  };
  absl::StatusOr<CpuCalibration> cpu;
  absl::StatusOr<CudaCalibration> gpu;
  const bool is_gpu = options_.backend == "cuda";
  if (is_gpu) {
    gpu = MeasureGpu(probes.control, progress);
  } else {
    cpu = CalibrateCpu(probes, progress);
  }
  bar.reset();
  interrupter.SetHandler(nullptr);
  SLUICE_RETURN_IF_ERROR(is_gpu ? gpu.status() : cpu.status());
  if (cancelled.load()) return absl::CancelledError("interrupted");
  if (!is_gpu) return Finish(out, cpu->profile, cpu->figures, io);
  SLUICE_RETURN_IF_ERROR(Finish(out, gpu->profile, gpu->figures, io));
  io.out << "The gather kernel is faster than the copy engine for pieces below "
         << gpu->profile.kernel_below.value_or(Bytes(0)).value() << " bytes." << std::endl;
  return absl::OkStatus();
}

absl::StatusOr<CudaCalibration> CalibrateCommand::MeasureGpu(
    const ProbeControl& control, const CalibrationProgress& progress) const {
  CudaCalibrationOptions probes;
  if (!options_.model.empty()) {
    SLUICE_ASSIGN_OR_RETURN(const ModelConfig config, LoadModelConfig(options_.model));
    probes.shape = {config.hidden, config.intermediate, config.heads, config.kv_heads,
                    config.head_dim};
  }
  if (options_.quick) {
    probes.large = MiB(16);
    probes.rows = 512;
    probes.context = 512;
  }
  SLUICE_ASSIGN_OR_RETURN(const std::unique_ptr<CudaProbe> probe,
                          CudaProbe::Open(options_.device, probes.large, control));
  SLUICE_ASSIGN_OR_RETURN(const Catalogue catalogue, Catalogue::Load());
  SLUICE_ASSIGN_OR_RETURN(probes.base,
                          catalogue.FindHardware(CudaHardwareProfile(probe->device_name())));
  const MachineInfo machine = GetMachineInfo();
  probes.machine = absl::StrCat(machine.cpu, ", ", machine.kernel);
  probes.date = UtcDate(absl::Now());
  return CalibrateCuda(*probe, probes, progress);
}

absl::Status CalibrateCommand::Finish(const std::string& out, const HardwareProfile& profile,
                                      const std::vector<Measured>& figures, const CliIo& io) const {
  SLUICE_RETURN_IF_ERROR(WriteCalibration(out, profile));
  io.out << RenderFigures(figures) << '\n'
         << "Wrote " << out << ": " << profile.description << "." << std::endl;
  return absl::OkStatus();
}

int CalibrateCommand::Run(const FlagSet&, const CliIo& io) {
  Interrupter interrupter;
  const absl::Status status = Calibrate(interrupter, io);
  if (interrupter.signal() != 0) return 128 + interrupter.signal();
  if (!status.ok()) io.err << "sluice: " << status.message() << std::endl;
  return ExitCodeOf(status);
}

}  // namespace sluice
