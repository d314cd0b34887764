#include "backend/cpu/forward.h"

#include <algorithm>
#include <cstring>

#include "scheduler/base/check.h"
#include "scheduler/base/status_macros.h"

namespace sluice {
namespace {

// Row work below this many floats is not worth waking the other threads for.
constexpr int64_t kInlineFloats = 16384;
constexpr int64_t kRowsPerTask = 8;

float* Floats(const HugeBuffer& buffer) { return reinterpret_cast<float*>(buffer.data()); }

}  // namespace

absl::StatusOr<std::unique_ptr<Forward>> Forward::Create(const ModelConfig& config,
                                                         const CpuWeights& weights,
                                                         const KvPools& pools, Tokens max_positions,
                                                         Tokens max_rows, Gemm& gemm,
                                                         ThreadPool& pool) {
  std::unique_ptr<Forward> forward(
      new Forward(config, weights, pools, max_positions, max_rows, gemm, pool));
  SLUICE_RETURN_IF_ERROR(forward->Allocate());
  return forward;
}

Forward::Forward(const ModelConfig& config, const CpuWeights& weights, const KvPools& pools,
                 Tokens max_positions, Tokens max_rows, Gemm& gemm, ThreadPool& pool)
    : config_(config),
      weights_(weights),
      pools_(pools),
      max_positions_(max_positions.value()),
      max_rows_(max_rows.value()),
      gemm_(gemm),
      pool_(pool),
      element_bytes_(ElementBytes(weights.element)),
      qkv_width_(config.q_dim() + 2 * int64_t{config.kv_dim()}),
      rope_(config, max_positions),
      attention_scratch_(static_cast<size_t>(pool.size()), AttentionScratch(pools.layout())),
      bias_scratch_(static_cast<size_t>(pool.size())) {}

absl::Status Forward::Allocate() {
  const int64_t rows = (max_rows_ + Gemm::kRowBlock - 1) / Gemm::kRowBlock * Gemm::kRowBlock;
  const int64_t input = std::max(config_.hidden, config_.q_dim());
  const auto allocate = [](int64_t bytes) {
    return HugeBuffer::Allocate(Bytes(bytes), "activations (see max_step_tokens)");
  };
  SLUICE_ASSIGN_OR_RETURN(residual_, allocate(rows * config_.hidden * 4));
  SLUICE_ASSIGN_OR_RETURN(inputs_, allocate(rows * input * element_bytes_));
  SLUICE_ASSIGN_OR_RETURN(qkv_, allocate(rows * qkv_width_ * 4));
  SLUICE_ASSIGN_OR_RETURN(hidden_, allocate(rows * config_.intermediate * element_bytes_));
  SLUICE_ASSIGN_OR_RETURN(logits_, allocate(Gemm::kRowBlock * config_.vocab * 4));
  return absl::OkStatus();
}

// Finds every row's place in the pool and fills in its embedding.
void Forward::LayOutRows(std::span<const ForwardSequence> sequences) {
  rows_.clear();
  const int64_t page_tokens = pools_.layout().page_tokens;
  const auto hidden = static_cast<size_t>(config_.hidden);
  for (const ForwardSequence& sequence : sequences) {
    const auto count = static_cast<int64_t>(sequence.tokens.size());
    SLUICE_CHECK(count > 0 && sequence.first >= 0 && sequence.first + count <= max_positions_);
    SLUICE_CHECK(static_cast<int64_t>(sequence.blocks.size()) * page_tokens >=
                 sequence.first + count);
    SLUICE_CHECK(static_cast<int64_t>(rows_.size()) + count <= max_rows_);
    for (int64_t i = 0; i < count; ++i) {
      const int64_t position = sequence.first + i;
      const TokenId token = sequence.tokens[static_cast<size_t>(i)];
      SLUICE_CHECK(token >= 0 && token < config_.vocab);
      EmbedToken(weights_, token, {Floats(residual_) + rows_.size() * hidden, hidden});
      rows_.push_back({position, sequence.blocks[static_cast<size_t>(position / page_tokens)],
                       position % page_tokens});
    }
  }
}

void Forward::LayOutAttention(std::span<const ForwardSequence> sequences) {
  attention_inputs_.clear();
  attention_tasks_.clear();
  const int64_t group = config_.heads / config_.kv_heads;
  int64_t row = 0;
  for (size_t s = 0; s < sequences.size(); ++s) {
    const ForwardSequence& sequence = sequences[s];
    AttentionInput in;
    in.layout = &pools_.layout();
    in.blocks = sequence.blocks;
    in.host_blocks = sequence.host_blocks;
    in.group = group;
    in.first = sequence.first;
    in.queries = Floats(qkv_) + row * qkv_width_;
    in.query_stride = qkv_width_;
    in.out = inputs_.data() + row * config_.q_dim() * element_bytes_;
    in.out_stride = config_.q_dim();
    attention_inputs_.push_back(in);
    const int64_t rows = static_cast<int64_t>(sequence.tokens.size()) * group;
    for (int64_t head = 0; head < config_.kv_heads; ++head) {
      for (int64_t r = 0; r < rows; r += kAttentionTileRows) {
        attention_tasks_.push_back({s, head, r, std::min(kAttentionTileRows, rows - r)});
      }
    }
    row += static_cast<int64_t>(sequence.tokens.size());
  }
}

void Forward::ForRows(int64_t rows, absl::FunctionRef<void(int64_t row)> fn) {
  if (rows * config_.hidden < kInlineFloats) {
    for (int64_t row = 0; row < rows; ++row) fn(row);
    return;
  }
  pool_.ParallelFor((rows + kRowsPerTask - 1) / kRowsPerTask, [&](int64_t task, int /*worker*/) {
    const int64_t end = std::min(rows, (task + 1) * kRowsPerTask);
    for (int64_t row = task * kRowsPerTask; row < end; ++row) fn(row);
  });
}

absl::Status Forward::Run(std::span<const ForwardSequence> sequences, LayerFn before_attention) {
  LayOutRows(sequences);
  LayOutAttention(sequences);
  for (int layer = 0; layer < config_.layers; ++layer) {
    SLUICE_RETURN_IF_ERROR(RunLayer(layer, before_attention));
  }
  return absl::OkStatus();
}

absl::Status Forward::RunLayer(int index, LayerFn before_attention) {
  const CpuLayer& layer = weights_.layers[static_cast<size_t>(index)];
  Normalize(layer.input_norm);
  SLUICE_RETURN_IF_ERROR(Project(layer));
  PlaceKv(layer, index);
  before_attention(index);
  Attend(index);
  SLUICE_RETURN_IF_ERROR(AddProduct(inputs_.data(), layer.o, layer.o_bias));
  Normalize(layer.post_attention_norm);
  return FeedForward(layer);
}

// inputs = norm(residual) * weight
void Forward::Normalize(const std::vector<float>& weight) {
  const int64_t hidden = config_.hidden;
  ForRows(static_cast<int64_t>(rows_.size()), [&](int64_t row) {
    RmsNorm(Floats(residual_) + row * hidden, weight.data(), hidden,
            static_cast<float>(config_.rms_norm_eps), weights_.element, inputs_.data(),
            row * hidden);
  });
}

// qkv = inputs * W^T + bias
absl::Status Forward::Project(const CpuLayer& layer) {
  const auto store = [&](const GemmTile& tile, int /*worker*/) {
    for (int64_t r = 0; r < tile.rows; ++r) {
      float* out = Floats(qkv_) + (tile.row + r) * qkv_width_ + tile.column;
      std::copy_n(tile.data + r * tile.columns, tile.columns, out);
      if (!layer.qkv_bias.empty()) AddTo(out, layer.qkv_bias.data() + tile.column, tile.columns);
    }
  };
  return gemm_.Multiply(inputs_.data(), static_cast<int64_t>(rows_.size()), layer.qkv, store);
}

// Rotates q and k in place and writes k and v to the pool.
void Forward::PlaceKv(const CpuLayer& layer, int index) {
  const KvLayout& layout = pools_.layout();
  std::byte* pages = pools_.LayerPages(index);
  const int64_t dim = config_.head_dim;
  const auto eps = static_cast<float>(config_.rms_norm_eps);
  ForRows(static_cast<int64_t>(rows_.size()), [&](int64_t r) {
    const Row& row = rows_[static_cast<size_t>(r)];
    float* q = Floats(qkv_) + r * qkv_width_;
    float* k = q + config_.q_dim();
    const float* v = k + config_.kv_dim();
    const float* cosine = rope_.cosine(row.position);
    const float* sine = rope_.sine(row.position);
    for (int64_t h = 0; h < config_.heads; ++h) {
      if (!layer.q_norm.empty()) RmsNormInPlace(q + h * dim, layer.q_norm.data(), dim, eps);
      Rope(q + h * dim, cosine, sine, rope_.half());
    }
    std::byte* page = pages + row.block.value() * layout.page_bytes();
    for (int64_t h = 0; h < config_.kv_heads; ++h) {
      if (!layer.k_norm.empty()) RmsNormInPlace(k + h * dim, layer.k_norm.data(), dim, eps);
      Rope(k + h * dim, cosine, sine, rope_.half());
      WriteToken(layout, k + h * dim, v + h * dim, page + h * layout.head_bytes(), row.slot);
    }
  });
}

// inputs = attention output
void Forward::Attend(int index) {
  for (AttentionInput& in : attention_inputs_) {
    in.pages = pools_.LayerPages(index);
    if (!in.host_blocks.empty()) in.host = pools_.HostLayer(index, BlockId(0));
    in.host_codec = pools_.host_codec();
  }
  pool_.ParallelFor(static_cast<int64_t>(attention_tasks_.size()), [&](int64_t i, int worker) {
    const AttentionTask& task = attention_tasks_[static_cast<size_t>(i)];
    AttendTile(attention_inputs_[task.sequence], task.kv_head, task.row, task.rows,
               attention_scratch_[static_cast<size_t>(worker)]);
  });
}

// residual += input * matrix^T + bias
absl::Status Forward::AddProduct(const std::byte* input, const PackedMatrix& matrix,
                                 const std::vector<float>& bias) {
  const auto add = [&](const GemmTile& tile, int /*worker*/) {
    for (int64_t r = 0; r < tile.rows; ++r) {
      float* out = Floats(residual_) + (tile.row + r) * config_.hidden + tile.column;
      AddTo(out, tile.data + r * tile.columns, tile.columns);
      if (!bias.empty()) AddTo(out, bias.data() + tile.column, tile.columns);
    }
  };
  return gemm_.Multiply(input, static_cast<int64_t>(rows_.size()), matrix, add);
}

absl::Status Forward::FeedForward(const CpuLayer& layer) {
  const int64_t intermediate = config_.intermediate;
  // A tile holds whole pairs of runs: gate, up, gate, up (see kGateUpRun).
  const auto activate = [&](const GemmTile& tile, int worker) {
    std::vector<float>& biased = bias_scratch_[static_cast<size_t>(worker)];
    for (int64_t r = 0; r < tile.rows; ++r) {
      const float* in = tile.data + r * tile.columns;
      if (!layer.gate_up_bias.empty()) {
        biased.assign(in, in + tile.columns);
        AddTo(biased.data(), layer.gate_up_bias.data() + tile.column, tile.columns);
        in = biased.data();
      }
      for (int64_t c = 0; c < tile.columns; c += 2 * kGateUpRun) {
        const int64_t run = std::min(kGateUpRun, (tile.columns - c) / 2);
        const int64_t at = (tile.row + r) * intermediate + (tile.column + c) / 2;
        SwiGlu(in + c, in + c + run, run, weights_.element, hidden_.data(), at);
      }
    }
  };
  SLUICE_RETURN_IF_ERROR(
      gemm_.Multiply(inputs_.data(), static_cast<int64_t>(rows_.size()), layer.gate_up, activate));
  return AddProduct(hidden_.data(), layer.down, layer.down_bias);
}

absl::Status Forward::Logits(std::span<const ForwardSequence> sequences, LogitsFn fn) {
  const int64_t hidden = config_.hidden;
  const int64_t vocab = config_.vocab;
  std::vector<size_t> group;  // sequences whose logits are computed together
  int64_t row = -1;           // last row of the sequence at hand
  for (size_t s = 0; s < sequences.size(); ++s) {
    row += static_cast<int64_t>(sequences[s].tokens.size());
    if (sequences[s].logits) {
      RmsNorm(Floats(residual_) + row * hidden, weights_.final_norm.data(), hidden,
              static_cast<float>(config_.rms_norm_eps), weights_.element, inputs_.data(),
              static_cast<int64_t>(group.size()) * hidden);
      group.push_back(s);
    }
    const bool full = static_cast<int64_t>(group.size()) == Gemm::kRowBlock;
    if (group.empty() || (!full && s + 1 < sequences.size())) continue;
    const auto store = [&](const GemmTile& tile, int /*worker*/) {
      for (int64_t r = 0; r < tile.rows; ++r) {
        std::copy_n(tile.data + r * tile.columns, tile.columns,
                    Floats(logits_) + (tile.row + r) * vocab + tile.column);
      }
    };
    const auto count = static_cast<int64_t>(group.size());
    SLUICE_RETURN_IF_ERROR(gemm_.Multiply(inputs_.data(), count, weights_.lm_head, store));
    pool_.ParallelFor(count, [&](int64_t i, int worker) {
      fn(group[static_cast<size_t>(i)], {Floats(logits_) + i * vocab, static_cast<size_t>(vocab)},
         worker);
    });
    group.clear();
  }
  return absl::OkStatus();
}

}  // namespace sluice
