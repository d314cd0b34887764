#include "service/telemetry/process_collector.h"

#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <optional>
#include <sstream>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "service/telemetry/family.h"

namespace sluice {
namespace {

using prometheus::MetricType;

std::string ReadAll(const std::string& path) {
  std::ifstream file(path);
  std::stringstream content;
  content << file.rdbuf();
  return content.str();
}

// The fields of stat that follow the program's name, which may hold blanks itself: [0] is field 3
// of proc(5).
std::vector<std::string> StatFields(const std::string& text) {
  const size_t name_end = text.rfind(')');
  if (name_end == std::string::npos) return {};
  return absl::StrSplit(text.substr(name_end + 1), ' ', absl::SkipWhitespace());
}

std::optional<double> Field(const std::vector<std::string>& fields, size_t number) {
  double value = 0;
  if (number - 3 >= fields.size() || !absl::SimpleAtod(fields[number - 3], &value)) {
    return std::nullopt;
  }
  return value;
}

// Seconds since 1970 at which the machine started.
std::optional<double> BootTime(const std::string& path) {
  for (const absl::string_view line : absl::StrSplit(ReadAll(path), '\n')) {
    const std::vector<std::string> words = absl::StrSplit(line, ' ');
    double value = 0;
    if (words.size() == 2 && words[0] == "btime" && absl::SimpleAtod(words[1], &value))
      return value;
  }
  return std::nullopt;
}

std::optional<double> OpenFiles(const std::string& folder) {
  std::error_code error;
  double count = 0;
  for (std::filesystem::directory_iterator it(folder, error), end; !error && it != end;
       it.increment(error)) {
    ++count;
  }
  if (error) return std::nullopt;
  return count;
}

std::optional<double> MaxFiles(const std::string& limits) {
  for (const absl::string_view line : absl::StrSplit(limits, '\n')) {
    const std::vector<std::string> words = absl::StrSplit(line, ' ', absl::SkipWhitespace());
    double value = 0;
    if (words.size() > 3 && words[0] == "Max" && words[1] == "open" &&
        absl::SimpleAtod(words[3], &value)) {
      return value;
    }
  }
  return std::nullopt;
}

void Put(MetricType type, const char* name, const char* help, std::optional<double> value,
         std::vector<prometheus::MetricFamily>* families) {
  if (!value.has_value()) return;
  families->push_back(FamilyBuilder(type, name, help, {}).Add(*value).Build());
}

}  // namespace

std::vector<prometheus::MetricFamily> ProcessCollector::Collect() const {
  const std::vector<std::string> stat = StatFields(ReadAll(absl::StrCat(proc_, "/stat")));
  const auto ticks = static_cast<double>(std::max(1L, sysconf(_SC_CLK_TCK)));
  const auto page = static_cast<double>(sysconf(_SC_PAGESIZE));
  const auto scaled = [](std::optional<double> value, double factor) {
    return value.has_value() ? std::optional<double>(*value * factor) : std::nullopt;
  };
  std::optional<double> cpu = Field(stat, 14);
  if (const auto system = Field(stat, 15); cpu.has_value() && system.has_value()) *cpu += *system;
  std::optional<double> start = scaled(Field(stat, 22), 1 / ticks);
  const std::optional<double> boot =
      BootTime(absl::StrCat(std::filesystem::path(proc_).parent_path().string(), "/stat"));
  if (start.has_value() && boot.has_value()) {
    *start += *boot;
  } else {
    start.reset();
  }
  std::vector<prometheus::MetricFamily> families;
  const MetricType gauge = MetricType::Gauge;
  Put(MetricType::Counter, "process_cpu_seconds_total", "CPU time of the process, user and system.",
      scaled(cpu, 1 / ticks), &families);
  Put(gauge, "process_resident_memory_bytes", "Resident memory.", scaled(Field(stat, 24), page),
      &families);
  Put(gauge, "process_virtual_memory_bytes", "Virtual memory.", Field(stat, 23), &families);
  Put(gauge, "process_threads", "Threads.", Field(stat, 20), &families);
  Put(gauge, "process_start_time_seconds", "When the process started, since 1970.", start,
      &families);
  Put(gauge, "process_open_fds", "Open file descriptors.", OpenFiles(absl::StrCat(proc_, "/fd")),
      &families);
  Put(gauge, "process_max_fds", "Most file descriptors that may be open.",
      MaxFiles(ReadAll(absl::StrCat(proc_, "/limits"))), &families);
  return families;
}

}  // namespace sluice
