// RAPL: one folder per zone with `name`, `energy_uj` (a counter) and `max_energy_range_uj` (where
// it wraps). Zones "intel-rapl:N" are packages, "intel-rapl:N:M" parts of them. Of the parts only
// memory is read, which the package does not include; "psys" includes the packages and is left out.

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "service/telemetry/power_source.h"

namespace sluice {
namespace {

constexpr double kMicro = 1e-6;

std::string FirstLine(const std::filesystem::path& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

std::optional<double> ReadNumber(const std::filesystem::path& path) {
  double value = 0;
  if (!absl::SimpleAtod(FirstLine(path), &value)) return std::nullopt;
  return value;
}

class Rapl final : public PowerSource {
 public:
  struct Zone {
    std::filesystem::path folder;
    double range_uj = 0;
    double last_uj = 0;
    PowerReading reading;
  };

  Rapl(std::vector<Zone> zones, absl::Time now) : zones_(std::move(zones)), last_(now) {}

  std::vector<PowerReading> Read(absl::Time now) override {
    const double passed = absl::ToDoubleSeconds(now - last_);
    last_ = now;
    std::vector<PowerReading> readings;
    for (Zone& zone : zones_) {
      const std::optional<double> at = ReadNumber(zone.folder / "energy_uj");
      double used = at.has_value() ? *at - zone.last_uj : 0;
      if (used < 0) used += zone.range_uj;
      if (at.has_value()) zone.last_uj = *at;
      zone.reading.energy += Joules(std::max(0.0, used) * kMicro);
      zone.reading.power = Watts(passed > 0 ? std::max(0.0, used) * kMicro / passed : 0);
      readings.push_back(zone.reading);
    }
    return readings;
  }

 private:
  std::vector<Zone> zones_;
  absl::Time last_;
};

// The name of a zone's series, empty if it is not wanted. "intel-rapl:0" -> "package-0";
// "intel-rapl:1:0", called dram -> "dram-1".
std::string DeviceName(const std::string& zone, const std::string& name) {
  if (absl::StartsWith(name, "package-")) return name;
  const size_t first = zone.find(':');
  const size_t second = zone.find(':', first + 1);
  if (name != "dram" || second == std::string::npos) return "";
  return absl::StrCat("dram-", zone.substr(first + 1, second - first - 1));
}

}  // namespace

std::unique_ptr<PowerSource> OpenRapl(const std::string& folder, absl::Time now) {
  std::vector<Rapl::Zone> zones;
  std::error_code error;
  for (std::filesystem::directory_iterator it(folder, error), end; !error && it != end;
       it.increment(error)) {
    Rapl::Zone zone;
    zone.folder = it->path();
    const std::string file = it->path().filename().string();
    if (!absl::StrContains(file, "rapl:") || absl::StartsWith(file, "intel-rapl-mmio")) continue;
    zone.reading.device = DeviceName(file, FirstLine(zone.folder / "name"));
    const std::optional<double> at = ReadNumber(zone.folder / "energy_uj");
    if (zone.reading.device.empty() || !at.has_value()) continue;
    zone.last_uj = *at;
    zone.range_uj = ReadNumber(zone.folder / "max_energy_range_uj").value_or(0);
    zones.push_back(std::move(zone));
  }
  if (zones.empty()) return nullptr;
  std::sort(zones.begin(), zones.end(), [](const Rapl::Zone& a, const Rapl::Zone& b) {
    return a.reading.device < b.reading.device;
  });
  return std::make_unique<Rapl>(std::move(zones), now);
}

}  // namespace sluice
