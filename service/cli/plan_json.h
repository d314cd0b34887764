// `sluice plan --json`.
#pragma once

#include <nlohmann/json.hpp>
#include <vector>

#include "scheduler/cost/paper.h"
#include "service/cli/plan_result.h"
#include "service/profiles/catalogue.h"

namespace sluice {

// Base units (seconds, bytes, FLOP, joules). What is infinite or does not exist is null.
nlohmann::json PlanJson(const PlanResult& result);
nlohmann::json CatalogueJson(const Catalogue& catalogue);
nlohmann::json PaperJson(const std::vector<PaperRow>& rows);

}  // namespace sluice
