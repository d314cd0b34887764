// AttentionWorld: random sequences with their KV in paged pools, attention over them on the
// emulated device by the plan that the server uses, and the same in double precision.
#pragma once

#include <cstdint>
#include <memory>
#include <random>
#include <vector>

#include "backend/cuda/kernels/attention_plan.h"
#include "tests/cuda_on_cpu/kernels/kernel_test.h"

namespace sluice::cuda {

struct AttentionCase {
  HalfType half = HalfType::kBf16;
  KvType kv = KvType::kHalf;
  int head_dim = 64;
  int kv_heads = 1;
  int group = 1;
  int block_tokens = 16;
  int window = 0;
  int scale_group = 64;
  // Tokens before the step and tokens of the step, per sequence.
  std::vector<std::pair<int, int>> sequences;
  // Queries, K and V of a position depend on this (0: drawn) and on the sequence's name alone
  // (empty: its index), not on the batch they are in.
  uint64_t content = 0;
  std::vector<int> names;
  // Blocks that lie in a second pool, as blocks of the host do, if they are full before the step:
  // so many leading ones of each sequence, and each with this probability.
  int host_blocks = 0;
  double scattered = 0;
  int multiprocessors = 1;
  bool split = true;  // whether there is room for parts
  // A mistake to be noticed: this is taken off the block table's last entry of each sequence.
  int wrong_block = 0;
};

struct AttentionOutcome {
  std::vector<double> got;  // [T][Hq][D]
  std::vector<double> want;
  std::vector<uint16_t> bits;  // of got
  AttentionPlan plan;
  int in_second_pool = 0;  // blocks
};

// A case of that dtype and head_dim with everything else drawn from `rng`; decode: few queries.
AttentionCase RandomAttentionCase(HalfType half, KvType kv, int head_dim, bool decode,
                                  std::mt19937_64& rng);

// Runs the case on the current emulated device.
AttentionOutcome RunAttention(const AttentionCase& c, std::mt19937_64& rng);

// What rounding weights and outputs to halves allows.
Tolerance AttentionTolerance(const AttentionCase& c);

}  // namespace sluice::cuda
