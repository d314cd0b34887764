// Forward: one pass of the decoder over a batch of sequences, KV in the paged device pool.
//
//   tokens -> embedding -> layers x { norm, qkv, RoPE, KV write, attention, o, norm, SwiGLU } ->
//   norm
//          -> lm_head, for the sequences that ask
//
// The rows (tokens) of all sequences go through the matrix products together. Each row's result is
// the same whatever the other rows are (see gemm.h and attention.h). The residual stream is float;
// matrix inputs and KV are of the weights' element type.
//
// Thread-compatible. Call inside a ThreadPool::CallerScope.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "backend/cpu/attention.h"
#include "backend/cpu/gemm.h"
#include "backend/cpu/huge_buffer.h"
#include "backend/cpu/kv_layout.h"
#include "backend/cpu/ops.h"
#include "backend/cpu/thread_pool.h"
#include "backend/cpu/weights.h"
#include "backend/model/model_config.h"

namespace sluice {

// One sequence's share of a pass.
struct ForwardSequence {
  std::span<const TokenId> tokens;  // those to compute; at least one, each in [0, vocab)
  int64_t first = 0;                // position of tokens[0]
  std::span<const BlockId> blocks;  // device blocks from position 0 on, enough for all tokens
  bool logits = false;              // of the last token
  // Empty, or by leading block: valid where the block is attended to in the host pool and `blocks`
  // has none. All of their tokens are before `first`.
  std::span<const BlockId> host_blocks = {};
};

class Forward {
 public:
  using LayerFn = absl::FunctionRef<void(int layer)>;
  // `logits` may be overwritten. Called for several sequences at once.
  using LogitsFn = absl::FunctionRef<void(size_t sequence, std::span<float> logits, int worker)>;

  // All arguments must outlive it. Returns RESOURCE_EXHAUSTED without memory for the scratch
  // buffers.
  static absl::StatusOr<std::unique_ptr<Forward>> Create(const ModelConfig& config,
                                                         const CpuWeights& weights,
                                                         const KvPools& pools, Tokens max_positions,
                                                         Tokens max_rows, Gemm& gemm,
                                                         ThreadPool& pool);

  // Computes and stores the KV of every sequence's tokens. Calls before_attention(i) on this thread
  // before layer i of the pool is read; it may block until loads have put KV there.
  // REQUIRES: at most max_rows tokens in all, positions below max_positions.
  absl::Status Run(std::span<const ForwardSequence> sequences, LayerFn before_attention);

  // After Run() with the same sequences: calls `fn` for every one that asked for logits.
  absl::Status Logits(std::span<const ForwardSequence> sequences, LogitsFn fn);

 private:
  struct Row {
    int64_t position;
    BlockId block;
    int64_t slot;
  };
  struct AttentionTask {
    size_t sequence;
    int64_t kv_head;
    int64_t row;
    int64_t rows;
  };

  Forward(const ModelConfig& config, const CpuWeights& weights, const KvPools& pools,
          Tokens max_positions, Tokens max_rows, Gemm& gemm, ThreadPool& pool);

  absl::Status Allocate();
  void LayOutRows(std::span<const ForwardSequence> sequences);
  void LayOutAttention(std::span<const ForwardSequence> sequences);
  void ForRows(int64_t rows, absl::FunctionRef<void(int64_t row)> fn);
  void Normalize(const std::vector<float>& weight);
  absl::Status RunLayer(int index, LayerFn before_attention);
  absl::Status Project(const CpuLayer& layer);
  void PlaceKv(const CpuLayer& layer, int index);
  void Attend(int index);
  absl::Status AddProduct(const std::byte* input, const PackedMatrix& matrix,
                          const std::vector<float>& bias);
  absl::Status FeedForward(const CpuLayer& layer);

  const ModelConfig& config_;
  const CpuWeights& weights_;
  const KvPools& pools_;
  const int64_t max_positions_;
  const int64_t max_rows_;
  Gemm& gemm_;
  ThreadPool& pool_;
  const int64_t element_bytes_;
  const int64_t qkv_width_;
  RopeTable rope_;

  // Scratch; rows rounded up to Gemm::kRowBlock.
  HugeBuffer residual_;                              // float [row][hidden]
  HugeBuffer inputs_;                                // elements [row][hidden or q_dim]
  HugeBuffer qkv_;                                   // float [row][q_dim + 2 kv_dim]
  HugeBuffer hidden_;                                // elements [row][intermediate]
  HugeBuffer logits_;                                // float [Gemm::kRowBlock][vocab]
  std::vector<AttentionScratch> attention_scratch_;  // per worker
  std::vector<std::vector<float>> bias_scratch_;     // per worker

  // The batch at hand.
  std::vector<Row> rows_;
  std::vector<AttentionInput> attention_inputs_;  // per sequence
  std::vector<AttentionTask> attention_tasks_;
};

}  // namespace sluice
