#include "backend/cpu/panel_product.h"

#include <algorithm>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/panel_product.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "backend/cpu/simd-inl.h"

#ifndef SLUICE_BACKEND_CPU_PANEL_PRODUCT_ONCE
#define SLUICE_BACKEND_CPU_PANEL_PRODUCT_ONCE
namespace sluice {

inline constexpr int64_t kPanelOutputs = 32;
// Inputs per pass over the outputs: a panel's share stays in the first-level cache.
inline constexpr int64_t kPanelInputs = 256;

inline int64_t PaddedOutputs(int64_t outputs) {
  return (outputs + kPanelOutputs - 1) / kPanelOutputs * kPanelOutputs;
}

}  // namespace sluice
#endif

HWY_BEFORE_NAMESPACE();
namespace sluice {
namespace HWY_NAMESPACE {

#if HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX3_DL
inline constexpr int kProductRows = 8;
#else
inline constexpr int kProductRows = 4;
#endif

// y[row][column] and y[row][16 + column] += x[row] * panel, for kRows rows and one vector of
// columns each.
template <bool kNarrow, int kRows>
HWY_INLINE void ProductBlock(const float* HWY_RESTRICT x, const uint32_t* HWY_RESTRICT panel,
                             int64_t inputs, float* HWY_RESTRICT y, int64_t y_stride) {
  constexpr int64_t kWords = kNarrow ? 16 : 32;  // from input to input
  const DF d;
  const DU du;
  VF low[kRows];
  VF high[kRows];
  for (int r = 0; r < kRows; ++r) {
    low[r] = hn::LoadU(d, y + r * y_stride);
    high[r] = hn::LoadU(d, y + r * y_stride + 16);
  }
  for (int64_t k = 0; k < inputs; ++k, panel += kWords) {
    const VU first = hn::LoadU(du, panel);
    const VF a = kNarrow ? LowHalf(first) : hn::BitCast(d, first);
    const VF b = kNarrow ? HighHalf(first) : hn::BitCast(d, hn::LoadU(du, panel + kWords - 16));
    for (int r = 0; r < kRows; ++r) {
      const VF v = hn::Set(d, x[r * kPanelInputs + k]);
      low[r] = hn::MulAdd(v, a, low[r]);
      high[r] = hn::MulAdd(v, b, high[r]);
    }
  }
  for (int r = 0; r < kRows; ++r) {
    hn::StoreU(low[r], d, y + r * y_stride);
    hn::StoreU(high[r], d, y + r * y_stride + 16);
  }
}

template <bool kNarrow, int kRows>
HWY_INLINE void ProductRows(const float* x, int64_t rows, const uint32_t* panel, int64_t inputs,
                            float* y, int64_t y_stride) {
  const auto lanes = static_cast<int64_t>(hn::Lanes(DF()));
  int64_t row = 0;
  for (; row + kRows <= rows; row += kRows) {
    for (int64_t w = 0; w < 16; w += lanes) {
      ProductBlock<kNarrow, kRows>(x + row * kPanelInputs, panel + w, inputs,
                                   y + row * y_stride + w, y_stride);
    }
  }
  if constexpr (kRows > 1) {
    if (row < rows) {
      ProductRows<kNarrow, kRows / 2>(x + row * kPanelInputs, rows - row, panel, inputs,
                                      y + row * y_stride, y_stride);
    }
  }
}

// Inputs [first, first + count) of x as floats, row after row kPanelInputs apart.
void WidenInputs(const void* x, int64_t rows, int64_t inputs, int64_t first, int64_t count,
                 Element element, float* wide) {
  for (int64_t r = 0; r < rows; ++r) {
    const int64_t at = r * inputs + first;
    float* out = wide + r * kPanelInputs;
    if (element == Element::kF32) {
      std::copy_n(static_cast<const float*>(x) + at, count, out);
    } else {
      const auto* narrow = static_cast<const uint16_t*>(x) + at;
      for (int64_t i = 0; i < count; ++i) out[i] = BF16ToFloat(narrow[i]);
    }
  }
}

// y[rows][PaddedOutputs] = x * W^T. `wide` holds rows * kPanelInputs floats.
void MultiplyPanels(const SliceShape& shape, const void* x, int64_t rows, const std::byte* panels,
                    float* wide, float* y) {
  const int64_t stride = PaddedOutputs(shape.outputs);
  const int64_t words = shape.element == Element::kF32 ? 32 : 16;
  std::fill_n(y, rows * stride, 0.0F);
  for (int64_t first = 0; first < shape.inputs; first += kPanelInputs) {
    const int64_t count = std::min(kPanelInputs, shape.inputs - first);
    WidenInputs(x, rows, shape.inputs, first, count, shape.element, wide);
    for (int64_t column = 0; column < stride; column += kPanelOutputs) {
      const auto* panel = reinterpret_cast<const uint32_t*>(panels) +
                          (column / kPanelOutputs * shape.inputs + first) * words;
      if (shape.element == Element::kF32) {
        ProductRows<false, kProductRows>(wide, rows, panel, count, y + column, stride);
      } else {
        ProductRows<true, kProductRows>(wide, rows, panel, count, y + column, stride);
      }
    }
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace sluice
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sluice {

HWY_EXPORT(MultiplyPanels);

namespace {

class PanelProduct : public SliceProduct {
 public:
  explicit PanelProduct(const SliceShape& shape) : shape_(shape) {}

  const SliceShape& shape() const override { return shape_; }
  size_t packed_bytes() const override {
    return static_cast<size_t>(PaddedOutputs(shape_.outputs) * shape_.inputs *
                               ElementBytes(shape_.element));
  }
  absl::Status Pack(const float* weights, std::byte* packed) override;
  absl::StatusOr<size_t> Prepare(int64_t rows) override {
    return static_cast<size_t>(rows * (kPanelInputs + PaddedOutputs(shape_.outputs))) *
           sizeof(float);
  }
  bool Multiply(const void* x, int64_t rows, const std::byte* packed, float* y, std::byte* scratch,
                int /*worker*/) const override {
    auto* wide = reinterpret_cast<float*>(scratch);
    const int64_t stride = PaddedOutputs(shape_.outputs);
    if (stride == shape_.outputs) {
      HWY_DYNAMIC_DISPATCH(MultiplyPanels)(shape_, x, rows, packed, wide, y);
      return true;
    }
    float* padded = wide + rows * kPanelInputs;
    HWY_DYNAMIC_DISPATCH(MultiplyPanels)(shape_, x, rows, packed, wide, padded);
    for (int64_t r = 0; r < rows; ++r) {
      std::copy_n(padded + r * stride, shape_.outputs, y + r * shape_.outputs);
    }
    return true;
  }

 private:
  SliceShape shape_;
};

absl::Status PanelProduct::Pack(const float* weights, std::byte* packed) {
  for (int64_t o = 0; o < shape_.outputs; ++o) {
    const int64_t panel = o / kPanelOutputs;
    const int64_t within = o % kPanelOutputs;
    for (int64_t k = 0; k < shape_.inputs; ++k) {
      const float v = weights[o * shape_.inputs + k];
      const int64_t row = (panel * shape_.inputs + k) * kPanelOutputs;
      if (shape_.element == Element::kF32) {
        reinterpret_cast<float*>(packed)[row + within] = v;
      } else {
        // Little-endian: the low half of a word comes first.
        reinterpret_cast<uint16_t*>(packed)[row + within % 16 * 2 + within / 16] = FloatToBF16(v);
      }
    }
  }
  return absl::OkStatus();
}

}  // namespace

std::unique_ptr<SliceProduct> MakePanelProduct(const SliceShape& shape) {
  return std::make_unique<PanelProduct>(shape);
}

}  // namespace sluice
#endif
