// Added tokens: texts that are one token wherever they appear, outside the reach of the model
// ("<|im_start|>", "<think>"). Special ones are hidden when text is shown.
//
// Thread-safe after construction.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "scheduler/base/units.h"
#include "service/tokenizer/bpe.h"
#include "service/tokenizer/json_node.h"
#include "service/tokenizer/normalizer.h"

namespace sluice {

struct AddedToken {
  TokenId id = -1;
  std::string content;
  bool single_word = false;  // only between non-word characters
  bool lstrip = false;       // takes the whitespace before it along
  bool rstrip = false;       // and after it
  bool normalized = false;   // is looked for in the normalized text, in normalized form
  bool special = false;
};

// A part of a text: an added token, or text between two.
struct Segment {
  size_t begin = 0;
  size_t end = 0;
  const AddedToken* token = nullptr;
};

// Finds texts of a fixed set: at each place the longest, then on from its end.
// Cost: O(bytes) for texts without near matches; at most O(bytes * longest token).
class TokenFinder {
 public:
  // `text` empty: never found. REQUIRES: `token` outlives this.
  void Add(std::string_view text, const AddedToken* token);

  // Cuts `text` completely; no segment is empty. Special tokens count only if `parse_special`.
  // REQUIRES: `text` is valid UTF-8.
  std::vector<Segment> Cut(std::string_view text, bool parse_special) const;

 private:
  struct Match {
    size_t size = 0;
    const AddedToken* token = nullptr;
  };

  Match LongestAt(std::string_view text) const;
  size_t NextCandidate(std::string_view text, size_t from) const;

  // A trie. The edge from `node` over `byte` is at key node * 256 + byte.
  absl::flat_hash_map<uint64_t, uint32_t> edges_;
  std::vector<const AddedToken*> token_at_ = {nullptr};  // by node; node 0 is the root
  bool can_begin_[256] = {};
};

class AddedTokens {
 public:
  // Reads the "added_tokens" member (null or missing: none). Returns INVALID_ARGUMENT if an entry
  // contradicts the vocabulary or another entry.
  static absl::StatusOr<std::unique_ptr<AddedTokens>> Parse(const std::optional<JsonNode>& node,
                                                            const Bpe& bpe,
                                                            const Normalizer& normalizer);

  const AddedToken* Find(TokenId id) const;
  const AddedToken* Find(std::string_view content) const;
  // One past the highest id; 0 if there are none.
  TokenId end_id() const { return end_id_; }

  // For texts before and after normalization.
  const TokenFinder& raw_finder() const { return raw_finder_; }
  const TokenFinder& normalized_finder() const { return normalized_finder_; }

 private:
  AddedTokens() = default;

  absl::StatusOr<AddedToken> ReadToken(const JsonNode& node, const Bpe& bpe) const;

  std::vector<std::unique_ptr<AddedToken>> tokens_;
  absl::flat_hash_map<TokenId, const AddedToken*> by_id_;
  absl::flat_hash_map<std::string, const AddedToken*> by_content_;
  TokenId end_id_ = 0;
  TokenFinder raw_finder_;
  TokenFinder normalized_finder_;
};

}  // namespace sluice
