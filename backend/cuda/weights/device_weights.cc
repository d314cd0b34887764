#include "backend/cuda/weights/device_weights.h"

#include <algorithm>
#include <cstddef>
#include <initializer_list>
#include <utility>

#include "backend/cuda/device/status.h"
#include "backend/cuda/kernels/quantize_rows.h"
#include "scheduler/base/status_macros.h"

namespace sluice::cuda {
namespace {

constexpr int64_t kHalfBytes = 2;
constexpr int64_t kAlignment = 256;
// What is quantized at a time: enough to fill a device, little beside the weights.
constexpr int64_t kStagingBytes = 32 << 20;

// A tensor and how many elements it has; null: zeros, where others of the same array exist.
struct Part {
  const TensorView* tensor;
  int64_t elements;
};

// Rows of a matrix, so many that they fill the staging buffer.
int64_t RowsAtATime(int64_t columns) {
  return std::max<int64_t>(1, kStagingBytes / (columns * kHalfBytes));
}

}  // namespace

struct DeviceWeights::Placed {
  Part part;
  void* to;
  // Of a matrix to be quantized, else null.
  float* scales = nullptr;
  int64_t columns = 0;
};

// Hands out places in one allocation and notes what belongs there. Without an allocation (null) it
// only adds up.
class DeviceWeights::Arranger {
 public:
  Arranger(void* base, WeightType type) : base_(static_cast<std::byte*>(base)), type_(type) {}

  // Places `parts` one behind the other. Null if none of them is there.
  const void* Place(std::initializer_list<Part> parts) {
    const bool any = std::any_of(parts.begin(), parts.end(),
                                 [](const Part& part) { return part.tensor != nullptr; });
    if (!any) return nullptr;
    const int64_t start = Align();
    for (const Part& part : parts) {
      if (base_ != nullptr) placed_.push_back({part, base_ + offset_});
      offset_ += part.elements * kHalfBytes;
    }
    return base_ == nullptr ? nullptr : base_ + start;
  }

  // The same for matrices of `columns` columns, one above the other, which may be quantized.
  DeviceMatrix PlaceMatrix(int64_t columns, std::initializer_list<Part> parts) {
    if (type_ == WeightType::kBf16) return {Place(parts), nullptr};
    int64_t elements = 0;
    for (const Part& part : parts) elements += part.elements;
    const int64_t codes = Align();
    offset_ += elements;
    const int64_t scales = Align();
    offset_ += elements / columns * static_cast<int64_t>(sizeof(float));
    most_columns_ = std::max(most_columns_, columns);
    if (base_ == nullptr) return {};
    auto* const first = reinterpret_cast<float*>(base_ + scales);
    int64_t done = 0;
    for (const Part& part : parts) {
      placed_.push_back({part, base_ + codes + done, first + done / columns, columns});
      done += part.elements;
    }
    return {base_ + codes, first};
  }

  Bytes bytes() const { return Bytes(offset_); }
  const std::vector<Placed>& placed() const { return placed_; }
  // What quantizing needs besides; 0: nothing is quantized.
  Bytes staging() const {
    if (most_columns_ == 0) return Bytes(0);
    return Bytes(std::max(kStagingBytes, most_columns_ * kHalfBytes));
  }

 private:
  int64_t Align() {
    offset_ = (offset_ + kAlignment - 1) / kAlignment * kAlignment;
    return offset_;
  }

  std::byte* const base_;
  const WeightType type_;
  int64_t offset_ = 0;
  int64_t most_columns_ = 0;
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
    layer.qkv =
        arranger.PlaceMatrix(hidden, {{t.q, q * hidden}, {t.k, kv * hidden}, {t.v, kv * hidden}});
    layer.qkv_bias = arranger.Place({{t.q_bias, q}, {t.k_bias, kv}, {t.v_bias, kv}});
    layer.q_norm = arranger.Place({{t.q_norm, config.head_dim}});
    layer.k_norm = arranger.Place({{t.k_norm, config.head_dim}});
    layer.o = arranger.PlaceMatrix(q, {{t.o, hidden * q}});
    layer.o_bias = arranger.Place({{t.o_bias, hidden}});
    layer.post_attention_norm = arranger.Place({{t.post_attention_norm, hidden}});
    layer.gate_up = arranger.PlaceMatrix(hidden, {{t.gate, ff * hidden}, {t.up, ff * hidden}});
    layer.gate_up_bias = arranger.Place({{t.gate_bias, ff}, {t.up_bias, ff}});
    layer.down = arranger.PlaceMatrix(ff, {{t.down, hidden * ff}});
    layer.down_bias = arranger.Place({{t.down_bias, hidden}});
    layers_.push_back(layer);
  }
}

Bytes DeviceWeights::BytesFor(const ModelConfig& config, const Checkpoint& checkpoint,
                              WeightType type) {
  Arranger sizes(nullptr, type);
  DeviceWeights().Arrange(config, checkpoint, sizes);
  return sizes.bytes();
}

// A matrix through `staging`, some rows at a time; the stream keeps the order of copies and
// launches.
absl::Status DeviceWeights::Quantize(const Placed& placed, const DeviceBuffer& staging,
                                     cudaStream_t stream, WeightUploader& uploader) {
  const int64_t rows = placed.part.elements / placed.columns;
  const int64_t step = RowsAtATime(placed.columns);
  for (int64_t row = 0; row < rows; row += step) {
    const int64_t count = std::min(step, rows - row);
    const int64_t first = row * placed.columns;
    SLUICE_RETURN_IF_ERROR(
        uploader.Upload(placed.part.tensor, first, count * placed.columns, staging.data()));
    QuantizeRowsParams quantize;
    quantize.x = staging.data();
    quantize.stride = placed.columns;
    quantize.codes = static_cast<std::byte*>(placed.to) + first;
    quantize.scales = placed.scales + row;
    quantize.rows = static_cast<int32_t>(count);
    quantize.k = static_cast<int32_t>(placed.columns);
    SLUICE_RETURN_IF_ERROR(CudaStatus(LaunchQuantizeRows(quantize, stream), "quantized weights"));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<DeviceWeights>> DeviceWeights::Load(
    const ModelConfig& config, const Checkpoint& checkpoint, cudaStream_t stream, Bytes piece,
    MemoryAccount& account, const Progress& progress, WeightType type) {
  // What is told is device memory; what is copied may be more.
  const Bytes total = BytesFor(config, checkpoint, type);
  const double share = AsDouble(total) / AsDouble(BytesFor(config, checkpoint, WeightType::kBf16));
  auto weights = std::make_unique<DeviceWeights>();
  weights->type_ = type;
  SLUICE_ASSIGN_OR_RETURN(weights->memory_,
                          DeviceBuffer::Allocate(total, "the model's weights", account));
  Arranger arranger(weights->memory_.data(), type);
  weights->Arrange(config, checkpoint, arranger);
  DeviceBuffer staging;
  if (arranger.staging() > Bytes(0)) {
    SLUICE_ASSIGN_OR_RETURN(
        staging, DeviceBuffer::Allocate(arranger.staging(), "weights to be quantized", account));
  }
  SLUICE_ASSIGN_OR_RETURN(
      const std::unique_ptr<WeightUploader> uploader,
      WeightUploader::Create(stream, piece, account, [&progress, total, share](Bytes done) {
        const Bytes there(static_cast<int64_t>(AsDouble(done) * share));
        if (progress) progress(std::min(there, total), total);
      }));
  for (const Placed& placed : arranger.placed()) {
    SLUICE_RETURN_IF_ERROR(
        placed.scales == nullptr
            ? uploader->Upload(placed.part.tensor, placed.part.elements, placed.to)
            : Quantize(placed, staging, stream, *uploader));
  }
  SLUICE_RETURN_IF_ERROR(uploader->Finish());
  return weights;
}

}  // namespace sluice::cuda
