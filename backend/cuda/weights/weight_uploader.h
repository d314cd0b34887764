// WeightUploader: from mapped files to device memory, through a ring of pinned pieces.
//
// While the copy engine empties one piece, the host fills the next: bf16 tensors by copying their
// bytes, others by rounding them to bf16. So the link is busy all the time, and no more than the
// ring is pinned however large the model is.
//
// Thread-compatible.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "backend/cuda/device/event.h"
#include "backend/cuda/device/memory.h"
#include "backend/cuda/gpu/gpu.h"
#include "backend/model/checkpoint.h"
#include "scheduler/base/units.h"

namespace sluice::cuda {

class WeightUploader {
 public:
  // Called now and then with the bytes put into the stream so far.
  using Progress = std::function<void(Bytes done)>;

  // Copies go into `stream`, which must outlive this, as must the account. `piece` is a multiple of
  // 16 bytes.
  // Returns RESOURCE_EXHAUSTED if the ring cannot be pinned.
  static absl::StatusOr<std::unique_ptr<WeightUploader>> Create(cudaStream_t stream, Bytes piece,
                                                                MemoryAccount& account,
                                                                Progress progress);
  // Waits for what is still being copied from the ring.
  ~WeightUploader();
  WeightUploader(const WeightUploader&) = delete;
  WeightUploader& operator=(const WeightUploader&) = delete;

  // Puts `elements` of `tensor`, from `first` on, in bf16 to `to`; null: zeros.
  absl::Status Upload(const TensorView* tensor, int64_t first, int64_t elements, void* to);
  absl::Status Upload(const TensorView* tensor, int64_t elements, void* to) {
    return Upload(tensor, 0, elements, to);
  }

  // Puts `bytes` to `to`, as `fill` writes them: called with pieces in order, each at an offset
  // that is a multiple of 16.
  using Fill = absl::FunctionRef<void(int64_t offset, std::span<std::byte> out)>;
  absl::Status Upload(Bytes bytes, void* to, Fill fill);

  // Waits until everything is in place. Returns the stream's error.
  absl::Status Finish();

 private:
  // Two would do for the link; more bridge a page fault on the way from the disk.
  static constexpr size_t kPieces = 4;
  struct Piece {
    PinnedBuffer memory;
    Event emptied;
    bool used = false;
  };

  WeightUploader(cudaStream_t stream, Bytes piece, Progress progress);

  const cudaStream_t stream_;
  const Bytes piece_bytes_;
  const Progress progress_;  // may be empty
  std::array<Piece, kPieces> pieces_;
  size_t next_ = 0;
  Bytes done_;
};

}  // namespace sluice::cuda
