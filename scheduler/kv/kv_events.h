// KvEvents: what a KvCache tells about its content, for whoever routes requests to where their
// prefix is: which blocks there are on this machine now, and which have left its last tier.
//
// A block is named by 64 bits of its chained hash (base/hash.h), which depends on everything before
// it. It is stored when its first copy is complete, on any tier, and removed when its last copy is
// dropped: moves between tiers are no events. Stored and removed alternate per block.
//
// Values; thread-compatible.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "scheduler/base/units.h"

namespace sluice {

struct KvEvent {
  enum class Kind : uint8_t { kStored, kRemoved };

  Kind kind = Kind::kStored;
  uint64_t block = 0;
  std::optional<uint64_t> parent;  // stored: the block before; nothing at the start of a prompt
  uint64_t salt = 0;               // RequestSpec::cache_salt of those who may use it
};

// A sequence of events. The tokens of stored blocks lie one after the other.
class KvEvents {
 public:
  explicit KvEvents(Tokens tokens_per_block = Tokens(0)) : width_(tokens_per_block.size()) {}

  // Makes room for `count` stored blocks.
  void Reserve(size_t count);

  // REQUIRES: tokens.size() == tokens_per_block.
  void AddStored(uint64_t block, std::optional<uint64_t> parent, uint64_t salt,
                 std::span<const TokenId> tokens);
  void AddRemoved(uint64_t block, uint64_t salt);

  bool empty() const { return events_.empty(); }
  size_t size() const { return events_.size(); }
  const KvEvent& operator[](size_t i) const { return events_[i]; }
  Tokens tokens_per_block() const { return Tokens(static_cast<int64_t>(width_)); }

  // REQUIRES: event `i` is kStored.
  std::span<const TokenId> tokens(size_t i) const;

  // Appends event `i` of `from`. REQUIRES: the same tokens_per_block.
  void AddFrom(const KvEvents& from, size_t i);

 private:
  size_t width_;
  std::vector<KvEvent> events_;
  std::vector<size_t> offset_;  // of each event's tokens
  std::vector<TokenId> tokens_;
};

}  // namespace sluice
