#include "backend/cpu/panel_product.h"

#include <algorithm>
#include <cstring>
#include <type_traits>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/panel_product.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "backend/cpu/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sluice {
namespace HWY_NAMESPACE {

#if HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX3_DL
inline constexpr int kProductRows = 8;
#else
inline constexpr int kProductRows = 4;
#endif

// y[row][column] and y[row][16 + column] += x[row] * panel, for kRows rows and one vector of columns each.
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
      ProductBlock<kNarrow, kRows>(x + row * kPanelInputs, panel + w, inputs, y + row * y_stride + w,
                                   y_stride);
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

void MultiplyPanelsImpl(const void* x, int64_t rows, const std::byte* panels, int64_t outputs,
                        int64_t inputs, Element element, float* wide, float* y) {
  const int64_t stride = PanelOutputs(outputs);
  const int64_t words = element == Element::kF32 ? 32 : 16;
  std::fill_n(y, rows * stride, 0.0F);
  for (int64_t first = 0; first < inputs; first += kPanelInputs) {
    const int64_t count = std::min(kPanelInputs, inputs - first);
    WidenInputs(x, rows, inputs, first, count, element, wide);
    for (int64_t column = 0; column < stride; column += kPanelOutputs) {
      const auto* panel = reinterpret_cast<const uint32_t*>(panels) +
                          (column / kPanelOutputs * inputs + first) * words;
      if (element == Element::kF32) {
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

HWY_EXPORT(MultiplyPanelsImpl);

void PackPanels(const float* weights, int64_t outputs, int64_t inputs, Element element,
                std::byte* panels) {
  for (int64_t o = 0; o < outputs; ++o) {
    const int64_t panel = o / kPanelOutputs;
    const int64_t within = o % kPanelOutputs;
    for (int64_t k = 0; k < inputs; ++k) {
      const float v = weights[o * inputs + k];
      const int64_t row = (panel * inputs + k) * kPanelOutputs;
      if (element == Element::kF32) {
        reinterpret_cast<float*>(panels)[row + within] = v;
      } else {
        // Little-endian: the low half of a word comes first.
        reinterpret_cast<uint16_t*>(panels)[row + within % 16 * 2 + within / 16] = FloatToBF16(v);
      }
    }
  }
}

void MultiplyPanels(const void* x, int64_t rows, const std::byte* panels, int64_t outputs,
                    int64_t inputs, Element element, float* wide, float* y) {
  HWY_DYNAMIC_DISPATCH(MultiplyPanelsImpl)(x, rows, panels, outputs, inputs, element, wide, y);
}

}  // namespace sluice
#endif
