// Normalizers: the first step of encoding, text to text (Unicode forms, SentencePiece's "▁" for
// spaces, and so on).
#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "service/tokenizer/json_node.h"
#include "service/tokenizer/regex.h"

namespace sluice {

// Thread-safe after construction.
class Normalizer {
 public:
  virtual ~Normalizer() = default;

  // REQUIRES: `text` is valid UTF-8. The result is, too.
  virtual std::string Normalize(std::string text) const = 0;
};

// Reads the "normalizer" member of a tokenizer.json. A null node gives a normalizer that does
// nothing. Supported: Sequence, NFC, NFD, NFKC, NFKD, Lowercase, Prepend, Replace, Strip.
// Returns INVALID_ARGUMENT, or UNIMPLEMENTED naming the type.
absl::StatusOr<std::unique_ptr<Normalizer>> ParseNormalizer(const JsonNode& node);

// Reads {"String": "..."} or {"Regex": "..."}, the "pattern" member of Split and Replace.
absl::StatusOr<std::unique_ptr<Pattern>> ParsePattern(const JsonNode& node);

// `text` with each match of `pattern` replaced by `content`.
std::string ReplaceMatches(std::string_view text, const Pattern& pattern, std::string_view content);

}  // namespace sluice
