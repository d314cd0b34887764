#include "backend/cuda/weights/weight_uploader.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <utility>
#include <vector>

#include "backend/cuda/device/status.h"
#include "scheduler/base/check.h"
#include "scheduler/base/status_macros.h"

namespace sluice::cuda {
namespace {

constexpr int64_t kHalfBytes = 2;

// Round to nearest, ties to even, as backend/cpu does. A NaN stays a NaN.
uint16_t RoundToBf16(float value) {
  const auto bits = std::bit_cast<uint32_t>(value);
  if ((bits & 0x7fffffffU) > 0x7f800000U) return static_cast<uint16_t>((bits >> 16) | 0x40U);
  return static_cast<uint16_t>((bits + 0x7fffU + ((bits >> 16) & 1U)) >> 16);
}

// Elements [first, first + n) of `tensor` as bf16.
void ReadHalves(const TensorView& tensor, int64_t first, std::span<std::byte> out) {
  if (tensor.dtype == DType::kBF16) {
    std::memcpy(out.data(), tensor.data.data() + first * kHalfBytes, out.size());
    return;
  }
  std::vector<float> numbers(out.size() / static_cast<size_t>(kHalfBytes));
  ReadFloats(tensor, first, numbers);
  auto* halves = reinterpret_cast<uint16_t*>(out.data());
  std::transform(numbers.begin(), numbers.end(), halves, RoundToBf16);
}

}  // namespace

WeightUploader::WeightUploader(cudaStream_t stream, Bytes piece, Progress progress)
    : stream_(stream), piece_bytes_(piece), progress_(std::move(progress)) {}

absl::StatusOr<std::unique_ptr<WeightUploader>> WeightUploader::Create(cudaStream_t stream,
                                                                       Bytes piece,
                                                                       MemoryAccount& account,
                                                                       Progress progress) {
  SLUICE_CHECK(piece > Bytes(0) && piece.value() % 16 == 0);
  std::unique_ptr<WeightUploader> uploader(new WeightUploader(stream, piece, std::move(progress)));
  for (Piece& p : uploader->pieces_) {
    SLUICE_ASSIGN_OR_RETURN(p.memory,
                            PinnedBuffer::Allocate(piece, "the ring for weights", account));
    SLUICE_ASSIGN_OR_RETURN(p.emptied, Event::Create());
  }
  return uploader;
}

// An error here came up in Finish() before, or the load has failed in any case.
WeightUploader::~WeightUploader() { static_cast<void>(Finish()); }

absl::Status WeightUploader::Upload(const TensorView* tensor, int64_t first, int64_t elements,
                                    void* to) {
  return Upload(Bytes(elements * kHalfBytes), to, [&](int64_t offset, std::span<std::byte> out) {
    if (tensor == nullptr) {
      std::fill(out.begin(), out.end(), std::byte{0});
    } else {
      ReadHalves(*tensor, first + offset / kHalfBytes, out);
    }
  });
}

absl::Status WeightUploader::Upload(Bytes bytes, void* to, Fill fill) {
  for (int64_t offset = 0; offset < bytes.value(); offset += piece_bytes_.value()) {
    Piece& piece = pieces_[next_];
    next_ = (next_ + 1) % kPieces;
    if (piece.used) {
      SLUICE_RETURN_IF_ERROR(
          CudaStatus(cudaEventSynchronize(piece.emptied.get()), "copy of weights"));
    }
    const auto size = static_cast<size_t>(std::min(piece_bytes_.value(), bytes.value() - offset));
    auto* const pinned = piece.memory.as<std::byte>();
    fill(offset, {pinned, size});
    SLUICE_RETURN_IF_ERROR(CudaStatus(cudaMemcpyAsync(static_cast<std::byte*>(to) + offset, pinned,
                                                      size, cudaMemcpyHostToDevice, stream_),
                                      "copy of weights"));
    SLUICE_CUDA_RETURN_IF_ERROR(cudaEventRecord(piece.emptied.get(), stream_));
    piece.used = true;
    done_ += Bytes(static_cast<int64_t>(size));
    if (progress_) progress_(done_);
  }
  return absl::OkStatus();
}

absl::Status WeightUploader::Finish() {
  return CudaStatus(cudaStreamSynchronize(stream_), "copy of weights");
}

}  // namespace sluice::cuda
