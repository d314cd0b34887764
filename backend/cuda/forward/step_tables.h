// StepTables: what a step's kernels read besides weights and KV, worked out on the host.
//
// The rows (tokens) of all sequences stand side by side. For each: its id, its position and its
// slot in the KV pool; for each sequence its block table; for attention the work lists, which are
// the same in every layer; and which rows logits are wanted of.
#pragma once

#include <cstdint>
#include <span>

#include "backend/cuda/forward/control_buffer.h"
#include "backend/cuda/kernels/attention_plan.h"
#include "scheduler/base/units.h"

namespace sluice::cuda {

// One sequence's share of a pass.
struct ForwardSequence {
  // Those to compute; at least one, each in [0, vocab), or -1 - d (see StepTables::drawn).
  std::span<const TokenId> tokens;
  int64_t first = 0;                // position of tokens[0]
  std::span<const BlockId> blocks;  // device blocks from position 0 on, enough for all tokens
  bool logits = false;              // of the last token
  // Empty, or by leading block: valid where the block is attended to in the host pool and `blocks`
  // has none. All of their tokens are before `first`.
  std::span<const BlockId> host_blocks = {};
};

struct StepTables {
  ControlArray<int32_t> ids;        // [tokens]
  ControlArray<int32_t> positions;  // [tokens]
  ControlArray<int32_t> slots;      // [tokens]; see RopeKvWriteParams
  ControlArray<int32_t> blocks;     // block tables; host blocks as InSecondPool() says
  ControlArray<AttentionWork> decode;
  ControlArray<AttentionWork> prefill;
  ControlArray<AttentionMerge> merges;
  ControlArray<int32_t> logit_rows;  // of the sequences that want logits, in their order
  int32_t partial_rows = 0;          // that attention needs
  const int32_t* drawn = nullptr;    // EmbeddingParams::drawn; to be set after LayOutStep()

  int32_t tokens() const { return ids.count; }
};

// Adds the tables of a step of `sequences` to `control`. `attention.partial_rows` bounds splitting.
StepTables LayOutStep(std::span<const ForwardSequence> sequences, int64_t block_tokens,
                      const AttentionPlanOptions& attention, ControlBuffer& control);

}  // namespace sluice::cuda
