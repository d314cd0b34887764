#include "service/cli/calibrate_command.h"

#include <atomic>
#include <filesystem>
#include <vector>

#include "absl/strings/str_cat.h"
#include "backend/model/model_config.h"
#include "scheduler/base/status_macros.h"
#include "service/calibration/calibration_file.h"
#include "service/cli/machine_info.h"
#include "service/cli/progress_bar.h"
#include "service/cli/table.h"

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
  if (options_.backend == "cuda") {
    return absl::UnimplementedError(
        "calibrate: --backend cuda: this build has no CUDA backend to measure with. Until one is "
        "there, plan with a built-in profile (sluice plan --list)");
  }
  SLUICE_ASSIGN_OR_RETURN(const std::string out, OutPath());
  SLUICE_ASSIGN_OR_RETURN(CpuCalibrationOptions probes, Probes(out));
  std::atomic<bool> cancelled{false};
  probes.control.cancelled = [&cancelled] { return cancelled.load(); };
  interrupter.SetHandler([&cancelled] { cancelled.store(true); });
  absl::StatusOr<CpuCalibration> calibration = absl::CancelledError("interrupted");
  {
    std::unique_ptr<ProgressBar> bar;
    calibration = CalibrateCpu(probes, [&](int64_t done, int64_t total, const std::string& probe) {
      if (bar == nullptr) {
        bar = std::make_unique<ProgressBar>(io.err, io.err_is_terminal, "calibrating", total);
      }
      bar->Update(done, probe);
    });
  }
  interrupter.SetHandler(nullptr);
  SLUICE_RETURN_IF_ERROR(calibration.status());
  if (cancelled.load()) return absl::CancelledError("interrupted");
  SLUICE_RETURN_IF_ERROR(WriteCalibration(out, calibration->profile));
  io.out << RenderFigures(calibration->figures) << '\n'
         << "Wrote " << out << ": " << calibration->profile.description << "." << std::endl;
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
