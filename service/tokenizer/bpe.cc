#include "service/tokenizer/bpe.h"

#include <algorithm>
#include <functional>
#include <queue>
#include <utility>

#include "scheduler/base/check.h"
#include "service/tokenizer/byte_alphabet.h"
#include "service/tokenizer/utf8.h"

namespace sluice {
namespace {

absl::string_view Key(std::string_view s) { return {s.data(), s.size()}; }

uint64_t PairKey(TokenId left, TokenId right) {
  return (static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32) | static_cast<uint32_t>(right);
}

// A list of symbols from which neighbours are taken out as they merge.
struct LinkedSymbol {
  TokenId id = -1;  // -1: merged into the one before
  uint32_t previous = 0;
  uint32_t next = 0;
};

}  // namespace

std::optional<TokenId> Bpe::Find(std::string_view text) const {
  const auto it = ids_.find(Key(text));
  if (it == ids_.end()) return std::nullopt;
  return it->second;
}

std::optional<std::string_view> Bpe::Text(TokenId id) const {
  if (id < 0 || id >= size() || !texts_[static_cast<size_t>(id)].has_value()) return std::nullopt;
  return *texts_[static_cast<size_t>(id)];
}

const Bpe::Merge* Bpe::FindMerge(TokenId left, TokenId right) const {
  const auto it = merges_.find(PairKey(left, right));
  return it == merges_.end() ? nullptr : &it->second;
}

uint32_t Bpe::RankOf(TokenId left, TokenId right) const {
  const Merge* merge = FindMerge(left, right);
  return merge == nullptr ? kNoRank : merge->rank;
}

void Bpe::Encode(std::string_view piece, std::vector<TokenId>* out) const {
  if (piece.empty()) return;
  if (piece.size() <= longest_word_) {
    const auto it = words_.find(Key(piece));
    if (it != words_.end()) {
      out->push_back(it->second);
      return;
    }
  }
  EncodeByMerging(piece, out);
}

void Bpe::EncodeByMerging(std::string_view piece, std::vector<TokenId>* out) const {
  constexpr size_t kFew = 32;
  std::vector<TokenId> symbols;
  symbols.reserve(piece.size());
  AppendSymbols(piece, &symbols);
  if (symbols.size() <= kFew) {
    MergeFew(&symbols);
  } else {
    MergeMany(&symbols);
  }
  out->insert(out->end(), symbols.begin(), symbols.end());
}

void Bpe::AppendSymbols(std::string_view piece, std::vector<TokenId>* out) const {
  bool unk = false;
  while (!piece.empty()) {
    const auto first = static_cast<uint8_t>(piece[0]);
    const bool one_byte = byte_level_ || first < 0x80;
    const size_t size = one_byte ? 1 : NextCharacter(piece).size;
    TokenId id = -1;
    if (one_byte) {
      id = unit_ids_[first];
    } else if (const auto it = ids_.find(Key(piece.substr(0, size))); it != ids_.end()) {
      id = it->second;
    }
    if (id < 0) {
      AppendUnknown(byte_level_ ? ByteAsText(first) : piece.substr(0, size), out, &unk);
    } else {
      if (std::exchange(unk, false)) out->push_back(*unk_);
      out->push_back(id);
    }
    piece.remove_prefix(size);
  }
  if (unk) out->push_back(*unk_);
}

void Bpe::AppendUnknown(std::string_view character, std::vector<TokenId>* out, bool* unk) const {
  if (byte_fallback_) {
    const bool complete = std::all_of(character.begin(), character.end(), [this](char c) {
      return fallback_ids_[static_cast<uint8_t>(c)] >= 0;
    });
    if (complete) {
      for (const char c : character) out->push_back(fallback_ids_[static_cast<uint8_t>(c)]);
      return;
    }
  }
  if (!unk_.has_value()) return;
  if (*unk && !fuse_unk_) out->push_back(*unk_);
  *unk = true;
}

void Bpe::MergeFew(std::vector<TokenId>* symbols) const {
  std::vector<TokenId>& ids = *symbols;
  if (ids.size() < 2) return;
  std::vector<uint32_t> ranks(ids.size() - 1);  // of the pair (i, i + 1)
  for (size_t i = 0; i < ranks.size(); ++i) ranks[i] = RankOf(ids[i], ids[i + 1]);
  while (!ranks.empty()) {
    const auto best = std::min_element(ranks.begin(), ranks.end());
    if (*best == kNoRank) return;
    const auto i = static_cast<size_t>(best - ranks.begin());
    ids[i] = FindMerge(ids[i], ids[i + 1])->id;
    ids.erase(ids.begin() + static_cast<ptrdiff_t>(i) + 1);
    ranks.erase(best);
    if (i > 0) ranks[i - 1] = RankOf(ids[i - 1], ids[i]);
    if (i < ranks.size()) ranks[i] = RankOf(ids[i], ids[i + 1]);
  }
}

// The queue holds rank and place of pairs, some of them out of date: a pair is still there if the
// symbols now at that place have the same rank, because a rank belongs to one pair.
void Bpe::MergeMany(std::vector<TokenId>* symbols) const {
  SLUICE_CHECK(symbols->size() < UINT32_MAX);
  const auto n = static_cast<uint32_t>(symbols->size());
  std::vector<LinkedSymbol> list(n);
  std::vector<uint64_t> initial;
  for (uint32_t i = 0; i < n; ++i) {
    list[i] = {(*symbols)[i], i - 1, i + 1};  // before the first: UINT32_MAX; after the last: n
    const uint32_t rank = i + 1 < n ? RankOf((*symbols)[i], (*symbols)[i + 1]) : kNoRank;
    if (rank != kNoRank) initial.push_back((static_cast<uint64_t>(rank) << 32) | i);
  }
  std::priority_queue<uint64_t, std::vector<uint64_t>, std::greater<>> queue(std::greater<>(),
                                                                             std::move(initial));
  const auto push_pair = [&](uint32_t at) {
    const uint32_t rank = RankOf(list[at].id, list[list[at].next].id);
    if (rank != kNoRank) queue.push((static_cast<uint64_t>(rank) << 32) | at);
  };
  while (!queue.empty()) {
    const uint64_t top = queue.top();
    queue.pop();
    const auto at = static_cast<uint32_t>(top);
    LinkedSymbol& left = list[at];
    if (left.id < 0 || left.next == n) continue;
    LinkedSymbol& right = list[left.next];
    const Merge* merge = FindMerge(left.id, right.id);
    if (merge == nullptr || merge->rank != top >> 32) continue;
    left.id = merge->id;
    right.id = -1;
    left.next = right.next;
    if (left.next != n) {
      list[left.next].previous = at;
      push_pair(at);
    }
    if (left.previous != UINT32_MAX) push_pair(left.previous);
  }
  symbols->clear();
  for (const LinkedSymbol& symbol : list) {
    if (symbol.id >= 0) symbols->push_back(symbol.id);
  }
}

}  // namespace sluice
