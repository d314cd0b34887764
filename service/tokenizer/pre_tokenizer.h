// Pre-tokenizers: cut a normalized text into pieces. The model's merges never cross a piece.
#pragma once

#include <deque>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "service/tokenizer/json_node.h"
#include "service/tokenizer/regex.h"

namespace sluice {

// A part of the text; never empty when it leaves a PreTokenizer.
struct Piece {
  std::string_view text;
  bool at_start = false;  // begins where the whole input begins
};

// What happens to the matches of a pattern, as the `tokenizers` library names it.
enum class SplitBehavior {
  kIsolated,            // a piece of its own
  kRemoved,             // dropped
  kMergedWithPrevious,  // the end of the piece before
  kMergedWithNext,      // the beginning of the piece after
  kContiguous,          // neighbouring matches together are a piece
};

// Applies `behavior` to a complete cut of a text. The result has no empty spans.
std::vector<Span> ApplyBehavior(const std::vector<Span>& spans, SplitBehavior behavior);

// One step. Thread-safe after construction.
class SplitStep {
 public:
  virtual ~SplitStep() = default;

  // Appends the pieces of `piece` to `out`. Text that is not part of `piece` is put into `storage`,
  // which keeps its elements in place.
  virtual void Split(const Piece& piece, std::deque<std::string>* storage,
                     std::vector<Piece>* out) const = 0;
};

// The steps of one tokenizer. Thread-safe after construction.
class PreTokenizer {
 public:
  PreTokenizer(std::vector<std::unique_ptr<SplitStep>> steps, bool byte_level)
      : steps_(std::move(steps)), byte_level_(byte_level) {}

  // Cuts `text`. `at_start`: it begins where the whole input begins. Pieces point into `text` and
  // `storage`.
  // REQUIRES: `text` is valid UTF-8.
  std::vector<Piece> Split(std::string_view text, bool at_start,
                           std::deque<std::string>* storage) const;

  // Whether the model sees the bytes of a piece (byte_alphabet.h) and not its characters.
  bool byte_level() const { return byte_level_; }

 private:
  const std::vector<std::unique_ptr<SplitStep>> steps_;
  const bool byte_level_;
};

// Reads the "pre_tokenizer" member of a tokenizer.json; null gives the whole text as one piece.
// Supported: Sequence, ByteLevel (as the last step), Split, Metaspace, Digits, Punctuation,
// WhitespaceSplit. Returns INVALID_ARGUMENT, or UNIMPLEMENTED naming the type.
absl::StatusOr<std::unique_ptr<PreTokenizer>> ParsePreTokenizer(const JsonNode& node);

// Whether a Metaspace (pre-tokenizer or decoder) puts its mark before the text, and where.
enum class PrependScheme { kFirst, kNever, kAlways };

struct Metaspace {
  std::string mark;  // one character, usually "▁"
  PrependScheme prepend = PrependScheme::kAlways;
  bool split = true;
};

absl::StatusOr<Metaspace> ParseMetaspace(const JsonNode& node);

}  // namespace sluice
