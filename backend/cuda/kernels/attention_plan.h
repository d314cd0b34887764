// AttentionPlan: the work lists of one step's attention, made on the host once per step (they are
// the same for all layers).
//
// Sequences with few queries get decode tiles, the others prefill tiles. Where that gives too few
// blocks to fill the device, the KV ranges of decode tiles are split; ranges in different pools
// (AttentionRange::view) are separate in any case. Everything that has several parts is merged.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "backend/cuda/kernels/attention.h"
#include "backend/cuda/kernels/attention_merge.h"

namespace sluice::cuda {

// A run of KV positions of a sequence that lies in one pool.
struct AttentionRange {
  int32_t begin = 0;  // positions
  int32_t end = 0;
  int32_t view = 0;    // index into AttentionParams::views
  int32_t blocks = 0;  // entry of the sequence's first block (position 0) in that view's table
};

struct AttentionSequence {
  int32_t query = 0;     // first row of q and out
  int32_t count = 0;     // tokens of this step
  int32_t position = 0;  // of the first of them
  // In order, without overlap; together [0, position + count), this step's tokens included.
  std::span<const AttentionRange> ranges;
};

struct AttentionPlanOptions {
  int32_t heads = 0;
  int32_t kv_heads = 0;
  int32_t window = 0;           // as in AttentionParams
  int32_t multiprocessors = 1;  // of the device
  int32_t least_split = 256;    // KV tokens of a part, at least
  // Rows that partial results may take, besides those that several pools need: bounds the buffers.
  int32_t partial_rows = 1 << 16;
};

struct AttentionPlan {
  std::vector<AttentionWork> decode;   // longest first
  std::vector<AttentionWork> prefill;  // likewise
  std::vector<AttentionMerge> merges;
  int32_t partial_rows = 0;  // rows of the partial buffers that are used
};

AttentionPlan PlanAttention(std::span<const AttentionSequence> sequences,
                            const AttentionPlanOptions& options);

}  // namespace sluice::cuda
