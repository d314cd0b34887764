// Gemm: y = x * W^T with weights packed once, split over a ThreadPool.
//
// The outputs (rows of W) are cut into slices and the rows of x into blocks; one task is one slice
// times one block on a single thread. The cuts depend on the matrix only, and within a task a row's
// result does not depend on the other rows. A row of y is therefore the same, bit for bit, whatever
// other rows are multiplied with it and however many threads there are.
//
// oneDNN does the products where it keeps to that; it promises nothing, so every shape is tried
// when its first matrix is packed (RowsAreIndependent). It does on AVX-512 for f32 and on AVX-512
// with bf16 instructions for bf16; elsewhere our own kernel is used (panel_product.h).
//
// Each finished tile is handed to the caller while it is still in the cache, so that bias,
// activation or residual need no pass of their own.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "backend/cpu/element.h"
#include "backend/cpu/huge_buffer.h"
#include "backend/cpu/onednn_product.h"
#include "backend/cpu/slice_product.h"
#include "backend/cpu/thread_pool.h"

namespace sluice {

// A finished part of y: rows [row, row + rows), columns [column, column + columns). Row r of it
// starts at data + r * columns.
struct GemmTile {
  int64_t row = 0;
  int64_t rows = 0;
  int64_t column = 0;
  int64_t columns = 0;
  const float* data = nullptr;
};

class Gemm;

// A weight matrix [outputs, inputs] in oneDNN's layout. Immutable; made by Gemm::Pack, and to be
// used with that Gemm only.
class PackedMatrix {
 public:
  PackedMatrix() = default;
  int64_t outputs() const { return outputs_; }
  int64_t inputs() const { return inputs_; }
  Bytes bytes() const { return storage_.size(); }

 private:
  friend class Gemm;
  struct Slice {
    int64_t first = 0;                // output
    SliceProduct* product = nullptr;  // owned by the Gemm
    size_t offset = 0;                // into storage_
  };

  Element element_ = Element::kF32;
  int64_t outputs_ = 0;
  int64_t inputs_ = 0;
  HugeBuffer storage_;
  std::vector<Slice> slices_;
};

// Whose products to use. kAuto: see above.
enum class GemmKernels : uint8_t { kAuto, kOwn };

class Gemm {
 public:
  using ReadRow = absl::FunctionRef<void(int64_t row, std::span<float> out)>;
  using TileFn = absl::FunctionRef<void(const GemmTile& tile, int worker)>;

  // Rows of x are multiplied in blocks of this many; x must be readable up to the next multiple.
  static constexpr int64_t kRowBlock = 64;
  // Tiles begin at a multiple of this many outputs.
  static constexpr int64_t kColumnAlignment = 64;

  // `pool` must outlive this.
  explicit Gemm(ThreadPool& pool, GemmKernels kernels = GemmKernels::kAuto);
  ~Gemm();

  // For people: "AVX-512 bf16, oneDNN". Covers what was packed so far.
  std::string description() const;

  // Packs a matrix whose row i `read_row` yields (called from several threads).
  // Returns RESOURCE_EXHAUSTED without memory, INTERNAL if oneDNN refuses.
  absl::StatusOr<PackedMatrix> Pack(int64_t outputs, int64_t inputs, Element element,
                                    ReadRow read_row);

  // Calls `fn` once for every tile of y = x * W^T, from several threads at once. x is
  // [rows][inputs] of the matrix's element type, dense. Call inside a ThreadPool::CallerScope.
  absl::Status Multiply(const void* x, int64_t rows, const PackedMatrix& w, TileFn fn);

 private:
  // Memory of one worker.
  struct Workspace {
    HugeBuffer tile;
    HugeBuffer scratch;
  };

  SliceProduct* ProductFor(const SliceShape& shape);
  absl::Status Prepare(const PackedMatrix& w, int64_t rows);

  ThreadPool& pool_;
  const GemmKernels kernels_;
  OneDnn onednn_;
  std::map<SliceShape, std::unique_ptr<SliceProduct>> products_;
  bool all_onednn_ = true;
  std::vector<Workspace> workspaces_;
};

}  // namespace sluice
