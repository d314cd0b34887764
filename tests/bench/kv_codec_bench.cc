// KV codecs and checksums on one core, beside memcpy in the same process. Data lies in pools far
// larger than the caches. "bytes_per_second" of a codec counts what it reads and what it writes, as
// memcpy's does; "of_memcpy" is the ratio to a memcpy measured right before it.
//
//   Encode/kind/head_dim          8 kv heads, blocks of 32 tokens, bf16
//   Decode/kind/head_dim          into a pool, past the caches (a disk tier's blocks to the host)
//   DecodeCached/kind/head_dim    into a pool through the caches
//   DecodeScratch/kind/head_dim   from the pool into one slice that stays in the second-level cache
//                                 (the host's blocks on their way to the device)
//   Memcpy  Xxh3  Crc32c
#include <time.h>

#include <cstring>
#include <random>
#include <vector>

#include "absl/strings/str_cat.h"
#include "backend/cpu/huge_buffer.h"
#include "backend/kv/checksum.h"
#include "backend/kv/kv_codec.h"
#include "benchmark/benchmark.h"
#include "scheduler/base/check.h"

namespace sluice {
namespace {

constexpr int64_t kPool = int64_t{512} << 20;

// Of this thread: neighbours on the core do not count.
double CpuSeconds() {
  timespec time{};
  SLUICE_CHECK(clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time) == 0);
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) * 1e-9;
}

// A pool of slices of random bf16 numbers, and room for as many encoded ones.
struct Pools {
  static Pools& Get() {
    static Pools pools;
    return pools;
  }

  Pools()
      : plain(*HugeBuffer::Allocate(Bytes(kPool), "bench")),
        other(*HugeBuffer::Allocate(Bytes(kPool), "bench")) {
    std::mt19937_64 random(1);
    auto* numbers = reinterpret_cast<uint16_t*>(plain.data());
    for (int64_t i = 0; i < kPool / 2; ++i) {
      const float x = static_cast<float>(random() % 4096) / 1024.0F - 2.0F;
      uint32_t bits = 0;
      std::memcpy(&bits, &x, 4);
      numbers[i] = static_cast<uint16_t>(bits >> 16);
    }
    std::memset(other.data(), 1, other.size().size());
  }

  // The first slice.
  std::span<std::byte> FirstSlice(size_t size) const { return {plain.data(), size}; }

  HugeBuffer plain;
  HugeBuffer other;
};

// Copies the pool once, a slice at a time. Returns bytes read and written per second.
double MemcpyRate(size_t slice) {
  Pools& pools = Pools::Get();
  const size_t half = static_cast<size_t>(kPool) / 2;
  const double start = CpuSeconds();
  for (size_t at = 0; at + slice <= half; at += slice) {
    std::memcpy(pools.other.data() + at, pools.plain.data() + at, slice);
  }
  benchmark::DoNotOptimize(pools.other.data());
  return 2 * static_cast<double>(half) / (CpuSeconds() - start);
}

KvCodec MakeCodec(const benchmark::State& state) {
  const KvShape shape{1, 32, 8, state.range(1), KvElement::kBF16};
  return *KvCodec::Create(shape, {static_cast<KvCodecKind>(state.range(0))});
}

// One iteration: the whole pool. `fn(plain, encoded)` for every slice.
template <class Fn>
void RunCodec(benchmark::State& state, const Fn& fn) {
  const KvCodec codec = MakeCodec(state);
  Pools& pools = Pools::Get();
  const size_t plain = codec.shape().slice_bytes().size();
  const size_t encoded = codec.encoded_slice_bytes().size();
  const size_t count = static_cast<size_t>(kPool) / plain / 2;
  double seconds = 0;
  double copy_rate = 0;
  for (auto _ : state) {
    const double copied = MemcpyRate(plain);
    const double start = CpuSeconds();
    for (size_t i = 0; i < count; ++i) {
      fn(codec, std::span(pools.plain.data() + i * plain, plain),
         std::span(pools.other.data() + i * encoded, encoded));
    }
    const double took = (CpuSeconds() - start);
    state.SetIterationTime(took);
    seconds += took;
    copy_rate += copied;
  }
  const auto runs = static_cast<double>(state.iterations());
  const double moved = runs * static_cast<double>(count * (plain + encoded));
  state.SetLabel(codec.name());
  state.SetBytesProcessed(static_cast<int64_t>(moved));
  state.counters["plain_GBps"] = runs * static_cast<double>(count * plain) / seconds / 1e9;
  state.counters["of_memcpy"] = moved / seconds / (copy_rate / runs);
}

void BM_Encode(benchmark::State& state) {
  RunCodec(state, [](const KvCodec& codec, std::span<std::byte> plain, std::span<std::byte> out) {
    SLUICE_CHECK(codec.EncodeLayer(plain, out).ok());
  });
}

enum class Target { kStreamed, kCached, kScratch };

void RunDecode(benchmark::State& state, Target target) {
  const KvCodec codec = MakeCodec(state);
  Pools& pools = Pools::Get();
  const size_t plain = codec.shape().slice_bytes().size();
  const size_t encoded = codec.encoded_slice_bytes().size();
  for (size_t i = 0; i < static_cast<size_t>(kPool) / plain / 2; ++i) {
    SLUICE_CHECK(codec
                     .EncodeLayer(std::span(pools.plain.data() + i * plain, plain),
                                  std::span(pools.other.data() + i * encoded, encoded))
                     .ok());
  }
  std::vector<std::byte> saved(pools.plain.data(), pools.plain.data() + kPool);
  // The copies between would overwrite what is to be decoded: from the encoded pool's other half.
  const size_t half = static_cast<size_t>(kPool) / 2;
  SLUICE_CHECK(static_cast<size_t>(kPool) / plain / 2 * encoded <= half);
  std::memcpy(pools.other.data() + half, pools.other.data(), half);
  RunCodec(state, [&](const KvCodec& c, std::span<std::byte> out, std::span<std::byte> in) {
    if (target == Target::kScratch) out = pools.FirstSlice(out.size());
    c.DecodeLayer(std::span(in.data() + half, in.size()), out, target == Target::kStreamed);
  });
  std::memcpy(pools.plain.data(), saved.data(), saved.size());
}

void BM_Decode(benchmark::State& state) { RunDecode(state, Target::kStreamed); }
void BM_DecodeCached(benchmark::State& state) { RunDecode(state, Target::kCached); }
void BM_DecodeScratch(benchmark::State& state) { RunDecode(state, Target::kScratch); }

void BM_Memcpy(benchmark::State& state) {
  double rate = 0;
  for (auto _ : state) rate += MemcpyRate(1 << 20);
  state.counters["GBps"] = rate / static_cast<double>(state.iterations()) / 1e9;
}

uint32_t Crc32cHardware(const std::byte* data, size_t size) {
  // Three independent streams hide the instruction's latency; how they would be combined costs
  // nothing that shows here.
  uint64_t a = 0;
  uint64_t b = 0;
  uint64_t c = 0;
  const size_t third = size / 3 / 8 * 8;
  for (size_t i = 0; i < third; i += 8) {
    uint64_t x = 0;
    uint64_t y = 0;
    uint64_t z = 0;
    std::memcpy(&x, data + i, 8);
    std::memcpy(&y, data + third + i, 8);
    std::memcpy(&z, data + 2 * third + i, 8);
    asm("crc32q %1, %0" : "+r"(a) : "r"(x));
    asm("crc32q %1, %0" : "+r"(b) : "r"(y));
    asm("crc32q %1, %0" : "+r"(c) : "r"(z));
  }
  return static_cast<uint32_t>(a ^ b ^ c);
}

// Bytes per second of checksums over slices of range(0) bytes.
template <class Fn>
void RunChecksum(benchmark::State& state, const Fn& fn) {
  Pools& pools = Pools::Get();
  const auto slice = static_cast<size_t>(state.range(0));
  // range(1): bytes to go over, in a cache or far beyond.
  const auto total = static_cast<size_t>(state.range(1));
  uint64_t sum = 0;
  for (auto _ : state) {
    for (size_t at = 0; at + slice <= total; at += slice) sum += fn(pools.plain.data() + at, slice);
  }
  benchmark::DoNotOptimize(sum);
  state.SetBytesProcessed(state.iterations() * static_cast<int64_t>(total / slice * slice));
}

void BM_Xxh3(benchmark::State& state) {
  RunChecksum(state, [](const std::byte* data, size_t size) { return KvChecksum({data, size}); });
}
void BM_Crc32c(benchmark::State& state) { RunChecksum(state, Crc32cHardware); }

BENCHMARK(BM_Memcpy)->Unit(benchmark::kMillisecond);
BENCHMARK(BM_Encode)
    ->ArgsProduct({{1, 2, 3}, {64, 80, 128}})
    ->UseManualTime()
    ->MinTime(1)
    ->Unit(benchmark::kMillisecond);
BENCHMARK(BM_Decode)
    ->ArgsProduct({{1, 2, 3}, {64, 80, 128}})
    ->UseManualTime()
    ->MinTime(1)
    ->Unit(benchmark::kMillisecond);
BENCHMARK(BM_DecodeCached)
    ->ArgsProduct({{1, 2, 3}, {64, 80, 128}})
    ->UseManualTime()
    ->MinTime(1)
    ->Unit(benchmark::kMillisecond);
BENCHMARK(BM_DecodeScratch)
    ->ArgsProduct({{1, 2, 3}, {64, 80, 128}})
    ->UseManualTime()
    ->MinTime(1)
    ->Unit(benchmark::kMillisecond);
BENCHMARK(BM_Xxh3)->ArgsProduct({{131072}, {1 << 18, kPool}})->Unit(benchmark::kMillisecond);
BENCHMARK(BM_Crc32c)->ArgsProduct({{131072}, {1 << 18, kPool}})->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace sluice

BENCHMARK_MAIN();
