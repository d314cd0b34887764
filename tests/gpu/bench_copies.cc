#include "tests/gpu/bench_copies.h"

#include <algorithm>
#include <numeric>

#include "backend/cuda/kernels/kv_transfer.h"

namespace sluice::cuda {
namespace {

using Where = BenchMemory::Where;

std::string SizeText(size_t bytes) {
  if (bytes >= size_t{1} << 20) return std::to_string(bytes >> 20) + " MiB";
  return std::to_string(bytes >> 10) + " KiB";
}

void Copy(void* to, const void* from, size_t bytes, const BenchStream& stream) {
  Must(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDefault, stream.get()), "copy");
}

BenchRow CopyRow(const std::string& name, size_t bytes, double seconds) {
  BenchRow row;
  row.section = "copy";
  row.name = name + ", " + SizeText(bytes);
  row.seconds = seconds;
  row.bytes = static_cast<double>(bytes);
  return row;
}

// Both directions at once; the stream that is timed waits for the other.
double TimeBoth(void* device, void* host, size_t bytes, int rounds) {
  const BenchStream there;
  const BenchStream back;
  cudaEvent_t begin = nullptr;
  cudaEvent_t done = nullptr;
  Must(cudaEventCreateWithFlags(&begin, cudaEventDisableTiming), "create an event");
  Must(cudaEventCreateWithFlags(&done, cudaEventDisableTiming), "create an event");
  auto* const d = static_cast<char*>(device);
  auto* const h = static_cast<char*>(host);
  const double seconds = TimeOf(there, rounds, [&] {
    Must(cudaEventRecord(begin, there.get()), "record an event");
    Must(cudaStreamWaitEvent(back.get(), begin), "wait for an event");
    Copy(d, h, bytes, there);
    Copy(h + bytes, d + bytes, bytes, back);
    Must(cudaEventRecord(done, back.get()), "record an event");
    Must(cudaStreamWaitEvent(there.get(), done), "wait for an event");
  });
  Must(cudaEventDestroy(begin), "destroy an event");
  Must(cudaEventDestroy(done), "destroy an event");
  return seconds;
}

// `count` pages of `page` bytes between two pools, in a scattered order.
struct Scatter {
  size_t page;
  size_t count;
  std::vector<KvTransferPair> pairs;
};

Scatter MakeScatter(size_t page, size_t total) {
  Scatter s{page, std::max<size_t>(total / page, 1), {}};
  // A step that has no common divisor with the count visits every page once.
  size_t step = s.count / 2 + 1;
  while (std::gcd(step, s.count) != 1) ++step;
  for (size_t i = 0; i < s.count; ++i) {
    s.pairs.push_back({static_cast<int32_t>(i * step % s.count), static_cast<int32_t>(i)});
  }
  return s;
}

KvTransferParams Transfer(const Scatter& s, const BenchArray<KvTransferPair>& pairs, void* from,
                          void* to) {
  KvTransferParams params;
  // Pages of [K, V][tokens][heads][128] halves: 512 bytes per token and head.
  const auto rows = static_cast<int64_t>(s.page / 512);
  const int64_t heads = std::max<int64_t>(rows / 256, 1);
  params.shape = {heads, 128, rows / heads, KvType::kHalf};
  params.pairs = pairs.get();
  params.count = static_cast<int32_t>(s.count);
  const auto stride = static_cast<int64_t>(s.page);
  params.from = MakeKvView(params.shape, from, stride, nullptr);
  params.to = MakeKvView(params.shape, to, stride, nullptr);
  return params;
}

double TimeBatch(const Scatter& s, char* from, char* to, int rounds) {
  const BenchStream stream;
  std::vector<void*> targets;
  std::vector<const void*> sources;
  for (const KvTransferPair& pair : s.pairs) {
    sources.push_back(from + static_cast<size_t>(pair.from) * s.page);
    targets.push_back(to + static_cast<size_t>(pair.to) * s.page);
  }
  const std::vector<size_t> sizes(s.count, s.page);
  cudaMemcpyAttributes attributes{};
  attributes.srcAccessOrder = cudaMemcpySrcAccessOrderStream;
  size_t index = 0;
  return TimeOf(stream, rounds, [&] {
    Must(cudaMemcpyBatchAsync(targets.data(), sources.data(), sizes.data(), s.count, &attributes,
                              &index, 1, stream.get()),
         "batch of copies");
  });
}

double TimeSingles(const Scatter& s, char* from, char* to, int rounds) {
  const BenchStream stream;
  return TimeOf(stream, rounds, [&] {
    for (const KvTransferPair& pair : s.pairs) {
      Copy(to + static_cast<size_t>(pair.to) * s.page,
           from + static_cast<size_t>(pair.from) * s.page, s.page, stream);
    }
  });
}

double TimeGather(const Scatter& s, void* from, void* to, int rounds) {
  const BenchStream stream;
  const BenchArray<KvTransferPair> pairs(s.pairs);
  const KvTransferParams params = Transfer(s, pairs, from, to);
  return TimeOf(stream, rounds,
                [&] { Must(LaunchKvTransfer(params, stream.get()), "gather kernel"); });
}

}  // namespace

std::vector<BenchRow> BenchCopies(bool quick, DeviceLimits* limits) {
  const size_t most = quick ? size_t{1} << 18 : size_t{1} << 28;
  const int rounds = quick ? 1 : 9;
  const BenchMemory host(Where::kPinned, 2 * most);
  const BenchMemory device(Where::kDevice, 2 * most);
  const BenchStream stream;
  std::vector<BenchRow> rows;
  for (size_t bytes = 4 << 10; bytes <= most; bytes *= quick ? 8 : 4) {
    const auto timed = [&](void* to, const void* from) {
      return TimeOf(stream, rounds, [&] { Copy(to, from, bytes, stream); });
    };
    rows.push_back(CopyRow("host to device", bytes, timed(device.data(), host.data())));
    rows.push_back(CopyRow("device to host", bytes, timed(host.data(), device.data())));
  }
  BenchRow both =
      CopyRow("both ways at once", most, TimeBoth(device.data(), host.data(), most, rounds));
  both.bytes *= 2;
  rows.push_back(both);
  BenchRow inside = CopyRow("device to device", most, TimeOf(stream, rounds, [&] {
                              Copy(device.data<char>() + most, device.data(), most, stream);
                            }));
  inside.bytes *= 2;  // read and written
  limits->memory_rate = inside.bytes / inside.seconds;
  rows.push_back(inside);
  return rows;
}

std::vector<BenchRow> BenchCrossover(bool quick) {
  const size_t total = quick ? size_t{1} << 17 : size_t{1} << 26;
  const int rounds = quick ? 1 : 5;
  const BenchMemory host(Where::kPinned, total);
  const BenchMemory device(Where::kDevice, total);
  std::vector<BenchRow> rows;
  for (size_t page = 8 << 10; page <= (quick ? size_t{16} << 10 : size_t{2} << 20); page *= 2) {
    const Scatter s = MakeScatter(page, total);
    auto* const h = host.data<char>();
    auto* const d = device.data<char>();
    const auto add = [&](const std::string& name, double seconds) {
      BenchRow row = CopyRow(name, page, seconds);
      row.section = "crossover";
      row.bytes = static_cast<double>(s.count * page);
      rows.push_back(row);
      return seconds;
    };
    const double singles = add("load by single copies", TimeSingles(s, h, d, rounds));
    const double batch = add("load by one batch", TimeBatch(s, h, d, rounds));
    const double gather = add("load by gather kernel", TimeGather(s, h, d, rounds));
    // Above 1: the kernel wins.
    rows.back().ratio = std::min(singles, batch) / gather;
    rows.back().limit = "of the copy engine's speed";
    add("store by one batch", TimeBatch(s, d, h, rounds));
    add("store by scatter kernel", TimeGather(s, d, h, rounds));
  }
  return rows;
}

}  // namespace sluice::cuda
