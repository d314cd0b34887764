#include "backend/cuda/forward/forward.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

#include "absl/strings/str_cat.h"
#include "backend/cuda/device/status.h"
#include "backend/cuda/kernels/attention.h"
#include "backend/cuda/kernels/attention_merge.h"
#include "backend/cuda/kernels/embedding.h"
#include "backend/cuda/kernels/gated_activation.h"
#include "backend/cuda/kernels/rms_norm.h"
#include "backend/cuda/kernels/rope_kv_write.h"
#include "backend/cuda/weights/weight_uploader.h"
#include "backend/model/rope.h"
#include "scheduler/base/check.h"
#include "scheduler/base/status_macros.h"

namespace sluice::cuda {
namespace {

constexpr std::array<int32_t, 6> kHeadDims = {32, 64, 80, 96, 128, 256};
constexpr Bytes kRotationPiece = MiB(1);
// Segments of split attention per multiprocessor and kv head that have room; see PlanAttention().
constexpr int64_t kSegmentsPerMultiprocessor = 32;

absl::Status Unsupported(const char* field, int64_t value, const char* want) {
  return absl::UnimplementedError(absl::StrCat("the CUDA kernels do not take ", field, " = ", value,
                                               "; they take ", want,
                                               ". Serve this model with --backend=cpu"));
}

int64_t SegmentsOf(Tokens tokens) {
  return (tokens.value() + kAttentionSegment - 1) / kAttentionSegment;
}

// Rows for the parts of split tiles: enough for many short sequences, and for the longest one.
int64_t PartRows(const ModelConfig& config, const ForwardOptions& options) {
  const int64_t group = config.heads / config.kv_heads;
  const int64_t tokens = std::max<int64_t>(AttentionTileRows(AttentionTile::kDecode) / group, 1);
  const int64_t segments = kSegmentsPerMultiprocessor * options.multiprocessors;
  return tokens * std::max((segments + config.kv_heads - 1) / config.kv_heads,
                           SegmentsOf(options.max_positions));
}

// Where tiles that see several segments hold what they have folded.
int64_t ScratchRows(const ForwardOptions& options) {
  return SegmentsOf(options.max_positions) > 1 ? options.max_rows.value() : 0;
}

}  // namespace

absl::Status CheckSupported(const ModelConfig& config) {
  if (std::find(kHeadDims.begin(), kHeadDims.end(), config.head_dim) == kHeadDims.end()) {
    return Unsupported("head_dim", config.head_dim, "32, 64, 80, 96, 128 and 256");
  }
  const int32_t group = config.heads / config.kv_heads;
  if (group > AttentionTileRows(AttentionTile::kDecode)) {
    return Unsupported("num_attention_heads / num_key_value_heads", group, "1 to 16");
  }
  if (config.hidden % 2 != 0) {
    return Unsupported("hidden_size", config.hidden, "even numbers");
  }
  if (config.intermediate % 2 != 0) {
    return Unsupported("intermediate_size", config.intermediate, "even numbers");
  }
  return absl::OkStatus();
}

Forward::Forward(const ModelConfig& config, const DeviceWeights& weights,
                 const ForwardOptions& options, GemmEngine& gemm, cudaStream_t stream)
    : config_(config), weights_(weights), options_(options), gemm_(gemm), stream_(stream) {
  attention_.heads = config.heads;
  attention_.kv_heads = config.kv_heads;
  // No window: what is served is cut to it (backend/model/model_config.h).
  attention_.multiprocessors = options.multiprocessors;
  attention_.partial_rows = static_cast<int32_t>(PartRows(config, options));
}

absl::StatusOr<std::unique_ptr<Forward>> Forward::Create(const ModelConfig& config,
                                                         const DeviceWeights& weights,
                                                         const ForwardOptions& options,
                                                         GemmEngine& gemm, cudaStream_t stream,
                                                         MemoryAccount& account) {
  std::unique_ptr<Forward> forward(new Forward(config, weights, options, gemm, stream));
  SLUICE_RETURN_IF_ERROR(forward->Prepare(account));
  return forward;
}

absl::Status Forward::Prepare(MemoryAccount& account) {
  const int64_t rows = options_.max_rows.value();
  SLUICE_ASSIGN_OR_RETURN(
      workspace_, Workspace::Allocate(config_, rows, std::min<int64_t>(rows, kLogitRows),
                                      attention_.partial_rows + ScratchRows(options_), account));
  if (weights_.type() == WeightType::kFp8E4m3) SLUICE_RETURN_IF_ERROR(ReserveFp8());
  return UploadRotation(account);
}

// For the largest of this model's products.
absl::Status Forward::ReserveFp8() {
  const int32_t width = config_.q_dim() + 2 * config_.kv_dim();
  return gemm_.ReserveFp8(static_cast<int32_t>(options_.max_rows.value()),
                          std::max({config_.hidden, config_.q_dim(), config_.intermediate}),
                          std::max({width, config_.hidden, 2 * config_.intermediate}));
}

absl::Status Forward::UploadRotation(MemoryAccount& account) {
  const auto half = static_cast<size_t>(config_.head_dim / 2);
  const auto row_bytes = static_cast<int64_t>(half * sizeof(float2));
  const Bytes bytes(options_.max_positions.value() * row_bytes);
  SLUICE_ASSIGN_OR_RETURN(rotation_, DeviceBuffer::Allocate(bytes, "the rotation table", account));
  const std::vector<double> frequencies =
      RopeInverseFrequencies(config_.rope, config_.head_dim, config_.max_position_embeddings);
  std::vector<double> cosine(half);
  std::vector<double> sine(half);
  const Bytes piece(kRotationPiece.value() / row_bytes * row_bytes);
  SLUICE_ASSIGN_OR_RETURN(const std::unique_ptr<WeightUploader> uploader,
                          WeightUploader::Create(stream_, piece, account, nullptr));
  SLUICE_RETURN_IF_ERROR(
      uploader->Upload(bytes, rotation_.data(), [&](int64_t offset, std::span<std::byte> out) {
        auto* pairs = reinterpret_cast<float2*>(out.data());
        const int64_t first = offset / row_bytes;
        const int64_t end = first + static_cast<int64_t>(out.size()) / row_bytes;
        for (int64_t position = first; position < end; ++position) {
          RopeCosSin(frequencies, config_.rope.attention_factor, position, cosine, sine);
          for (size_t i = 0; i < half; ++i) {
            *pairs++ = make_float2(static_cast<float>(cosine[i]), static_cast<float>(sine[i]));
          }
        }
      }));
  return uploader->Finish();
}

absl::Status Forward::Run(const StepTables& step, const ControlBuffer& control,
                          LayerFn before_attention) {
  SLUICE_CHECK(Tokens(step.tokens()) <= options_.max_rows);
  step_ = &step;
  control_ = &control;
  SLUICE_RETURN_IF_ERROR(workspace_.ReservePartials(step.partial_rows));
  EmbeddingParams embedding;
  embedding.table = weights_.embedding();
  embedding.tokens = control.At(step.ids);
  embedding.residual = workspace_.residual();
  embedding.count = step.tokens();
  embedding.hidden = config_.hidden;
  embedding.drawn = step.drawn;
  SLUICE_RETURN_IF_ERROR(CudaStatus(LaunchEmbedding(embedding, stream_), "embedding"));
  for (int layer = 0; layer < config_.layers; ++layer) {
    SLUICE_RETURN_IF_ERROR(RunLayer(layer, before_attention));
  }
  // What the last layer adds; no row is normalized yet.
  return Normalize(workspace_.delta(), nullptr);
}

absl::Status Forward::RunLayer(int index, LayerFn before_attention) {
  const DeviceLayer& layer = weights_.layers()[static_cast<size_t>(index)];
  SLUICE_RETURN_IF_ERROR(Normalize(index == 0 ? nullptr : workspace_.delta(), layer.input_norm));
  SLUICE_RETURN_IF_ERROR(Project(layer));
  // First what is loaded, then what the step adds: both may write the same block, and the new wins.
  SLUICE_RETURN_IF_ERROR(before_attention(index));
  SLUICE_RETURN_IF_ERROR(PlaceKv(layer, index));
  SLUICE_RETURN_IF_ERROR(Attend(index));
  SLUICE_RETURN_IF_ERROR(Multiply(workspace_.attended(), step_->tokens(), layer.o, layer.o_bias,
                                  config_.q_dim(), config_.hidden, workspace_.delta()));
  SLUICE_RETURN_IF_ERROR(Normalize(workspace_.delta(), layer.post_attention_norm));
  return FeedForward(layer);
}

// residual += delta (if any); normed = norm(residual) * weight (if any)
absl::Status Forward::Normalize(const void* delta, const void* weight) {
  RmsNormParams norm;
  norm.residual = workspace_.residual();
  norm.delta = delta;
  norm.weight = weight;
  norm.out = weight == nullptr ? nullptr : workspace_.normed();
  norm.count = step_->tokens();
  norm.hidden = config_.hidden;
  norm.eps = static_cast<float>(config_.rms_norm_eps);
  return CudaStatus(LaunchRmsNorm(norm, stream_), "norm");
}

absl::Status Forward::Project(const DeviceLayer& layer) {
  const int64_t width = config_.q_dim() + 2 * int64_t{config_.kv_dim()};
  return Multiply(workspace_.normed(), step_->tokens(), layer.qkv, nullptr, config_.hidden, width,
                  workspace_.qkv());
}

// Rotates q and k, and writes k and v to the pool.
absl::Status Forward::PlaceKv(const DeviceLayer& layer, int index) {
  RopeKvWriteParams rope;
  rope.qkv = workspace_.qkv();
  rope.bias = layer.qkv_bias;
  rope.q_norm = layer.q_norm;
  rope.k_norm = layer.k_norm;
  rope.norm_eps = static_cast<float>(config_.rms_norm_eps);
  rope.rotation = rotation_.as<const float2>();
  rope.positions = control_->At(step_->positions);
  rope.slots = control_->At(step_->slots);
  rope.q = workspace_.queries();
  rope.pool = pools_.DeviceView(index);
  rope.tokens = step_->tokens();
  rope.heads = config_.heads;
  rope.kv_heads = config_.kv_heads;
  rope.head_dim = config_.head_dim;
  rope.kv = pools_.page.type;
  return CudaStatus(LaunchRopeKvWrite(rope, stream_), "rotation and KV write");
}

absl::Status Forward::Attend(int index) {
  AttentionParams attention;
  attention.q = workspace_.queries();
  attention.q_stride = config_.q_dim();
  attention.out = workspace_.attended();
  attention.partial = workspace_.partial();
  attention.lse = workspace_.lse();
  attention.views[0] = pools_.DeviceView(index, control_->At(step_->blocks));
  if (pools_.host != nullptr) attention.views[1] = pools_.HostView(index);
  attention.heads = config_.heads;
  attention.kv_heads = config_.kv_heads;
  attention.head_dim = config_.head_dim;
  attention.kv = pools_.page.type;
  attention.scale = 1.0F / std::sqrt(static_cast<float>(config_.head_dim));
  attention.works = control_->At(step_->decode);
  attention.work_count = step_->decode.count;
  SLUICE_RETURN_IF_ERROR(CudaStatus(LaunchDecodeAttention(attention, stream_), "decode attention"));
  attention.works = control_->At(step_->prefill);
  attention.work_count = step_->prefill.count;
  SLUICE_RETURN_IF_ERROR(
      CudaStatus(LaunchPrefillAttention(attention, stream_), "prefill attention"));
  AttentionMergeParams merge;
  merge.partial = workspace_.partial();
  merge.lse = workspace_.lse();
  merge.merges = control_->At(step_->merges);
  merge.merge_count = step_->merges.count;
  merge.heads = config_.heads;
  merge.dim = config_.head_dim;
  merge.out = workspace_.attended();
  return CudaStatus(LaunchAttentionMerge(merge, stream_), "attention merge");
}

absl::Status Forward::FeedForward(const DeviceLayer& layer) {
  SLUICE_RETURN_IF_ERROR(Multiply(workspace_.normed(), step_->tokens(), layer.gate_up, nullptr,
                                  config_.hidden, 2 * int64_t{config_.intermediate},
                                  workspace_.gate_up()));
  GatedActivationParams gate;
  gate.gate_up = workspace_.gate_up();
  gate.bias = layer.gate_up_bias;
  gate.out = workspace_.activated();
  gate.rows = step_->tokens();
  gate.width = config_.intermediate;
  SLUICE_RETURN_IF_ERROR(CudaStatus(LaunchGatedActivation(gate, stream_), "gated activation"));
  return Multiply(workspace_.activated(), step_->tokens(), layer.down, layer.down_bias,
                  config_.intermediate, config_.hidden, workspace_.delta());
}

// out = input * weights^T + bias, in bf16
absl::Status Forward::Multiply(const void* input, int32_t rows, const DeviceMatrix& weights,
                               const void* bias, int64_t k, int64_t n, void* out) {
  GemmParams gemm;
  gemm.a = input;
  gemm.a_stride = k;
  gemm.b = weights.data;
  gemm.b_scales = weights.scales;
  gemm.bias = bias;
  gemm.c = out;
  gemm.m = rows;
  gemm.n = static_cast<int32_t>(n);
  gemm.k = static_cast<int32_t>(k);
  return gemm_.Run(gemm, stream_);
}

absl::StatusOr<float*> Forward::Logits(const StepTables& step, const ControlBuffer& control,
                                       int32_t first, int32_t count) {
  SLUICE_CHECK(count > 0 && count <= kLogitRows && first + count <= step.logit_rows.count);
  RmsNormParams norm;
  norm.residual = workspace_.residual();
  norm.weight = weights_.final_norm();
  norm.out = workspace_.normed();
  norm.rows = control.At(step.logit_rows) + first;
  norm.count = count;
  norm.hidden = config_.hidden;
  norm.eps = static_cast<float>(config_.rms_norm_eps);
  SLUICE_RETURN_IF_ERROR(CudaStatus(LaunchRmsNorm(norm, stream_), "final norm"));
  GemmParams gemm;
  gemm.a = workspace_.normed();
  gemm.a_stride = config_.hidden;
  gemm.b = weights_.lm_head();
  gemm.c = workspace_.logits();
  gemm.float_out = true;
  gemm.m = count;
  gemm.n = config_.vocab;
  gemm.k = config_.hidden;
  SLUICE_RETURN_IF_ERROR(gemm_.Run(gemm, stream_));
  return workspace_.logits();
}

}  // namespace sluice::cuda
