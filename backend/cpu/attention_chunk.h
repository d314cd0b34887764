// A worker's scratch memory for attention, and the chunks of tokens it folds: where K and V of each
// piece lie, in the device pool or (turned into the device's layout in the scratch) on the host.
// Part of attention.cc; of no use elsewhere.
#pragma once

#include <hwy/cache_control.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "backend/cpu/attention.h"
#include "backend/cpu/kv_layout.h"
#include "backend/cpu/kv_transpose.h"

namespace sluice {

// Tokens that are folded into the sums at once; chunks begin at multiples of it, whatever the
// pages.
inline constexpr int64_t kChunk = 64;
inline constexpr int64_t kMaxLanes = 16;

// The parts of an AttentionScratch, each aligned to a cache line.
struct AttentionScratchView {
  static size_t Floats(const KvLayout& layout) {
    return static_cast<size_t>(kAttentionTileRows * (Padded(layout) * 2 + kChunk + kMaxLanes * 3) +
                               kChunk * (2 * layout.units() + ValueWords(layout)) + kMaxLanes);
  }
  static int64_t ValueWords(const KvLayout& layout) {
    return layout.value_stride() * layout.element_bytes() / 4;
  }
  static int64_t Padded(const KvLayout& layout) { return (layout.head_dim + 31) / 32 * 32; }

  AttentionScratchView(AttentionScratch& scratch, const KvLayout& layout) {
    stride = Padded(layout);
    auto at = reinterpret_cast<uintptr_t>(scratch.memory_.data());
    float* p = scratch.memory_.data() + ((64 - at % 64) % 64) / sizeof(float);
    const auto take = [&p](int64_t per_row) {
      float* part = p;
      p += kAttentionTileRows * per_row;
      return part;
    };
    queries = take(stride);
    sums = take(stride);
    scores = take(kChunk);
    weights = take(kMaxLanes);
    maxima = take(kMaxLanes);
    corrections = take(kMaxLanes);
    host_values = reinterpret_cast<uint32_t*>(p);
    host_keys = host_values + kChunk * ValueWords(layout);
    decoded_keys = host_keys + kChunk * layout.units();
  }

  int64_t stride;      // floats per row of queries and sums
  float* queries;      // [row][stride], scaled
  float* sums;         // [row][stride], weighted V so far
  float* scores;       // [row][kChunk]
  float* weights;      // [row][lanes], sum of exp so far, lane by lane
  float* maxima;       // [row]
  float* corrections;  // [row], what the last new maximum scales earlier sums by
  // A chunk's K and V of one head that lie on the host, as the device has them; padding is zero.
  uint32_t* host_values;  // [token][ValueWords()]
  uint32_t* host_keys;    // [unit][kChunk]
  // Encoded K of a piece, decoded; as the host has it.
  uint32_t* decoded_keys;  // [token][unit]
};

// Part of a chunk that lies in one page.
struct AttentionPiece {
  const uint32_t* keys;
  int64_t key_words;  // from unit to unit
  const uint32_t* values;
  int64_t value_words;  // from token to token
  int64_t tokens;       // a multiple of 16
  int64_t visible;      // those before the last row's limit: the others may not have been written
  // Bytes to what the tile will read as its next K and V, the same way on; 0: not known.
  int64_t key_ahead;
  int64_t value_ahead;
};

// Tokens [start, start + kChunk), cut off after the page that holds the last row's limit.
struct AttentionChunk {
  int64_t start;
  int64_t value_words;  // 32-bit words of a token's V, with padding
  int64_t count = 0;
  AttentionPiece pieces[kChunk / 16];
};

// Where K and V of one head lie, by block.
class BlockPlaces {
 public:
  BlockPlaces(const AttentionInput& in, int64_t kv_head) : in_(in), kv_head_(kv_head) {}

  bool OnHost(int64_t block) const {
    return block < std::ssize(in_.host_blocks) &&
           in_.host_blocks[static_cast<size_t>(block)].valid();
  }
  const std::byte* Page(int64_t block) const {
    const KvLayout& layout = *in_.layout;
    return in_.pages + in_.blocks[static_cast<size_t>(block)].value() * layout.page_bytes() +
           kv_head_ * layout.head_bytes();
  }
  // The layer slice of a block on the host.
  const std::byte* HostSlice(int64_t block) const {
    const Bytes each = in_.host_codec != nullptr ? in_.host_codec->encoded_block_bytes()
                                                 : in_.layout->block_bytes();
    return in_.host + in_.host_blocks[static_cast<size_t>(block)].value() * each.value();
  }
  // K of the head's first token; V is half a layer slice further on. REQUIRES: no codec.
  const std::byte* HostKeys(int64_t block) const {
    return HostSlice(block) + kv_head_ * in_.layout->head_dim * in_.layout->element_bytes();
  }

 private:
  const AttentionInput& in_;
  const int64_t kv_head_;
};

// Rows of K or V that are wanted soon.
inline void FetchHostRows(const KvLayout& layout, const std::byte* rows, int64_t tokens) {
  const int64_t row_bytes = layout.head_dim * layout.element_bytes();
  for (int64_t t = 0; t < tokens; ++t) {
    for (int64_t at = 0; at < row_bytes; at += 64) {
      hwy::Prefetch(rows + t * layout.kv_heads * row_bytes + at);
    }
  }
}

// Brings `tokens` tokens of a head from the host's layout, beginning with the one at `keys`, to
// place `offset` of the scratch. `next` (or null): where the tokens a chunk further on begin; they
// are fetched while these are at work, K here and V as it is summed up: more requests at once than
// the core can hold would make it wait.
inline AttentionPiece TakeFromHost(const AttentionScratchView& s, const KvLayout& layout,
                                   const std::byte* keys, const std::byte* next, int64_t offset,
                                   int64_t tokens) {
  constexpr int64_t kTurned = 16;  // tokens at a time
  const int64_t row_bytes = layout.head_dim * layout.element_bytes();
  const int64_t token_words = layout.kv_heads * row_bytes / 4;
  const int64_t value_words = AttentionScratchView::ValueWords(layout);
  const auto* values = reinterpret_cast<const uint32_t*>(keys + layout.host_half_bytes());
  for (int64_t t = 0; t < tokens; t += kTurned) {
    const int64_t at = t * token_words * 4;
    if (next != nullptr) FetchHostRows(layout, next + at, kTurned);
    TransposeWords(reinterpret_cast<const uint32_t*>(keys + at), token_words, kTurned,
                   layout.units(), s.host_keys + offset + t, kChunk);
  }
  AttentionPiece piece{s.host_keys + offset, kChunk, values, token_words, tokens, tokens, 0, 0};
  if (next != nullptr) piece.value_ahead = next - keys;
  if (row_bytes != value_words * 4) {
    uint32_t* padded = s.host_values + offset * value_words;
    for (int64_t t = 0; t < tokens; ++t) {
      std::memcpy(padded + t * value_words, values + t * token_words,
                  static_cast<size_t>(row_bytes));
    }
    piece.values = padded;
    piece.value_words = value_words;
    piece.value_ahead = 0;
    if (next != nullptr) FetchHostRows(layout, next + layout.host_half_bytes(), tokens);
  }
  return piece;
}

// The same from an encoded layer slice, beginning with the block's token `slot`.
inline AttentionPiece DecodeFromHost(const AttentionScratchView& s, const AttentionInput& in,
                                     const std::byte* slice, int64_t kv_head, int64_t slot,
                                     int64_t offset, int64_t tokens) {
  const KvLayout& layout = *in.layout;
  const int64_t units = layout.units();
  const int64_t value_words = AttentionScratchView::ValueWords(layout);
  uint32_t* values = s.host_values + offset * value_words;
  in.host_codec->DecodeHead({slice, in.host_codec->encoded_slice_bytes().size()},
                            {kv_head, slot, tokens, reinterpret_cast<std::byte*>(s.decoded_keys),
                             units * 4, reinterpret_cast<std::byte*>(values), value_words * 4});
  TransposeWords(s.decoded_keys, units, tokens, units, s.host_keys + offset, kChunk);
  return {s.host_keys + offset, kChunk, values, value_words, tokens, tokens, 0, 0};
}

inline AttentionChunk MakeChunk(const AttentionInput& in, const AttentionScratchView& scratch,
                                int64_t kv_head, int64_t start, int64_t last) {
  const KvLayout& layout = *in.layout;
  const BlockPlaces places(in, kv_head);
  AttentionChunk chunk;
  chunk.start = start;
  chunk.value_words = AttentionScratchView::ValueWords(layout);
  const int64_t token_bytes = layout.kv_heads * layout.head_dim * layout.element_bytes();
  const int64_t end = std::min(start + kChunk, last);
  for (int64_t token = start; token < end;) {
    const int64_t block = token / layout.page_tokens;
    const int64_t slot = token % layout.page_tokens;
    const int64_t next = token - slot + layout.page_tokens;
    const int64_t tokens = std::min(next, start + kChunk) - token;
    AttentionPiece& piece = chunk.pieces[chunk.count++];
    if (places.OnHost(block) && in.host_codec != nullptr) {
      piece = DecodeFromHost(scratch, in, places.HostSlice(block), kv_head, slot, token - start,
                             tokens);
    } else if (places.OnHost(block)) {
      const int64_t later = token + kChunk;  // in the next chunk
      const int64_t later_slot = later % layout.page_tokens;
      const std::byte* later_keys = nullptr;
      if (later_slot + tokens <= layout.page_tokens && places.OnHost(later / layout.page_tokens)) {
        later_keys = places.HostKeys(later / layout.page_tokens) + later_slot * token_bytes;
      }
      piece = TakeFromHost(scratch, layout, places.HostKeys(block) + slot * token_bytes, later_keys,
                           token - start, tokens);
    } else {
      const std::byte* page = places.Page(block);
      const auto* values = reinterpret_cast<const uint32_t*>(page + layout.key_bytes());
      const bool more = next < last && !places.OnHost(block + 1);
      const int64_t ahead = more ? places.Page(block + 1) - page : 0;
      piece = {reinterpret_cast<const uint32_t*>(page) + slot,
               layout.page_tokens,
               values + slot * chunk.value_words,
               chunk.value_words,
               tokens,
               std::min(tokens, last - token),
               ahead,
               ahead};
    }
    token += tokens;
  }
  return chunk;
}

}  // namespace sluice
