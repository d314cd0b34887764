#include "backend/cpu/probe_compute.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <utility>

#include "backend/cpu/probe_numbers.h"
#include "scheduler/base/check.h"
#include "scheduler/base/status_macros.h"

namespace sluice {

absl::StatusOr<std::unique_ptr<ProductProbe>> ProductProbe::Create(const LayerShape& shape,
                                                                   Element element, Bytes least,
                                                                   ThreadPool& pool) {
  std::unique_ptr<ProductProbe> probe(new ProductProbe(element, pool));
  while (probe->weights_ < least) {
    SLUICE_RETURN_IF_ERROR(probe->Pack(shape.q_dim() + 2 * shape.kv_dim(), shape.hidden));
    SLUICE_RETURN_IF_ERROR(probe->Pack(shape.hidden, shape.q_dim()));
    SLUICE_RETURN_IF_ERROR(probe->Pack(2 * shape.intermediate, shape.hidden));
    SLUICE_RETURN_IF_ERROR(probe->Pack(shape.hidden, shape.intermediate));
  }
  return probe;
}

absl::Status ProductProbe::Pack(int64_t outputs, int64_t inputs) {
  SLUICE_ASSIGN_OR_RETURN(PackedMatrix matrix, PackNumbers(gemm_, element_, outputs, inputs));
  matrices_.push_back(std::move(matrix));
  const int64_t parameters = outputs * inputs;
  parameters_ += static_cast<double>(parameters);
  weights_ += Bytes(parameters * ElementBytes(element_));
  return absl::OkStatus();
}

absl::StatusOr<RunTimes> ProductProbe::Time(int64_t rows, const ProbeControl& control) {
  int64_t inputs = 0;
  for (const PackedMatrix& matrix : matrices_) inputs = std::max(inputs, matrix.inputs());
  const int64_t padded = (rows + Gemm::kRowBlock - 1) / Gemm::kRowBlock * Gemm::kRowBlock;
  const Bytes size(padded * inputs * ElementBytes(element_));
  SLUICE_ASSIGN_OR_RETURN(const HugeBuffer x, HugeBuffer::Allocate(size, "the product probe"));
  WriteElements(element_, padded * inputs, x.data());
  const ThreadPool::CallerScope scope(pool_);
  return TimeRepeatedly(control, [&] {
    for (const PackedMatrix& matrix : matrices_) {
      SLUICE_RETURN_IF_ERROR(
          gemm_.Multiply(x.data(), rows, matrix, [](const GemmTile&, int /*worker*/) {}));
    }
    return absl::OkStatus();
  });
}

AttentionProbe::AttentionProbe(const LayerShape& shape, Element element, ThreadPool& pool)
    : shape_(shape), pool_(pool) {
  layout_.element = element;
  layout_.layers = 1;
  layout_.kv_heads = shape.kv_heads;
  layout_.head_dim = shape.head_dim;
  layout_.page_tokens = kPageTokens;
  scratch_.assign(static_cast<size_t>(pool.size()), AttentionScratch(layout_));
}

absl::StatusOr<std::unique_ptr<AttentionProbe>> AttentionProbe::Create(
    const LayerShape& shape, Element element, ThreadPool& pool, const KvCodecOptions& codec) {
  SLUICE_CHECK(shape.kv_heads > 0 && shape.heads % shape.kv_heads == 0);
  std::unique_ptr<AttentionProbe> probe(new AttentionProbe(shape, element, pool));
  SLUICE_RETURN_IF_ERROR(probe->Allocate(codec));
  return probe;
}

absl::Status AttentionProbe::FillHost(int64_t pages) {
  const int64_t elements = layout_.block_bytes().value() / layout_.element_bytes();
  const KvCodec* codec = pools_.host_codec();
  if (codec == nullptr) {
    WriteElements(layout_.element, pages * elements, pools_.HostLayer(0, BlockId(0)));
    return absl::OkStatus();
  }
  std::vector<std::byte> plain(layout_.block_bytes().size());
  WriteElements(layout_.element, elements, plain.data());
  for (int64_t page = 0; page < pages; ++page) {
    const std::span<std::byte> block = pools_.HostBlock(BlockId(static_cast<int32_t>(page)));
    SLUICE_RETURN_IF_ERROR(codec->EncodeLayer(plain, block));
  }
  return absl::OkStatus();
}

absl::Status AttentionProbe::Allocate(const KvCodecOptions& codec) {
  const int64_t pages_each = (kContext + kChunk) / kPageTokens;
  const int64_t pages = kSequences * pages_each;
  SLUICE_ASSIGN_OR_RETURN(pools_, KvPools::Allocate(layout_, Blocks(pages), Blocks(pages), codec));
  SLUICE_RETURN_IF_ERROR(FillHost(pages));
  WriteElements(layout_.element, pages * layout_.page_bytes() / layout_.element_bytes(),
                pools_.LayerPages(0));
  // Pages of a sequence lie apart, as they do in a pool in use.
  for (int64_t s = 0; s < kSequences; ++s) {
    for (int64_t page = 0; page < pages_each; ++page) {
      blocks_.push_back(BlockId(static_cast<int32_t>(page * kSequences + s)));
    }
  }
  const int64_t rows = std::max({kChunk, kSequences, kTileSequences * kTileTokens});
  queries_ = RandomFloats(rows * shape_.q_dim());
  out_.resize(static_cast<size_t>(rows * shape_.q_dim()));
  return absl::OkStatus();
}

void AttentionProbe::Attend(int64_t sequences, int64_t first, int64_t tokens, bool in_place) {
  const int64_t group = shape_.heads / shape_.kv_heads;
  const int64_t rows = tokens * group;
  const int64_t tiles = (rows + kAttentionTileRows - 1) / kAttentionTileRows;
  const auto pages_each = blocks_.size() / static_cast<size_t>(kSequences);
  pool_.ParallelFor(sequences * shape_.kv_heads * tiles, [&](int64_t task, int worker) {
    const int64_t sequence = task / (shape_.kv_heads * tiles);
    const int64_t row = task % tiles * kAttentionTileRows;
    const int64_t at = sequence * tokens * shape_.q_dim();
    AttentionInput in;
    in.layout = &layout_;
    in.pages = pools_.LayerPages(0);
    in.blocks = std::span(blocks_).subspan(static_cast<size_t>(sequence) * pages_each, pages_each);
    if (in_place) {
      in.host_blocks = in.blocks.first(static_cast<size_t>(first / kPageTokens));
      in.host = pools_.HostLayer(0, BlockId(0));
      in.host_codec = pools_.host_codec();
    }
    in.group = group;
    in.first = first;
    in.queries = queries_.data() + at;
    in.query_stride = shape_.q_dim();
    in.out = reinterpret_cast<std::byte*>(out_.data()) + at * layout_.element_bytes();
    in.out_stride = shape_.q_dim();
    AttendTile(in, task / tiles % shape_.kv_heads, row, std::min(kAttentionTileRows, rows - row),
               scratch_[static_cast<size_t>(worker)]);
  });
}

absl::StatusOr<RunTimes> AttentionProbe::TimePrefill(const ProbeControl& control) {
  const ThreadPool::CallerScope scope(pool_);
  return TimeRepeatedly(control, [&] {
    Attend(1, kContext, kChunk);
    return absl::OkStatus();
  });
}

double AttentionProbe::prefill_flop() const {
  const double pairs = kChunk * kContext + kChunk * (kChunk + 1) / 2.0;
  return 4 * static_cast<double>(shape_.q_dim()) * pairs;
}

absl::StatusOr<RunTimes> AttentionProbe::TimeDecode(const ProbeControl& control) {
  const ThreadPool::CallerScope scope(pool_);
  return TimeRepeatedly(control, [&] {
    Attend(kSequences, kContext, 1);
    return absl::OkStatus();
  });
}

Bytes AttentionProbe::decode_bytes() const {
  return Bytes(kSequences * kContext * 2 * shape_.kv_dim() * layout_.element_bytes());
}

absl::StatusOr<RunTimes> AttentionProbe::TimeInPlace(const ProbeControl& control) {
  const ThreadPool::CallerScope scope(pool_);
  return TimeRepeatedly(control, [&] {
    Attend(kSequences, kContext, 1, /*in_place=*/true);
    return absl::OkStatus();
  });
}

double AttentionProbe::in_place_flop() const {
  return 4 * static_cast<double>(shape_.q_dim()) * kSequences * kContext;
}

absl::StatusOr<RunTimes> AttentionProbe::TimeTiles(bool in_place, const ProbeControl& control) {
  const ThreadPool::CallerScope scope(pool_);
  return TimeRepeatedly(control, [&] {
    Attend(kTileSequences, kContext, kTileTokens, in_place);
    return absl::OkStatus();
  });
}

double AttentionProbe::tile_bytes() const {
  return static_cast<double>(kTileSequences * kContext * 2 * shape_.kv_dim() *
                             layout_.element_bytes());
}

int64_t AttentionProbe::tiles() const {
  const int64_t rows = kTileTokens * shape_.heads / shape_.kv_heads;
  return (rows + kAttentionTileRows - 1) / kAttentionTileRows;
}

absl::StatusOr<std::unique_ptr<MemoryProbe>> MemoryProbe::Create(Bytes size, ThreadPool& pool) {
  SLUICE_ASSIGN_OR_RETURN(HugeBuffer buffer, HugeBuffer::Allocate(size, "the memory probe"));
  std::memset(buffer.data(), 1, buffer.size().size());
  return std::unique_ptr<MemoryProbe>(new MemoryProbe(std::move(buffer), pool));
}

absl::StatusOr<RunTimes> MemoryProbe::Time(const ProbeControl& control) {
  constexpr size_t kPart = size_t{1} << 20;
  constexpr size_t kLanes = 16;
  const auto parts = static_cast<int64_t>(buffer_.size().size() / kPart);
  std::atomic<uint64_t> total{0};  // what is read must be used, or it would not be read
  const ThreadPool::CallerScope scope(pool_);
  absl::StatusOr<RunTimes> times = TimeRepeatedly(control, [&] {
    pool_.ParallelFor(parts, [&](int64_t part, int /*worker*/) {
      const auto* words =
          reinterpret_cast<const uint64_t*>(buffer_.data() + static_cast<size_t>(part) * kPart);
      uint64_t sums[kLanes] = {};
      for (size_t i = 0; i < kPart / sizeof(uint64_t); i += kLanes) {
        for (size_t lane = 0; lane < kLanes; ++lane) sums[lane] += words[i + lane];
      }
      uint64_t sum = 0;
      for (const uint64_t lane : sums) sum += lane;
      total.fetch_add(sum, std::memory_order_relaxed);
    });
    return absl::OkStatus();
  });
  SLUICE_CHECK(parts == 0 || !times.ok() || total.load() != 0);
  return times;
}

}  // namespace sluice
