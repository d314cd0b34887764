// What `sluice plan` prints.
#pragma once

#include <string>

#include "scheduler/cost/paper.h"
#include "service/cli/plan_result.h"
#include "service/profiles/catalogue.h"

namespace sluice {

// A page that a person understands in a minute: κ, plans, regions, what-ifs, a recommendation.
std::string PlanText(const PlanResult& result);

// --list.
std::string CatalogueText(const Catalogue& catalogue);

// --paper alone.
std::string PaperText(const std::vector<PaperRow>& rows);

// A row of figures with its meaning; the report shows the same.
struct PlanFigure {
  std::string name;
  std::string value;
  std::string meaning;
};
std::vector<PlanFigure> PlanFigures(const PlanResult& result);

// Where each plan stands, a row per plan: name, mean TTFT, share it is best for, against the best.
std::vector<std::vector<std::string>> PlanRows(const PlanAnalysis& analysis);

// What each what-if changes, a row each: label, κ_crit, link-bound, transfer share, TTFT, change,
// joules per request, requests that fit. The first row is the deployment as it is.
std::vector<std::vector<std::string>> WhatIfRows(const PlanResult& result);
// What one must know to read them; may be empty. Ends in a newline otherwise.
std::string WhatIfNote(const PlanResult& result);

}  // namespace sluice
