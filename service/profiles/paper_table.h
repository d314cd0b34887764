// The paper's figures with the profiles of a catalogue.
#pragma once

#include <vector>

#include "absl/status/statusor.h"
#include "scheduler/cost/paper.h"
#include "service/profiles/catalogue.h"

namespace sluice {

// Returns NOT_FOUND if the catalogue lacks one of the paper's models or devices.
absl::StatusOr<std::vector<PaperRow>> PaperTable(const Catalogue& catalogue);

}  // namespace sluice
