// SliceProduct: y = x * W^T for weights of one shape, on one thread. Gemm cuts its matrices into
// slices and multiplies each with one of these. Implementations: oneDNN and our own panels.
//
// Pack and Multiply may run on several threads at once, with different workers.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "backend/cpu/element.h"

namespace sluice {

struct SliceShape {
  int64_t inputs = 0;
  int64_t outputs = 0;
  Element element = Element::kF32;

  friend auto operator<=>(const SliceShape&, const SliceShape&) = default;
};

class SliceProduct {
 public:
  virtual ~SliceProduct() = default;

  virtual const SliceShape& shape() const = 0;
  virtual size_t packed_bytes() const = 0;

  // Packs weights[outputs][inputs], rounding to the element. `packed` holds packed_bytes() zeroed
  // bytes, aligned to 64.
  virtual absl::Status Pack(const float* weights, std::byte* packed) = 0;

  // Gets ready for products with `rows` rows; sets how much scratch they need. One thread only.
  virtual absl::StatusOr<size_t> Prepare(int64_t rows) = 0;

  // y[rows][outputs] = x * W^T. x[rows][inputs] must be readable, and y writable, up to the next
  // multiple of 16 rows. `scratch` is aligned to 64. Returns false if the library refuses.
  // REQUIRES: Prepare(rows) was called.
  virtual bool Multiply(const void* x, int64_t rows, const std::byte* packed, float* y,
                        std::byte* scratch, int worker) const = 0;
};

// Whether rows come out the same, bit for bit, in products with 1 to 64 rows, tried on random
// numbers.
bool RowsAreIndependent(SliceProduct& product);

}  // namespace sluice
