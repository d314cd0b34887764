// AttentionPlan: the work lists of one step's attention, made on the host once per step (they are
// the same for all layers).
//
// Sequences with few queries get decode tiles, the others prefill tiles. Where that gives too few
// blocks to fill the device, the KV of decode tiles is spread over several items, by whole
// segments, and merged. No choice made here changes a bit of the results.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "backend/cuda/kernels/attention.h"
#include "backend/cuda/kernels/attention_merge.h"

namespace sluice::cuda {

struct AttentionSequence {
  int32_t query = 0;     // first row of q and out
  int32_t count = 0;     // tokens of this step; its KV ends with them
  int32_t position = 0;  // of the first of them
  int32_t blocks = 0;    // entry of the sequence's first block (position 0) in the block table
};

struct AttentionPlanOptions {
  int32_t heads = 0;
  int32_t kv_heads = 0;
  int32_t window = 0;           // as in AttentionParams
  int32_t multiprocessors = 1;  // of the device
  // Rows that parts of split tiles may take: bounds the buffers. Scratch rows come on top, at most
  // one for each token.
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
