#include "service/cli/simulate_report.h"

#include <cmath>
#include <fstream>

#include "absl/strings/str_cat.h"
#include "service/cli/table.h"

namespace sluice {
namespace {

std::string Percent(double part, double whole) {
  return whole > 0 ? absl::StrCat(Fixed(100 * part / whole, 0), "%") : "-";
}

}  // namespace

std::string ComparisonTable(const Comparison& comparison) {
  Table table({{"policy", Table::Align::kLeft},
               {"done"},
               {"refused"},
               {"TTFT s"},
               {"p99 s"},
               {"slowdown"},
               {"ITL ms"},
               {"makespan s"},
               {"of bound"},
               {"link"},
               {"device"},
               {"exposed s"},
               {"max wait s"},
               {"Jain"},
               {"kJ"}});
  for (const Comparison::Entry& entry : comparison.entries) {
    const Summary& s = entry.summary;
    table.AddRow({entry.contender.label, absl::StrCat(s.completed), absl::StrCat(s.rejected),
                  Fixed(s.ttft_s.mean, 3), Fixed(s.ttft_s.p99, 3), Fixed(s.slowdown.mean, 2),
                  Fixed(1e3 * s.itl_s.mean, 1), Fixed(s.makespan_s, 1),
                  Percent(s.makespan_s, s.bound_s), Percent(s.link_busy_s[0], s.makespan_s),
                  Percent(s.device_busy_s, s.makespan_s), Fixed(s.exposed_link_s, 1),
                  Fixed(s.max_wait_s, 2), Fixed(s.fairness.jain, 3), Fixed(s.energy_j / 1e3, 1)});
  }
  return absl::StrCat(comparison.workload, ", rate x ", Fixed(comparison.rate_scale, 4), ", on ",
                      comparison.machine, "\n\n", table.Render());
}

absl::Status WriteComparisonJson(const std::string& path, const Comparison& comparison,
                                 const CliIo& io) {
  if (path.empty()) return absl::OkStatus();
  const nlohmann::ordered_json json = ComparisonJson(comparison);
  if (path == "-") {
    io.out << json.dump() << std::endl;
    return absl::OkStatus();
  }
  std::ofstream file(path);
  if (!(file << json.dump(2) << std::endl)) {
    return absl::UnavailableError(
        absl::StrCat("--json: ", path, ": cannot be written; check path and space"));
  }
  return absl::OkStatus();
}

}  // namespace sluice
