#include "backend/cpu/gemm.h"

#include <algorithm>
#include <atomic>

#include "absl/strings/str_cat.h"
#include "backend/cpu/panel_product.h"
#include "scheduler/base/check.h"
#include "scheduler/base/status_macros.h"

namespace sluice {
namespace {

// Outputs per slice: wide enough to keep the overhead per call small, narrow enough to keep many
// threads busy.
int64_t SliceWidth(int64_t outputs) { return outputs >= 1024 ? 128 : 64; }

constexpr size_t RoundUp(size_t n, size_t multiple) {
  return (n + multiple - 1) / multiple * multiple;
}

// Makes `buffer` hold at least `size` bytes.
absl::Status Grow(HugeBuffer& buffer, size_t size) {
  if (buffer.size().size() >= size) return absl::OkStatus();
  SLUICE_ASSIGN_OR_RETURN(buffer, HugeBuffer::Allocate(Bytes(static_cast<int64_t>(size)),
                                                       "scratch of matrix products"));
  return absl::OkStatus();
}

}  // namespace

Gemm::Gemm(ThreadPool& pool, GemmKernels kernels)
    : pool_(pool),
      kernels_(kernels),
      onednn_(pool.size()),
      workspaces_(static_cast<size_t>(pool.size())) {}

Gemm::~Gemm() = default;

std::string Gemm::description() const {
  return absl::StrCat(OneDnn::Isa(), all_onednn_ ? ", oneDNN" : ", own products");
}

SliceProduct* Gemm::ProductFor(const SliceShape& shape) {
  std::unique_ptr<SliceProduct>& product = products_[shape];
  if (product != nullptr) return product.get();
  if (kernels_ == GemmKernels::kAuto) {
    auto candidate = onednn_.MakeProduct(shape);
    if (candidate.ok() && RowsAreIndependent(**candidate)) product = *std::move(candidate);
  }
  if (product == nullptr) {
    product = MakePanelProduct(shape);
    all_onednn_ = false;
  }
  return product.get();
}

absl::StatusOr<PackedMatrix> Gemm::Pack(int64_t outputs, int64_t inputs, Element element,
                                        ReadRow read_row) {
  SLUICE_CHECK(outputs > 0 && inputs > 0);
  const ThreadPool::CallerScope scope(pool_);
  PackedMatrix matrix;
  matrix.element_ = element;
  matrix.outputs_ = outputs;
  matrix.inputs_ = inputs;
  const int64_t step = SliceWidth(outputs);
  // Its size is known before anything is tried: a matrix that cannot fit is refused at once.
  const int64_t plain_bytes = outputs * inputs * ElementBytes(element);
  SLUICE_RETURN_IF_ERROR(HugeBuffer::Allocate(Bytes(plain_bytes), "weights").status());
  size_t size = 0;
  for (int64_t first = 0; first < outputs; first += step) {
    SliceProduct* product = ProductFor({inputs, std::min(step, outputs - first), element});
    matrix.slices_.push_back({first, product, size});
    size += RoundUp(product->packed_bytes(), 4096);
  }
  SLUICE_ASSIGN_OR_RETURN(matrix.storage_,
                          HugeBuffer::Allocate(Bytes(static_cast<int64_t>(size)), "weights"));
  std::vector<absl::Status> results(matrix.slices_.size());
  pool_.ParallelFor(static_cast<int64_t>(results.size()), [&](int64_t task, int /*worker*/) {
    const PackedMatrix::Slice& slice = matrix.slices_[static_cast<size_t>(task)];
    const int64_t width = slice.product->shape().outputs;
    std::vector<float> plain(static_cast<size_t>(width * inputs));
    for (int64_t row = 0; row < width; ++row) {
      read_row(slice.first + row, {plain.data() + row * inputs, static_cast<size_t>(inputs)});
    }
    results[static_cast<size_t>(task)] =
        slice.product->Pack(plain.data(), matrix.storage_.data() + slice.offset);
  });
  for (const absl::Status& result : results) SLUICE_RETURN_IF_ERROR(result);
  return matrix;
}

// Makes the kernels and memory a product needs, so that workers only read.
absl::Status Gemm::Prepare(const PackedMatrix& w, int64_t rows) {
  size_t scratch = 0;
  int64_t width = 0;
  const SliceProduct* last = nullptr;
  for (const PackedMatrix::Slice& slice : w.slices_) {
    if (slice.product == last) continue;
    last = slice.product;
    width = std::max(width, slice.product->shape().outputs);
    for (const int64_t count : {std::min(rows, kRowBlock), rows % kRowBlock}) {
      if (count == 0) continue;
      SLUICE_ASSIGN_OR_RETURN(const size_t needed, slice.product->Prepare(count));
      scratch = std::max(scratch, needed);
    }
  }
  for (Workspace& workspace : workspaces_) {
    SLUICE_RETURN_IF_ERROR(
        Grow(workspace.tile, static_cast<size_t>(kRowBlock * width) * sizeof(float)));
    SLUICE_RETURN_IF_ERROR(Grow(workspace.scratch, scratch));
  }
  return absl::OkStatus();
}

absl::Status Gemm::Multiply(const void* x, int64_t rows, const PackedMatrix& w, TileFn fn) {
  SLUICE_RETURN_IF_ERROR(Prepare(w, rows));
  const int64_t blocks = (rows + kRowBlock - 1) / kRowBlock;
  const int64_t row_bytes = w.inputs_ * ElementBytes(w.element_);
  std::atomic<bool> failed{false};
  const auto multiply_tile = [&](int64_t task, int worker) {
    const PackedMatrix::Slice& slice = w.slices_[static_cast<size_t>(task / blocks)];
    const int64_t row = task % blocks * kRowBlock;
    const int64_t count = std::min(kRowBlock, rows - row);
    const Workspace& workspace = workspaces_[static_cast<size_t>(worker)];
    auto* tile = reinterpret_cast<float*>(workspace.tile.data());
    const auto* source = static_cast<const std::byte*>(x) + row * row_bytes;
    if (!slice.product->Multiply(source, count, w.storage_.data() + slice.offset, tile,
                                 workspace.scratch.data(), worker)) {
      failed.store(true, std::memory_order_relaxed);
      return;
    }
    fn({row, count, slice.first, slice.product->shape().outputs, tile}, worker);
  };
  pool_.ParallelFor(static_cast<int64_t>(w.slices_.size()) * blocks, multiply_tile);
  if (failed.load()) return absl::InternalError("oneDNN could not run a matrix product");
  return absl::OkStatus();
}

}  // namespace sluice
