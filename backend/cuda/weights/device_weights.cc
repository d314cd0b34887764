#include "backend/cuda/weights/device_weights.h"

#include <algorithm>
#include <cstddef>
#include <initializer_list>
#include <utility>

#include "scheduler/base/status_macros.h"

namespace sluice::cuda {
namespace {

constexpr int64_t kHalfBytes = 2;
constexpr int64_t kAlignment = 256;

// A tensor and how many elements it has; null: zeros, where others of the same array exist.
struct Part {
  const TensorView* tensor;
  int64_t elements;
};

}  // namespace

// Hands out places in one allocation and notes what belongs there. Without an allocation (null) it
// only adds up.
class DeviceWeights::Arranger {
 public:
  struct Placed {
    Part part;
    void* to;
  };

  explicit Arranger(void* base) : base_(static_cast<std::byte*>(base)) {}

  // Places `parts` one behind the other. Null if none of them is there.
  const void* Place(std::initializer_list<Part> parts) {
    const bool any = std::any_of(parts.begin(), parts.end(),
                                 [](const Part& part) { return part.tensor != nullptr; });
    if (!any) return nullptr;
    offset_ = (offset_ + kAlignment - 1) / kAlignment * kAlignment;
    const int64_t start = offset_;
    for (const Part& part : parts) {
      if (base_ != nullptr) placed_.push_back({part, base_ + offset_});
      offset_ += part.elements * kHalfBytes;
    }
    return base_ == nullptr ? nullptr : base_ + start;
  }

  Bytes bytes() const { return Bytes(offset_); }
  const std::vector<Placed>& placed() const { return placed_; }

 private:
  std::byte* const base_;
  int64_t offset_ = 0;
  std::vector<Placed> placed_;
};

void DeviceWeights::Arrange(const ModelConfig& config, const Checkpoint& checkpoint,
                            Arranger& arranger) {
  const int64_t hidden = config.hidden;
  const int64_t q = config.q_dim();
  const int64_t kv = config.kv_dim();
  const int64_t ff = config.intermediate;
  const int64_t table = int64_t{config.vocab} * hidden;
  embedding_ = arranger.Place({{&checkpoint.embedding(), table}});
  const bool tied = &checkpoint.lm_head() == &checkpoint.embedding();
  lm_head_ = tied ? embedding_ : arranger.Place({{&checkpoint.lm_head(), table}});
  final_norm_ = arranger.Place({{&checkpoint.final_norm(), hidden}});
  layers_.clear();
  for (const LayerTensors& t : checkpoint.layers()) {
    DeviceLayer layer;
    layer.input_norm = arranger.Place({{t.input_norm, hidden}});
    layer.qkv = arranger.Place({{t.q, q * hidden}, {t.k, kv * hidden}, {t.v, kv * hidden}});
    layer.qkv_bias = arranger.Place({{t.q_bias, q}, {t.k_bias, kv}, {t.v_bias, kv}});
    layer.q_norm = arranger.Place({{t.q_norm, config.head_dim}});
    layer.k_norm = arranger.Place({{t.k_norm, config.head_dim}});
    layer.o = arranger.Place({{t.o, hidden * q}});
    layer.o_bias = arranger.Place({{t.o_bias, hidden}});
    layer.post_attention_norm = arranger.Place({{t.post_attention_norm, hidden}});
    layer.gate_up = arranger.Place({{t.gate, ff * hidden}, {t.up, ff * hidden}});
    layer.gate_up_bias = arranger.Place({{t.gate_bias, ff}, {t.up_bias, ff}});
    layer.down = arranger.Place({{t.down, hidden * ff}});
    layer.down_bias = arranger.Place({{t.down_bias, hidden}});
    layers_.push_back(layer);
  }
}

Bytes DeviceWeights::BytesFor(const ModelConfig& config, const Checkpoint& checkpoint) {
  Arranger sizes(nullptr);
  DeviceWeights().Arrange(config, checkpoint, sizes);
  return sizes.bytes();
}

absl::StatusOr<std::unique_ptr<DeviceWeights>> DeviceWeights::Load(const ModelConfig& config,
                                                                   const Checkpoint& checkpoint,
                                                                   cudaStream_t stream, Bytes piece,
                                                                   MemoryAccount& account,
                                                                   const Progress& progress) {
  const Bytes total = BytesFor(config, checkpoint);
  auto weights = std::make_unique<DeviceWeights>();
  SLUICE_ASSIGN_OR_RETURN(weights->memory_,
                          DeviceBuffer::Allocate(total, "the model's weights", account));
  Arranger arranger(weights->memory_.data());
  weights->Arrange(config, checkpoint, arranger);
  SLUICE_ASSIGN_OR_RETURN(
      const std::unique_ptr<WeightUploader> uploader,
      WeightUploader::Create(stream, piece, account, [&progress, total](Bytes done) {
        if (progress) progress(done, total);
      }));
  for (const Arranger::Placed& placed : arranger.placed()) {
    SLUICE_RETURN_IF_ERROR(uploader->Upload(placed.part.tensor, placed.part.elements, placed.to));
  }
  SLUICE_RETURN_IF_ERROR(uploader->Finish());
  return weights;
}

}  // namespace sluice::cuda
