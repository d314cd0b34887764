// The published figures of arXiv 2601.19910, beside what its own constants give and what the data
// sheets and measured rates give. Where the paper is off, the row says how.
//
// Pure; values.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "scheduler/cost/hardware_profile.h"
#include "scheduler/cost/model_profile.h"

namespace sluice {

struct PaperRow {
  std::string what;  // "κ_crit, Llama-3.1-70B, H100, PCIe 5"
  std::string unit;  // "B/MFLOP", "MFLOP/B", "requests", "tokens", "%"; empty: a plain ratio
  double printed = 0;
  double last_digit = 0;  // what one more in the last printed digit would be
  // Ours: from the paper's constants; from the dense peaks and peak links of the data sheets; from
  // sustained rates of compute and link. nullopt: the figure does not depend on them.
  double paper_constants = 0;
  std::optional<double> dense_peak;
  std::optional<double> sustained;
  // The printed figure does not follow from the paper's own constants.
  bool deviates = false;
  std::string note;  // where the paper's constant is off; may be empty
};

// The profiles the figures are about; links are PCIe 5.
struct PaperProfiles {
  ModelProfile llama_70b;
  ModelProfile llama_405b;
  ModelProfile qwen3_30b;
  ModelProfile qwen3_235b;
  ModelProfile deepseek_v3;
  HardwareProfile a100;
  HardwareProfile h100;
  HardwareProfile b200;
  HardwareProfile gb200;
  HardwareProfile pcie4;  // any device with a PCIe 4 link: its rates count
};

std::vector<PaperRow> PaperRows(const PaperProfiles& profiles);

// Whether our figure from the paper's constants is the printed one: within 3 %, or closer than half
// of the last printed digit.
bool Reproduced(const PaperRow& row);

}  // namespace sluice
