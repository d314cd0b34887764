// One line of a trace file as it stands there: values checked, nothing resolved or scaled.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace sluice {

struct ParsedTraceLine {
  int64_t arrival_ms = 0;
  int64_t input_tokens = 0;   // at least 1
  int64_t output_tokens = 0;  // at least 1; a 0 in the file is read as 1: a request to send has one
  int64_t block_tokens = 0;   // at least 1; 0: plain form

  std::optional<std::vector<uint64_t>> block_hashes;  // block form

  std::optional<std::string> session;  // session form
  int64_t turn = 0;
  int64_t shared_prefix_tokens = 0;
  std::optional<int64_t> ref;

  int64_t tenant = 0;
  int64_t priority = 0;
};

// `where` ("trace.jsonl:17") begins every message, and `index` is the 0-based number of the line,
// above any `ref`. Returns INVALID_ARGUMENT naming key, value and what is allowed.
absl::StatusOr<ParsedTraceLine> ParseTraceLine(std::string_view text, const std::string& where,
                                               int64_t index);

}  // namespace sluice
