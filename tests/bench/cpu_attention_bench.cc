// Paged attention on one thread: bytes of KV per second in decode, FLOP per second in prefill.
//
//   Decode/dim/group/page    one query token, context 4096, 4 kv heads, pages in random order
//   Prefill/dim/group/page   256 query tokens at the end of a context of 2048
#include <algorithm>
#include <cstdint>
#include <random>
#include <vector>

#include "backend/cpu/attention.h"
#include "backend/cpu/huge_buffer.h"
#include "benchmark/benchmark.h"
#include "scheduler/base/check.h"

namespace sluice {
namespace {

constexpr int64_t kKvHeads = 4;

// `sequences` sequences with random KV, so that one after the other comes from memory.
class Pool {
 public:
  Pool(const benchmark::State& state, int64_t context, int64_t sequences, int64_t queries)
      : layout_{Element::kBF16, 1, kKvHeads, state.range(0), state.range(2)},
        group_(state.range(1)),
        context_(context),
        scratch_(layout_) {
    const int64_t pages = context / layout_.page_tokens;
    const Bytes size(pages * sequences * layout_.page_bytes());
    buffer_ = *HugeBuffer::Allocate(size, "bench");
    std::mt19937_64 random(1);
    auto* elements = reinterpret_cast<uint16_t*>(buffer_.data());
    for (size_t i = 0; i < size.size() / 2; ++i) {
      elements[i] = FloatToBF16(static_cast<float>(random() % 2048) / 1024.0F - 1.0F);
    }
    std::vector<BlockId> order;
    for (int32_t b = 0; b < pages * sequences; ++b) order.push_back(BlockId(b));
    std::shuffle(order.begin(), order.end(), random);
    for (int64_t s = 0; s < sequences; ++s) {
      blocks_.emplace_back(order.begin() + s * pages, order.begin() + (s + 1) * pages);
    }
    width_ = kKvHeads * group_ * layout_.head_dim;
    query_.resize(static_cast<size_t>(queries * width_));
    for (float& q : query_) q = static_cast<float>(random() % 2048) / 1024.0F - 1.0F;
    out_.resize(query_.size());
  }

  void Attend(size_t sequence, int64_t queries) {
    AttentionInput in;
    in.layout = &layout_;
    in.pages = buffer_.data();
    in.blocks = blocks_[sequence % blocks_.size()];
    in.group = group_;
    in.first = context_ - queries;
    in.queries = query_.data();
    in.query_stride = width_;
    in.out = out_.data();
    in.out_stride = width_;
    const int64_t rows = queries * group_;
    for (int64_t head = 0; head < kKvHeads; ++head) {
      for (int64_t row = 0; row < rows; row += kAttentionTileRows) {
        AttendTile(in, head, row, std::min(kAttentionTileRows, rows - row), scratch_);
      }
    }
  }

  int64_t kv_bytes() const { return context_ * kKvHeads * layout_.head_dim * 4; }
  int64_t flops_per_query_key() const { return 4 * width_; }

 private:
  KvLayout layout_;
  int64_t group_;
  int64_t context_;
  AttentionScratch scratch_;
  HugeBuffer buffer_;
  std::vector<std::vector<BlockId>> blocks_;
  int64_t width_;
  std::vector<float> query_;
  std::vector<uint16_t> out_;
};

void BM_Decode(benchmark::State& state) {
  Pool pool(state, 4096, 32, 1);
  size_t sequence = 0;
  for (auto _ : state) pool.Attend(sequence++, 1);
  state.SetBytesProcessed(state.iterations() * pool.kv_bytes());
}

void BM_Prefill(benchmark::State& state) {
  constexpr int64_t kContext = 2048;
  constexpr int64_t kQueries = 256;
  Pool pool(state, kContext, 1, kQueries);
  for (auto _ : state) pool.Attend(0, kQueries);
  const int64_t pairs = kQueries * (kContext - kQueries) + kQueries * (kQueries + 1) / 2;
  state.counters["flops"] = benchmark::Counter(
      static_cast<double>(state.iterations() * pairs * pool.flops_per_query_key()),
      benchmark::Counter::kIsRate);
}

void BM_ReadMemory(benchmark::State& state) {
  const HugeBuffer buffer = *HugeBuffer::Allocate(MiB(256), "bench");
  auto* words = reinterpret_cast<uint64_t*>(buffer.data());
  const size_t count = buffer.size().size() / 8;
  std::fill_n(words, count, 1);
  for (auto _ : state) {
    uint64_t sums[16] = {};
    for (size_t i = 0; i < count; i += 16) {
      for (size_t j = 0; j < 16; ++j) sums[j] += words[i + j];
    }
    uint64_t all = 0;
    for (const uint64_t sum : sums) all += sum;
    SLUICE_CHECK(all == count);
  }
  state.SetBytesProcessed(state.iterations() * buffer.size().value());
}

BENCHMARK(BM_ReadMemory)->Unit(benchmark::kMillisecond);
BENCHMARK(BM_Decode)
    ->ArgsProduct({{64, 128}, {1, 4, 8}, {32}})
    ->Args({128, 4, 16})
    ->Args({128, 4, 256})
    ->Unit(benchmark::kMicrosecond);
BENCHMARK(BM_Prefill)
    ->ArgsProduct({{64, 128}, {1, 4}, {32}})
    ->Args({128, 4, 256})
    ->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace sluice

BENCHMARK_MAIN();
