#include "backend/cpu/weights.h"

#include <algorithm>
#include <cstring>
#include <initializer_list>
#include <string>

#include "backend/cpu/ops.h"
#include "scheduler/base/status_macros.h"

namespace sluice {
namespace {

std::vector<float> ReadVector(const TensorView* tensor) {
  if (tensor == nullptr) return {};
  std::vector<float> out(static_cast<size_t>(tensor->elements()));
  ReadFloats(*tensor, 0, out);
  return out;
}

void ReadMatrixRow(const TensorView& tensor, int64_t row, std::span<float> out) {
  ReadFloats(tensor, row * static_cast<int64_t>(out.size()), out);
}

// Which row of gate or up is output `index` of the fused matrix.
struct GateUpRow {
  GateUpRow(int64_t index, int64_t intermediate) {
    const int64_t pair = index / (2 * kGateUpRun);
    const int64_t run = std::min(kGateUpRun, intermediate - pair * kGateUpRun);
    const int64_t within = index - pair * 2 * kGateUpRun;
    up = within >= run;
    row = pair * kGateUpRun + (up ? within - run : within);
  }
  bool up;
  int64_t row;
};

class LayerPacker {
 public:
  LayerPacker(const ModelConfig& config, const LayerTensors& tensors, Element element, Gemm& gemm)
      : config_(config), tensors_(tensors), element_(element), gemm_(gemm) {}

  absl::StatusOr<CpuLayer> Pack() {
    CpuLayer layer;
    layer.input_norm = ReadVector(tensors_.input_norm);
    layer.post_attention_norm = ReadVector(tensors_.post_attention_norm);
    layer.q_norm = ReadVector(tensors_.q_norm);
    layer.k_norm = ReadVector(tensors_.k_norm);
    layer.o_bias = ReadVector(tensors_.o_bias);
    layer.down_bias = ReadVector(tensors_.down_bias);
    layer.qkv_bias = QkvBias();
    layer.gate_up_bias = GateUpBias();
    SLUICE_ASSIGN_OR_RETURN(layer.qkv, PackQkv());
    SLUICE_ASSIGN_OR_RETURN(layer.o, PackPlain(*tensors_.o));
    SLUICE_ASSIGN_OR_RETURN(layer.gate_up, PackGateUp());
    SLUICE_ASSIGN_OR_RETURN(layer.down, PackPlain(*tensors_.down));
    return layer;
  }

 private:
  absl::StatusOr<PackedMatrix> PackPlain(const TensorView& tensor) {
    return gemm_.Pack(tensor.shape[0], tensor.shape[1], element_,
                      [&](int64_t row, std::span<float> out) { ReadMatrixRow(tensor, row, out); });
  }

  absl::StatusOr<PackedMatrix> PackQkv() {
    const int64_t q = config_.q_dim();
    const int64_t kv = config_.kv_dim();
    return gemm_.Pack(q + 2 * kv, config_.hidden, element_, [&](int64_t row, std::span<float> out) {
      if (row < q) {
        ReadMatrixRow(*tensors_.q, row, out);
      } else if (row < q + kv) {
        ReadMatrixRow(*tensors_.k, row - q, out);
      } else {
        ReadMatrixRow(*tensors_.v, row - q - kv, out);
      }
    });
  }

  absl::StatusOr<PackedMatrix> PackGateUp() {
    return gemm_.Pack(2 * int64_t{config_.intermediate}, config_.hidden, element_,
                      [&](int64_t row, std::span<float> out) {
                        const GateUpRow from(row, config_.intermediate);
                        ReadMatrixRow(from.up ? *tensors_.up : *tensors_.gate, from.row, out);
                      });
  }

  // A family may have a bias on some of the three only.
  std::vector<float> QkvBias() const {
    if (tensors_.q_bias == nullptr && tensors_.k_bias == nullptr && tensors_.v_bias == nullptr) {
      return {};
    }
    std::vector<float> all;
    const std::initializer_list<std::pair<const TensorView*, int32_t>> parts = {
        {tensors_.q_bias, config_.q_dim()},
        {tensors_.k_bias, config_.kv_dim()},
        {tensors_.v_bias, config_.kv_dim()}};
    for (const auto& [tensor, size] : parts) {
      std::vector<float> part = ReadVector(tensor);
      part.resize(static_cast<size_t>(size));
      all.insert(all.end(), part.begin(), part.end());
    }
    return all;
  }

  std::vector<float> GateUpBias() const {
    if (tensors_.gate_bias == nullptr && tensors_.up_bias == nullptr) return {};
    const auto intermediate = static_cast<size_t>(config_.intermediate);
    std::vector<float> gate = ReadVector(tensors_.gate_bias);
    std::vector<float> up = ReadVector(tensors_.up_bias);
    gate.resize(intermediate);
    up.resize(intermediate);
    std::vector<float> all(2 * intermediate);
    for (size_t i = 0; i < all.size(); ++i) {
      const GateUpRow from(static_cast<int64_t>(i), config_.intermediate);
      all[i] = (from.up ? up : gate)[static_cast<size_t>(from.row)];
    }
    return all;
  }

  const ModelConfig& config_;
  const LayerTensors& tensors_;
  Element element_;
  Gemm& gemm_;
};

absl::StatusOr<HugeBuffer> CopyEmbedding(const TensorView& tensor, Element element) {
  const int64_t rows = tensor.shape[0];
  const int64_t columns = tensor.shape[1];
  SLUICE_ASSIGN_OR_RETURN(
      HugeBuffer out,
      HugeBuffer::Allocate(Bytes(rows * columns * ElementBytes(element)), "the token embedding"));
  std::vector<float> row(static_cast<size_t>(columns));
  for (int64_t i = 0; i < rows; ++i) {
    ReadMatrixRow(tensor, i, row);
    ToElements(row.data(), columns, element, out.data(), i * columns);
  }
  return out;
}

}  // namespace

absl::StatusOr<CpuWeights> PackWeights(const ModelConfig& config, const Checkpoint& checkpoint,
                                       Element element, Gemm& gemm) {
  CpuWeights weights;
  weights.element = element;
  SLUICE_ASSIGN_OR_RETURN(weights.embedding, CopyEmbedding(checkpoint.embedding(), element));
  for (const LayerTensors& tensors : checkpoint.layers()) {
    SLUICE_ASSIGN_OR_RETURN(CpuLayer layer, LayerPacker(config, tensors, element, gemm).Pack());
    weights.packed_bytes += layer.qkv.bytes() + layer.o.bytes();
    weights.packed_bytes += layer.gate_up.bytes() + layer.down.bytes();
    weights.layers.push_back(std::move(layer));
  }
  weights.final_norm = ReadVector(&checkpoint.final_norm());
  const TensorView& head = checkpoint.lm_head();
  SLUICE_ASSIGN_OR_RETURN(weights.lm_head, gemm.Pack(head.shape[0], head.shape[1], element,
                                                     [&](int64_t row, std::span<float> out) {
                                                       ReadMatrixRow(head, row, out);
                                                     }));
  weights.packed_bytes += weights.lm_head.bytes();
  return weights;
}

void EmbedToken(const CpuWeights& weights, TokenId token, std::span<float> out) {
  const size_t at = static_cast<size_t>(token) * out.size();
  if (weights.element == Element::kF32) {
    std::memcpy(out.data(), reinterpret_cast<const float*>(weights.embedding.data()) + at,
                out.size() * sizeof(float));
    return;
  }
  const auto* narrow = reinterpret_cast<const uint16_t*>(weights.embedding.data()) + at;
  std::transform(narrow, narrow + out.size(), out.begin(), BF16ToFloat);
}

}  // namespace sluice
