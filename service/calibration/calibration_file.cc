#include "service/calibration/calibration_file.h"

#include <pwd.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <utility>

#include "absl/strings/str_cat.h"
#include "backend/model/files.h"
#include "scheduler/base/status_macros.h"
#include "scheduler/cost/cost_model.h"
#include "service/config/memory.h"
#include "service/profiles/catalogue.h"
#include "service/profiles/model_config_profile.h"
#include "service/profiles/profile_files.h"

namespace sluice {
namespace {

constexpr Bytes kMostBytes = MiB(1);
constexpr char kCpuProfile[] = "cpu-default";
constexpr char kRemedy[] = "run `sluice calibrate`";

// The built-in guess; of a CPU with this machine's memory, which need not be guessed.
absl::StatusOr<HardwareProfile> DefaultHardware(const std::string& name) {
  SLUICE_ASSIGN_OR_RETURN(const Catalogue catalogue, Catalogue::Load());
  SLUICE_ASSIGN_OR_RETURN(HardwareProfile hardware, catalogue.FindHardware(name));
  if (name != kCpuProfile) return hardware;
  hardware.memory = MemoryLimit();
  hardware.host_memory = MemoryLimit();
  return hardware;
}

absl::Status FillHardware(const CalibrationRequest& request, Calibration& result) {
  absl::StatusOr<HardwareProfile> hardware = ReadCalibration(request.path);
  if (hardware.ok()) {
    const std::string path = request.path.empty() ? DefaultCalibrationPath() : request.path;
    result.hardware = *std::move(hardware);
    result.measured = true;
    result.provenance = absl::StrCat("costs start from ", path, " (", result.hardware.name, ": ",
                                     result.hardware.description, ")");
    return absl::OkStatus();
  }
  if (!request.path.empty()) return hardware.status();
  SLUICE_ASSIGN_OR_RETURN(result.hardware, DefaultHardware(request.builtin));
  const bool missing = absl::IsNotFound(hardware.status());
  result.provenance =
      absl::StrCat("this machine is not calibrated",
                   missing ? "" : absl::StrCat(" (", hardware.status().message(), ")"),
                   "; costs start from the built-in guess ", request.builtin,
                   " and are refined while serving; ", kRemedy, " for better ones");
  return absl::OkStatus();
}

// Copies paced to `link` are no faster than that in either direction, and no faster than memory.
void Pace(ByteRate link, HardwareProfile& hardware) {
  const auto pace = [&](ByteRate rate) { return std::min(rate, link); };
  for (LinkRate* direction : {&hardware.to_device, &hardware.to_host}) {
    *direction = {pace(direction->peak), pace(direction->sustained)};
  }
  // Two paced directions leave room for each other as long as memory can carry both.
  hardware.duplex_sustained = std::min(hardware.duplex_sustained,
                                       hardware.to_device.sustained + hardware.to_host.sustained);
}

}  // namespace

std::string DefaultCalibrationPath() {
  const passwd* user = getpwuid(getuid());
  if (user == nullptr || user->pw_dir == nullptr || user->pw_dir[0] == '\0') return "";
  return (std::filesystem::path(user->pw_dir) / ".cache/sluice/hardware.json").string();
}

absl::StatusOr<HardwareProfile> ReadCalibration(const std::string& path) {
  const std::string place = path.empty() ? DefaultCalibrationPath() : path;
  if (place.empty()) return absl::NotFoundError("no home directory");
  SLUICE_ASSIGN_OR_RETURN(const std::string text, ReadSmallFile(place, kMostBytes));
  return HardwareFromJson(text, place);
}

absl::Status WriteCalibration(const std::string& path, const HardwareProfile& profile) {
  const std::filesystem::path target(path);
  const std::string draft = absl::StrCat(path, ".", getpid(), ".tmp");
  std::error_code error;
  if (target.has_parent_path()) std::filesystem::create_directories(target.parent_path(), error);
  bool written = false;
  {
    std::ofstream file(draft, std::ios::trunc);
    file << HardwareToJson(profile);
    file.close();
    written = file.good();
  }
  if (written) std::filesystem::rename(draft, target, error);
  if (written && !error) return absl::OkStatus();
  std::error_code ignored;
  std::filesystem::remove(draft, ignored);
  return absl::UnavailableError(
      absl::StrCat(path, ": cannot be written; check path, permission and space"));
}

absl::StatusOr<Calibration> LoadCalibration(const CalibrationRequest& request) {
  Calibration result;
  const std::string config = (std::filesystem::path(request.model) / "config.json").string();
  SLUICE_ASSIGN_OR_RETURN(const std::string text, ReadSmallFile(config, kMostBytes));
  SLUICE_ASSIGN_OR_RETURN(result.model, ModelFromConfigJson(text, config));
  SLUICE_RETURN_IF_ERROR(FillHardware(request, result));
  Deployment deployment;
  deployment.model = result.model;
  deployment.hardware = result.hardware;
  deployment.weights = request.weights;
  deployment.kv = request.kv;
  deployment.kv_offload = request.kv;
  deployment.memory_share = 1;
  if (request.link.has_value()) Pace(*request.link, deployment.hardware);
  SLUICE_RETURN_IF_ERROR(deployment.Validate());
  result.cost = MakeCoefficients(deployment);
  return result;
}

}  // namespace sluice
