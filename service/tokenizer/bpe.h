// The byte pair encoding model: a piece of text becomes symbols (one per character, or one per byte
// at byte level), and neighbours are merged, best rank first and leftmost first, until no pair is
// in the list of merges. (Sennrich et al., "Neural Machine Translation of Rare Words with Subword
// Units", 2016; details as in the `tokenizers` library.)
//
// Cost: O(n log n) for a piece of n symbols. Pieces that are a vocabulary entry which the merges
// would build anyway, most words of a text, cost one look-up; those entries are found while
// loading. There is no cache, hence no lock and no state.
//
// Thread-safe after construction.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "scheduler/base/units.h"
#include "service/tokenizer/json_node.h"

namespace sluice {

class Bpe {
 public:
  // Ids are below this: tables are indexed by id, and a file must not ask for terabytes.
  static constexpr TokenId kMaxVocab = 1 << 24;

  // Reads the "model" member of a tokenizer.json. `byte_level`: pieces are encoded by their bytes.
  // Returns INVALID_ARGUMENT, or UNIMPLEMENTED naming what is not supported (other model types,
  // dropout, continuing_subword_prefix, end_of_word_suffix).
  static absl::StatusOr<std::unique_ptr<Bpe>> Parse(const JsonNode& node, bool byte_level);

  // Appends the ids of `piece`. A character that is not in the vocabulary becomes its bytes
  // ("<0x0A>") with byte_fallback, else the unknown token, else nothing.
  // REQUIRES: `piece` is valid UTF-8, or bytes at byte level; shorter than 4 GiB.
  void Encode(std::string_view piece, std::vector<TokenId>* out) const;

  std::optional<TokenId> Find(std::string_view text) const;
  // Nothing if there is no such id. The text lives as long as the model.
  std::optional<std::string_view> Text(TokenId id) const;
  // One past the highest id; 0 for an empty vocabulary.
  TokenId size() const { return static_cast<TokenId>(texts_.size()); }

 private:
  struct Merge {
    uint32_t rank = kNoRank;
    TokenId id = -1;
  };
  static constexpr uint32_t kNoRank = UINT32_MAX;

  Bpe() = default;

  absl::Status ReadOptions(const JsonNode& node);
  absl::Status ReadVocab(const JsonNode& node);
  absl::Status ReadMerges(const JsonNode& node);
  absl::Status AddMerge(uint32_t rank, std::string_view left, std::string_view right);
  void IndexUnits();
  void IndexWords();

  const Merge* FindMerge(TokenId left, TokenId right) const;
  uint32_t RankOf(TokenId left, TokenId right) const;

  void AppendSymbols(std::string_view piece, std::vector<TokenId>* out) const;
  // Appends the symbols of a character that is not in the vocabulary; `unk` counts the pending
  // unknown characters (0 or 1).
  void AppendUnknown(std::string_view character, std::vector<TokenId>* out, bool* unk) const;
  // Both merge in place. MergeFew is O(n^2) with small constants, MergeMany O(n log n).
  void MergeFew(std::vector<TokenId>* symbols) const;
  void MergeMany(std::vector<TokenId>* symbols) const;
  void EncodeByMerging(std::string_view piece, std::vector<TokenId>* out) const;

  bool byte_level_ = false;
  bool byte_fallback_ = false;
  bool fuse_unk_ = false;
  bool ignore_merges_ = false;
  std::optional<TokenId> unk_;

  std::vector<std::optional<std::string>> texts_;          // by id
  absl::flat_hash_map<absl::string_view, TokenId> ids_;    // keys point into texts_
  absl::flat_hash_map<uint64_t, Merge> merges_;            // key: left id, right id
  std::array<TokenId, 256> unit_ids_ = {};                 // by byte; -1: not in the vocabulary
  std::array<TokenId, 256> fallback_ids_ = {};             // "<0x0A>"; -1 as above
  std::vector<std::string> words_text_;                    // by id; what pieces look like
  absl::flat_hash_map<absl::string_view, TokenId> words_;  // keys point into words_text_
  size_t longest_word_ = 0;
};

}  // namespace sluice
