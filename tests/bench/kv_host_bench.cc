// Copies of KV blocks between the device pool and the host pool of the CPU backend, on one core,
// beside memcpy of the same pieces in the same process.
//
//   kv_host_bench --mib 256 --rounds 7 --json kv_host.json
//
// Pools lie on huge pages and are far larger than the caches; blocks go in random order, a slice of
// 1 MiB of one layer at a time, as the link moves them. For every shape, in turn, median of the
// rounds: memcpy of each piece (a layer of a block), the best copy that streams past the caches
// (no rearranging: what memory can do), StorePage (device to host), LoadPage (host to device), both
// in turn, and the link's thread, unpaced. Rates are of bytes moved (once); "of_memcpy" compares
// seconds of CPU, so neighbours on the core do not count.
#include <time.h>

#include <algorithm>
#include <condition_variable>
#include <cstring>
#include <fstream>
#include <functional>
#include <iostream>
#include <mutex>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "backend/cpu/kv_layout.h"
#include "backend/cpu/link.h"
#include "scheduler/base/check.h"
#include "tests/bench/store_bench.h"

namespace sluice {
namespace {

struct Settings {
  int64_t mib = 256;  // of each pool
  int rounds = 7;
  bool quick = false;
  std::string json;
};

constexpr int64_t kLayers = 4;
constexpr int64_t kSliceBytes = int64_t{1} << 20;

double CpuSeconds(clockid_t clock) {
  timespec time{};
  SLUICE_CHECK(clock_gettime(clock, &time) == 0);
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) * 1e-9;
}

// Copies past the caches, line by line; what comes next is fetched meanwhile.
void StreamBytes(const std::byte* in, size_t bytes, std::byte* out, const std::byte* next) {
  using Vector = int64_t __attribute__((vector_size(16)));
  for (size_t i = 0; i < bytes; i += 64) {
    if (next != nullptr) __builtin_prefetch(next + i, 0, 2);
    const auto* from = reinterpret_cast<const Vector*>(in + i);
    auto* to = reinterpret_cast<Vector*>(out + i);
    for (int j = 0; j < 4; ++j) asm("movntdq %1, %0" : "=m"(to[j]) : "x"(from[j]));
  }
  asm volatile("sfence" ::: "memory");
}

// Both pools, and the order in which blocks are copied.
class Bench {
 public:
  Bench(const KvLayout& layout, int64_t mib)
      : layout_(layout), blocks_((mib << 20) / layout.block_bytes().value()) {
    pools_ = Must(KvPools::Allocate(layout, Blocks(blocks_), Blocks(blocks_)));
    std::mt19937_64 random(1);
    const auto fill = [&](std::byte* data, int64_t bytes) {
      for (int64_t i = 0; i < bytes; i += 8) {
        const uint64_t word = random();
        std::memcpy(data + i, &word, 8);
      }
    };
    fill(pools_.LayerPages(0), blocks_ * layout.page_bytes() * kLayers);
    fill(pools_.HostLayer(0, BlockId(0)), blocks_ * layout.block_bytes().value());
    for (int64_t b = 0; b < blocks_; ++b) {
      pairs_.push_back({BlockId(static_cast<int32_t>(b)), BlockId(static_cast<int32_t>(b))});
    }
    std::shuffle(pairs_.begin(), pairs_.end(), random);
    std::vector<Copy::Pair> targets = pairs_;
    std::shuffle(targets.begin(), targets.end(), random);
    for (size_t i = 0; i < pairs_.size(); ++i) pairs_[i].target = targets[i].target;
  }

  double bytes() const {
    return static_cast<double>(blocks_) * static_cast<double>(layout_.block_bytes().value());
  }

  // Seconds to copy every block. `fn(device, host, next device, next host)` for each piece.
  template <class Fn>
  double Time(const Fn& fn) const {
    const auto slice =
        static_cast<size_t>(std::max<int64_t>(1, kSliceBytes / layout_.host_layer_bytes()));
    const double start = CpuSeconds(CLOCK_THREAD_CPUTIME_ID);
    for (int64_t layer = 0; layer < kLayers; ++layer) {
      for (size_t i = 0; i < pairs_.size(); ++i) {
        const bool last = i + 1 == pairs_.size() || (i + 1) % slice == 0;
        const Copy::Pair& next = pairs_[last ? i : i + 1];
        fn(pools_.Page(layer, pairs_[i].source), pools_.HostLayer(layer, pairs_[i].target),
           last ? nullptr : pools_.Page(layer, next.source),
           last ? nullptr : pools_.HostLayer(layer, next.target), i);
      }
    }
    return CpuSeconds(CLOCK_THREAD_CPUTIME_ID) - start;
  }

  double Memcpy() const {
    const auto piece = static_cast<size_t>(layout_.host_layer_bytes());
    return Time([&](std::byte* page, std::byte* host, const std::byte*, const std::byte*, size_t) {
      std::memcpy(host, page, piece);
    });
  }
  double Streaming() const {
    const auto piece = static_cast<size_t>(layout_.host_layer_bytes());
    return Time([&](std::byte* page, std::byte* host, const std::byte* next, const std::byte*,
                    size_t) { StreamBytes(page, piece, host, next); });
  }
  double Store() const {
    return Time([&](std::byte* page, std::byte* host, const std::byte* next, const std::byte*,
                    size_t) { StorePage(layout_, page, host, {.stream = true, .next = next}); });
  }
  double Load() const {
    return Time([&](std::byte* page, std::byte* host, const std::byte*, const std::byte* next,
                    size_t) { LoadPage(layout_, host, page, {.stream = true, .next = next}); });
  }
  // Slice by slice in turn.
  double Both() const {
    const auto slice =
        static_cast<size_t>(std::max<int64_t>(1, kSliceBytes / layout_.host_layer_bytes()));
    return Time([&](std::byte* page, std::byte* host, const std::byte* next_page,
                    const std::byte* next_host, size_t i) {
      if (i / slice % 2 == 0) {
        StorePage(layout_, page, host, {.stream = true, .next = next_page});
      } else {
        LoadPage(layout_, host, page, {.stream = true, .next = next_host});
      }
    });
  }

  // One copy of every block through the link: CPU seconds of its thread (this one sleeps).
  double ThroughLink(LinkDirection direction) const {
    ActivityMeter meter(absl::Now());
    Link link(pools_, {}, meter);
    std::mutex mu;
    std::condition_variable done;
    bool called = false;
    link.SetListener([&] {
      const std::lock_guard<std::mutex> lock(mu);
      called = true;
      done.notify_all();
    });
    Copy copy;
    copy.id = CopyId(1);
    copy.direction = direction;
    copy.blocks = pairs_;
    if (direction == LinkDirection::kHostToDevice) {
      for (Copy::Pair& pair : copy.blocks) std::swap(pair.source, pair.target);
    }
    const double start = CpuSeconds(CLOCK_PROCESS_CPUTIME_ID);
    link.Start({&copy, 1});
    std::unique_lock<std::mutex> lock(mu);
    done.wait(lock, [&] { return called; });
    const double took = CpuSeconds(CLOCK_PROCESS_CPUTIME_ID) - start;
    const std::vector<CopyResult> results = link.TakeFinished();
    SLUICE_CHECK(results.size() == 1 && results[0].status.ok());
    return took;
  }

 private:
  const KvLayout layout_;
  const int64_t blocks_;
  KvPools pools_;
  std::vector<Copy::Pair> pairs_;  // device to host
};

nlohmann::ordered_json MeasureShape(const Settings& settings, const KvLayout& layout) {
  const Bench bench(layout, settings.mib);
  const std::vector<std::pair<std::string, std::function<double()>>> kinds = {
      {"memcpy", [&] { return bench.Memcpy(); }},
      {"streaming", [&] { return bench.Streaming(); }},
      {"d2h", [&] { return bench.Store(); }},
      {"h2d", [&] { return bench.Load(); }},
      {"both", [&] { return bench.Both(); }},
      {"link_d2h", [&] { return bench.ThroughLink(LinkDirection::kDeviceToHost); }},
      {"link_h2d", [&] { return bench.ThroughLink(LinkDirection::kHostToDevice); }},
  };
  std::vector<std::vector<double>> seconds(kinds.size());
  for (const auto& kind : kinds) kind.second();  // pages and clocks are warm then
  for (int i = 0; i < settings.rounds; ++i) {
    for (size_t k = 0; k < kinds.size(); ++k) seconds[k].push_back(kinds[k].second());
  }
  const bool narrow = layout.element == Element::kBF16;
  nlohmann::ordered_json row = {{"element", narrow ? "bf16" : "f32"},
                                {"kv_heads", layout.kv_heads},
                                {"head_dim", layout.head_dim},
                                {"block_tokens", layout.page_tokens},
                                {"piece_bytes", layout.host_layer_bytes()}};
  std::string line =
      absl::StrFormat("%4s %d x %3d, %2d tokens %7d B", narrow ? "bf16" : "f32", layout.kv_heads,
                      layout.head_dim, layout.page_tokens, layout.host_layer_bytes());
  const double memcpy_seconds = Median(seconds[0]);
  for (size_t k = 0; k < kinds.size(); ++k) {
    const double took = Median(seconds[k]);
    row[kinds[k].first] = {{"gbps", 1e-9 * bench.bytes() / took},
                           {"of_memcpy", memcpy_seconds / took}};
    if (k == 0) {
      absl::StrAppendFormat(&line, "  %s %5.1f GB/s", kinds[k].first, 1e-9 * bench.bytes() / took);
    } else {
      absl::StrAppendFormat(&line, "  %s %.2f", kinds[k].first, memcpy_seconds / took);
    }
  }
  std::cout << line << std::endl;
  return row;
}

int Main(int argc, char** argv) {
  Settings settings;
  CLI::App app("Measures copies between the pools of the CPU backend against memcpy.");
  app.add_option("--mib", settings.mib, "size of each pool in MiB");
  app.add_option("--rounds", settings.rounds, "measurements of each kind");
  app.add_flag("--quick", settings.quick, "only bf16, blocks of 32 tokens");
  app.add_option("--json", settings.json, "write the figures here");
  CLI11_PARSE(app, argc, argv);
  nlohmann::ordered_json result;
  for (const Element element : {Element::kBF16, Element::kF32}) {
    for (const int64_t heads : {2, 8}) {
      for (const int64_t dim : {64, 128}) {
        for (const int64_t tokens : {16, 32, 64}) {
          if (settings.quick && (element == Element::kF32 || tokens != 32)) continue;
          result["shapes"].push_back(
              MeasureShape(settings, {element, kLayers, heads, dim, tokens}));
        }
      }
    }
  }
  if (!settings.json.empty()) std::ofstream(settings.json) << result.dump(2) << '\n';
  return 0;
}

}  // namespace
}  // namespace sluice

int main(int argc, char** argv) { return sluice::Main(argc, argv); }
