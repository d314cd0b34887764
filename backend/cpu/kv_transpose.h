// TransposeWords: what turns K of one head from [unit][token] (device) to [token][unit] (host) and
// back, a few times faster than word by word.
#pragma once

#include <cstdint>

namespace sluice {

// out[c * out_stride + r] = in[r * in_stride + c] for r < rows, c < columns. Strides in words. The
// two must not overlap.
void TransposeWords(const uint32_t* in, int64_t in_stride, int64_t rows, int64_t columns,
                    uint32_t* out, int64_t out_stride);

}  // namespace sluice
