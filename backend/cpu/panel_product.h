// Matrix products by our own kernel, for CPUs and shapes where oneDNN's result for a row depends on how
// many rows there are (see Gemm). Here a row is one chain of fused multiply-adds per output, in the order
// of the inputs, whatever is computed beside it.
//
// Weights are packed in panels of 32 outputs: [panel][input][16 words]. A word is the pair of outputs
// (i, 16 + i) in bf16, or two words 16 apart in f32.
#pragma once

#include <cstddef>
#include <cstdint>

#include "backend/cpu/element.h"

namespace sluice {

inline constexpr int64_t kPanelOutputs = 32;
// Inputs per pass over the outputs: a panel's share stays in the first-level cache.
inline constexpr int64_t kPanelInputs = 256;

constexpr int64_t PanelOutputs(int64_t outputs) {
  return (outputs + kPanelOutputs - 1) / kPanelOutputs * kPanelOutputs;
}
constexpr int64_t PanelBytes(int64_t outputs, int64_t inputs, Element element) {
  return PanelOutputs(outputs) * inputs * ElementBytes(element);
}

// Packs weights[outputs][inputs]. `panels` holds PanelBytes() zeroed bytes, aligned to 64.
void PackPanels(const float* weights, int64_t outputs, int64_t inputs, Element element,
                std::byte* panels);

// y[rows][PanelOutputs(outputs)] = x * W^T, for x[rows][inputs] of elements. `wide` is scratch for
// rows * kPanelInputs floats. Columns from `outputs` on are zero.
void MultiplyPanels(const void* x, int64_t rows, const std::byte* panels, int64_t outputs,
                    int64_t inputs, Element element, float* wide, float* y);

}  // namespace sluice
