// SliceProduct by our own kernel, for CPUs and shapes where oneDNN's result for a row depends on
// how many rows there are (see Gemm). Here a row is one chain of fused multiply-adds per output, in
// the order of the inputs, whatever is computed beside it.
//
// Weights are packed in panels of 32 outputs: [panel][input][16 words]. A word is the pair of
// outputs (i, 16 + i) in bf16, or two words 16 apart in f32.
#pragma once

#include <memory>

#include "backend/cpu/slice_product.h"

namespace sluice {

std::unique_ptr<SliceProduct> MakePanelProduct(const SliceShape& shape);

}  // namespace sluice
