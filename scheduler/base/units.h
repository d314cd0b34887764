// Strong types for the quantities that serving code mixes up most easily: tokens, KV blocks and
// bytes. All are int64_t underneath and none converts to another implicitly, so `tokens + bytes`
// does not compile.
//
// Durations and instants are absl::Duration and absl::Time (value types; nothing here reads a
// clock). KvGeometry is the only place where one unit becomes another.
#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <ostream>
#include <utility>

namespace sluice {

// A count of something. Arithmetic stays within one Tag.
template <class Tag>
class Quantity {
 public:
  constexpr Quantity() = default;
  constexpr explicit Quantity(int64_t value) : value_(value) {}

  constexpr int64_t value() const { return value_; }
  constexpr size_t size() const { return static_cast<size_t>(value_); }  // for containers

  friend constexpr auto operator<=>(Quantity, Quantity) = default;
  friend constexpr Quantity operator+(Quantity a, Quantity b) {
    return Quantity(a.value_ + b.value_);
  }
  friend constexpr Quantity operator-(Quantity a, Quantity b) {
    return Quantity(a.value_ - b.value_);
  }
  constexpr Quantity& operator+=(Quantity o) {
    value_ += o.value_;
    return *this;
  }
  constexpr Quantity& operator-=(Quantity o) {
    value_ -= o.value_;
    return *this;
  }
  friend std::ostream& operator<<(std::ostream& os, Quantity q) { return os << q.value_; }

 private:
  int64_t value_ = 0;
};

// For the cost model and metrics, which reckon in real numbers.
template <class Tag>
constexpr double AsDouble(Quantity<Tag> quantity) {
  return static_cast<double>(quantity.value());
}

using Tokens = Quantity<struct TokensTag>;
using Blocks = Quantity<struct BlocksTag>;
using Bytes = Quantity<struct BytesTag>;

constexpr Bytes MiB(int64_t n) { return Bytes(n << 20); }

// A name for something. Ids compare and hash; they do not add. The default id names nothing.
template <class Tag, class Rep = int64_t>
class Id {
 public:
  constexpr Id() = default;
  constexpr explicit Id(Rep value) : value_(value) {}

  constexpr Rep value() const { return value_; }
  constexpr size_t index() const { return static_cast<size_t>(value_); }  // for containers
  constexpr bool valid() const { return value_ >= 0; }

  friend constexpr auto operator<=>(Id, Id) = default;
  template <typename H>
  friend H AbslHashValue(H h, Id id) {
    return H::combine(std::move(h), id.value_);
  }
  friend std::ostream& operator<<(std::ostream& os, Id id) { return os << '#' << id.value_; }

 private:
  Rep value_ = -1;
};

using RequestId = Id<struct RequestIdTag>;
using StepId = Id<struct StepIdTag>;
using CopyId = Id<struct CopyIdTag>;
using BlockId = Id<struct BlockIdTag, int32_t>;  // within one tier; dense from 0

// An index into the model's vocabulary. Plain, because every tensor and file has it so.
using TokenId = int32_t;

// The shape of one KV block, fixed at start-up. A block holds K and V of `tokens_per_block` tokens
// over all layers.
// REQUIRES: tokens_per_block > 0 and bytes_per_block > 0.
struct KvGeometry {
  Tokens tokens_per_block;
  Bytes bytes_per_block;

  // Blocks needed to hold `n` tokens, rounding up.
  constexpr Blocks BlocksFor(Tokens n) const {
    return Blocks((n.value() + tokens_per_block.value() - 1) / tokens_per_block.value());
  }
  // Blocks that `n` tokens fill completely.
  constexpr Blocks FullBlocks(Tokens n) const {
    return Blocks(n.value() / tokens_per_block.value());
  }
  constexpr Tokens TokensIn(Blocks n) const { return Tokens(n.value() * tokens_per_block.value()); }
  constexpr Bytes BytesFor(Blocks n) const { return Bytes(n.value() * bytes_per_block.value()); }
  // Blocks that fit into `n` bytes, rounding down.
  constexpr Blocks BlocksIn(Bytes n) const { return Blocks(n.value() / bytes_per_block.value()); }
};

}  // namespace sluice
