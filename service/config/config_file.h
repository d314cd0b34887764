// Configuration files: a flat YAML mapping whose keys are the flags of a command.
//
//   model: /models/llama-3-8b
//   max-model-len: 8192        # snake_case is accepted too
//   host-kv-gib: 64
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "service/config/flag_set.h"

namespace sluice {

// Reads `path` and returns one assignment per key, in file order. Values are not checked yet;
// FlagSet::Apply() does.
// Returns NOT_FOUND if the file cannot be read; INVALID_ARGUMENT, with file and line, for text that
// is no YAML mapping, for an unknown key (with a suggestion), a key given twice, a list where one
// value is wanted, or a value that is empty.
absl::StatusOr<std::vector<Assignment>> LoadConfigFile(const std::string& path,
                                                       const FlagSet& flags);

// The same from text; `where` names the file in messages.
absl::StatusOr<std::vector<Assignment>> ParseConfigText(const std::string& text,
                                                        const std::string& where,
                                                        const FlagSet& flags);

}  // namespace sluice
