// Probes of the CPU backend's computing parts, through the same code that serves: products of
// packed weights, paged attention, memory. For `sluice calibrate`.
//
// Thread-compatible; each uses the threads of the pool it is given, which must outlive it.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "backend/cpu/attention.h"
#include "backend/cpu/element.h"
#include "backend/cpu/gemm.h"
#include "backend/cpu/huge_buffer.h"
#include "backend/cpu/kv_layout.h"
#include "backend/cpu/thread_pool.h"
#include "backend/probe_timer.h"
#include "scheduler/base/units.h"

namespace sluice {

// The shape of a decoder layer.
struct LayerShape {
  int64_t hidden = 2048;
  int64_t intermediate = 5632;
  int64_t heads = 32;
  int64_t kv_heads = 8;
  int64_t head_dim = 64;  // even

  int64_t q_dim() const { return heads * head_dim; }
  int64_t kv_dim() const { return kv_heads * head_dim; }
  // Weights of its four matrices.
  int64_t parameters() const {
    return hidden * (2 * q_dim() + 2 * kv_dim()) + 3 * hidden * intermediate;
  }
};

// Products with the matrices of a few layers, in the order of a forward pass.
class ProductProbe {
 public:
  // As many layers as take `least` bytes, so that each comes from memory and not from a cache.
  static absl::StatusOr<std::unique_ptr<ProductProbe>> Create(const LayerShape& shape,
                                                              Element element, Bytes least,
                                                              ThreadPool& pool);

  // Of multiplying `rows` rows with all matrices.
  absl::StatusOr<RunTimes> Time(int64_t rows, const ProbeControl& control);

  double flop(int64_t rows) const { return 2 * static_cast<double>(rows) * parameters_; }
  Bytes weights() const { return weights_; }
  std::string description() const { return gemm_.description(); }

 private:
  ProductProbe(Element element, ThreadPool& pool) : element_(element), pool_(pool), gemm_(pool) {}
  absl::Status Pack(int64_t outputs, int64_t inputs);

  const Element element_;
  ThreadPool& pool_;
  Gemm gemm_;
  std::vector<PackedMatrix> matrices_;
  double parameters_ = 0;
  Bytes weights_;
};

// Attention of one layer over a pool of pages filled with numbers.
class AttentionProbe {
 public:
  // `codec`: of the host pool. REQUIRES: raw, or one that decodes_heads().
  static absl::StatusOr<std::unique_ptr<AttentionProbe>> Create(const LayerShape& shape,
                                                                Element element, ThreadPool& pool,
                                                                const KvCodecOptions& codec = {});

  // A chunk of kChunk tokens of one sequence after kContext tokens.
  absl::StatusOr<RunTimes> TimePrefill(const ProbeControl& control);
  double prefill_flop() const;

  // One token for each of kSequences sequences of kContext tokens.
  absl::StatusOr<RunTimes> TimeDecode(const ProbeControl& control);
  Bytes decode_bytes() const;  // of KV read

  // The same with the context in the host pool, attended to in place.
  absl::StatusOr<RunTimes> TimeInPlace(const ProbeControl& control);
  double in_place_flop() const;

  // A chunk of kTileTokens tokens for each of kTileSequences sequences, the context on the device
  // or, attended to in place, on the host. The difference is what bringing it into the device's
  // layout costs: tile_bytes() of plain KV, tiles() times over.
  absl::StatusOr<RunTimes> TimeTiles(bool in_place, const ProbeControl& control);
  double tile_bytes() const;
  int64_t tiles() const;  // of kAttentionTileRows query rows, of a sequence and kv head

 private:
  static constexpr int64_t kChunk = 128;
  static constexpr int64_t kContext = 2048;
  static constexpr int64_t kSequences = 16;
  static constexpr int64_t kTileSequences = 2;
  static constexpr int64_t kTileTokens = 64;
  static constexpr int64_t kPageTokens = 32;

  AttentionProbe(const LayerShape& shape, Element element, ThreadPool& pool);
  absl::Status Allocate(const KvCodecOptions& codec);
  absl::Status FillHost(int64_t pages);
  // `tokens` tokens at position `first` of each of `sequences` sequences; what is before them lies
  // on the host if `in_place`.
  void Attend(int64_t sequences, int64_t first, int64_t tokens, bool in_place = false);

  const LayerShape shape_;
  ThreadPool& pool_;
  KvLayout layout_;
  KvPools pools_;
  std::vector<BlockId> blocks_;  // sequence by sequence
  std::vector<float> queries_;
  std::vector<float> out_;  // large enough for elements of either kind
  std::vector<AttentionScratch> scratch_;
};

// Reading memory from end to end, far more than any cache holds.
class MemoryProbe {
 public:
  static absl::StatusOr<std::unique_ptr<MemoryProbe>> Create(Bytes size, ThreadPool& pool);
  absl::StatusOr<RunTimes> Time(const ProbeControl& control);
  Bytes size() const { return buffer_.size(); }

 private:
  MemoryProbe(HugeBuffer buffer, ThreadPool& pool) : buffer_(std::move(buffer)), pool_(pool) {}
  HugeBuffer buffer_;
  ThreadPool& pool_;
};

}  // namespace sluice
