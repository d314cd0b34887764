#include "service/profiles/paper_table.h"

#include "scheduler/base/status_macros.h"

namespace sluice {

absl::StatusOr<std::vector<PaperRow>> PaperTable(const Catalogue& catalogue) {
  PaperProfiles p;
  SLUICE_ASSIGN_OR_RETURN(p.llama_70b, catalogue.FindModel("llama-3.1-70b"));
  SLUICE_ASSIGN_OR_RETURN(p.llama_405b, catalogue.FindModel("llama-3.1-405b"));
  SLUICE_ASSIGN_OR_RETURN(p.qwen3_30b, catalogue.FindModel("qwen3-30b-a3b"));
  SLUICE_ASSIGN_OR_RETURN(p.qwen3_235b, catalogue.FindModel("qwen3-235b-a22b"));
  SLUICE_ASSIGN_OR_RETURN(p.deepseek_v3, catalogue.FindModel("deepseek-v3"));
  SLUICE_ASSIGN_OR_RETURN(p.a100, catalogue.FindHardware("a100-pcie5"));
  SLUICE_ASSIGN_OR_RETURN(p.h100, catalogue.FindHardware("h100-pcie5"));
  SLUICE_ASSIGN_OR_RETURN(p.b200, catalogue.FindHardware("b200"));
  SLUICE_ASSIGN_OR_RETURN(p.gb200, catalogue.FindHardware("gb200"));
  SLUICE_ASSIGN_OR_RETURN(p.pcie4, catalogue.FindHardware("a100-pcie4"));
  return PaperRows(p);
}

}  // namespace sluice
