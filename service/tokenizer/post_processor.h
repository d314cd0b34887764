// Post-processors: the special tokens around an encoded text (BOS, EOS).
#pragma once

#include <vector>

#include "absl/status/statusor.h"
#include "scheduler/base/units.h"
#include "service/tokenizer/json_node.h"

namespace sluice {

struct PostProcessor {
  std::vector<TokenId> before;
  std::vector<TokenId> after;
};

// Reads the "post_processor" member of a tokenizer.json; null adds nothing. Supported:
// TemplateProcessing (its "single" template), ByteLevel (changes no ids) and a Sequence of these
// with at most one template. Ids must be below `vocab_size`.
// Returns INVALID_ARGUMENT, or UNIMPLEMENTED naming the type.
absl::StatusOr<PostProcessor> ParsePostProcessor(const JsonNode& node, TokenId vocab_size);

}  // namespace sluice
