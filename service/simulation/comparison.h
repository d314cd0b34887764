// Comparison: one workload under several contenders.
//
// Thread-compatible.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "service/report/report.h"
#include "service/simulation/contender.h"
#include "service/simulation/simulation.h"
#include "service/simulation/summary.h"

namespace sluice {

struct Comparison {
  struct Entry {
    Contender contender;
    Summary summary;
    SimulationResult result;
  };

  std::string version;
  std::string command;   // that repeats it
  std::string machine;   // for people
  std::string workload;  // for people
  uint64_t seed = 0;
  double rate_scale = 1;
  SimulationOptions options;  // what the contenders share
  std::vector<Entry> entries;

  void Add(const Contender& contender, const SimulationOptions& used, SimulationResult result);
};

// Everything as JSON. No date, no wall time: the same comparison gives the same bytes.
nlohmann::ordered_json ComparisonJson(const Comparison& comparison);

// The same as a page with charts.
Report ComparisonReport(const Comparison& comparison);

}  // namespace sluice
