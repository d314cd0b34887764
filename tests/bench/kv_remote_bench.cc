// How fast the remote tier is, against a bare hiredis loop to the same Redis with values of the
// same size, in one run:
//
//   bare   redisAppendCommandArgv() of SET and GET, so many ahead, and redisGetReply(); the best of
//          several depths. Of what it loads nothing is kept: every value is freed as it comes
//   kept   the same, and each value is copied to where the tier puts it
//   tier   blocks through DiskLink and RemoteStore: sealed, asked for, written; read, checked, put
//          into host memory
//
// All move the same bytes in turns, several times; every round writes to an empty store. A ratio is
// that of one round, the tier's rate to that of the best bare loop; median and least are printed,
// and "best", that of the best rounds of both, which says most on a machine that others use.
// One connection each; over a unix socket, TCP, and TLS where ports are given. hiredis 0.14 has no
// TLS: the bare loop beside the tier with TLS is that over TCP.
//
// Then: what a look-up of a prompt costs, and what the hashes of its blocks cost.
//
//   kv_remote_bench --socket PATH [--tcp-port N] [--tls-port N --tls-ca FILE] [--mib 256]
//                   [--rounds 7] [--kib 64,256,1024,4096] [--json FILE]
//
// PATH: of a redis-server for this alone, and the ports of the same; everything in it is deleted.
#include <hiredis/hiredis.h>
#include <sys/mman.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <condition_variable>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <iostream>
#include <mutex>
#include <nlohmann/json.hpp>
#include <random>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "backend/kv/disk_link.h"
#include "backend/kv/file_buffer.h"
#include "backend/kv/remote_store.h"
#include "backend/kv/strong_hash.h"
#include "scheduler/base/check.h"
#include "tests/bench/store_bench.h"

namespace sluice {
namespace {

struct Settings {
  std::string socket;
  int tcp_port = 0;  // 0: none
  int tls_port = 0;
  std::string tls_ca;
  int64_t mib = 256;
  int rounds = 7;
  std::vector<int64_t> kib = {64, 256, 1024, 4096};
  std::string json;
};

enum class Way : uint8_t { kSocket, kTcp, kTls };

const char* NameOf(Way way) {
  return way == Way::kSocket ? "unix" : way == Way::kTcp ? "tcp" : "tls";
}

// hiredis as everybody uses it.
class Bare {
 public:
  Bare(const Settings& settings, Way way)
      : redis_(way == Way::kSocket ? redisConnectUnix(settings.socket.c_str())
                                   : redisConnect("127.0.0.1", settings.tcp_port)) {
    SLUICE_CHECK(redis_ != nullptr && redis_->err == 0);
  }
  ~Bare() { redisFree(redis_); }
  Bare(const Bare&) = delete;
  Bare& operator=(const Bare&) = delete;

  void Clear() {
    Append({"FLUSHALL"});
    Take(0, nullptr);
  }

  // Returns seconds. `keep`: what is loaded is copied to `memory`.
  double Move(bool write, bool keep, std::byte* memory, size_t size, size_t count, size_t depth) {
    const absl::Time start = absl::Now();
    size_t asked = 0;
    for (size_t i = 0; i < count; ++i) {
      for (; asked < std::min(count, i + depth); ++asked) {
        const std::string key = absl::StrCat("bare:", asked);
        const std::string_view value(reinterpret_cast<const char*>(memory) + asked * size, size);
        if (write) {
          Append({"SET", key, value});
        } else {
          Append({"GET", key});
        }
      }
      Take(write ? 0 : size, keep ? memory + i * size : nullptr);
    }
    return absl::ToDoubleSeconds(absl::Now() - start);
  }

 private:
  void Append(const std::vector<std::string_view>& words) {
    std::vector<const char*> texts;
    std::vector<size_t> sizes;
    for (const std::string_view word : words) {
      texts.push_back(word.data());
      sizes.push_back(word.size());
    }
    SLUICE_CHECK(redisAppendCommandArgv(redis_, static_cast<int>(words.size()), texts.data(),
                                        sizes.data()) == REDIS_OK);
  }
  void Take(size_t size, std::byte* keep) {
    void* reply = nullptr;
    SLUICE_CHECK(redisGetReply(redis_, &reply) == REDIS_OK);
    const auto* const answer = static_cast<const redisReply*>(reply);
    SLUICE_CHECK(answer->type != REDIS_REPLY_ERROR && (size == 0 || answer->len == size));
    if (keep != nullptr) std::memcpy(keep, answer->str, size);
    freeReplyObject(reply);
  }

  redisContext* const redis_;
};

std::string UrlOf(const Settings& settings, Way way) {
  if (way == Way::kSocket) return "unix:" + settings.socket;
  if (way == Way::kTcp) return absl::StrCat("redis://127.0.0.1:", settings.tcp_port);
  return absl::StrCat("rediss://127.0.0.1:", settings.tls_port);
}

std::unique_ptr<RemoteStore> OpenStore(const Settings& settings, Way way, const StoreShape& shape,
                                       size_t slots) {
  RemoteStoreOptions options;
  options.space.model = "benchmark";
  options.space.dtype = "bf16";
  options.space.shape = shape;
  options.limit =
      Bytes(static_cast<int64_t>(slots * RemoteValueFormat(options.space).value_bytes()));
  options.pool.address = Must(RemoteAddress::Parse(UrlOf(settings, way)));
  options.pool.tls.ca_file = settings.tls_ca;
  options.pool.timeout = absl::Seconds(10);
  options.pool.clock = absl::Now;
  auto store = Must(RemoteStore::Create(std::move(options)));
  Must(store->pool().Start());
  return store;
}

// The same through the remote tier.
class Tier {
 public:
  Tier(const Settings& settings, Way way, std::byte* memory, const StoreShape& shape, size_t count)
      : count_(count),
        names_(count, shape.tokens_per_block.size(), 1, &StrongBlockHash),
        meter_(absl::Now()),
        store_(OpenStore(settings, way, shape, count)) {
    DiskLinkOptions options;
    options.host = [memory, bytes = shape.payload.size()](BlockId block) {
      return std::span(memory + block.index() * bytes, bytes);
    };
    options.host_blocks = Blocks(static_cast<int64_t>(count));
    options.log = [](const std::string& text) { std::cerr << text << std::endl; };
    options.clock = absl::Now;
    link_ = std::make_unique<DiskLink>(*store_, std::move(options), meter_);
    link_->SetListener([this] {
      std::lock_guard<std::mutex> lock(mu_);
      ready_.notify_all();
    });
  }

  size_t value_bytes() const { return store_->value_bytes().size(); }

  double Move(bool write) {
    Copy copy;
    copy.id = CopyId(next_++);
    copy.direction = write ? LinkDirection::kHostToDisk : LinkDirection::kDiskToHost;
    copy.identities = names_.identities;
    if (write) copy.tokens = names_.tokens;
    for (size_t i = 0; i < count_; ++i) {
      const BlockId block(static_cast<int32_t>(i));
      copy.blocks.push_back({block, block});
    }
    const absl::Time start = absl::Now();
    link_->Start(std::vector{copy});
    std::unique_lock<std::mutex> lock(mu_);
    std::vector<CopyResult> results;
    ready_.wait(lock, [&] { return !(results = link_->TakeFinished()).empty(); });
    Must(results[0].status);
    return absl::ToDoubleSeconds(absl::Now() - start);
  }

  // Of one prompt of all blocks, all there.
  double Find() {
    const absl::Time start = absl::Now();
    SLUICE_CHECK(Must(store_->Find(names_.identities)) == count_);
    return absl::ToDoubleSeconds(absl::Now() - start);
  }

 private:
  const size_t count_;
  const Names names_;
  ActivityMeter meter_;
  const std::unique_ptr<RemoteStore> store_;
  std::mutex mu_;
  std::condition_variable ready_;
  std::unique_ptr<DiskLink> link_;
  int64_t next_ = 0;
};

constexpr std::array<size_t, 3> kDepths = {1, 4, 16};

// Seconds of each round.
using Rounds = std::vector<double>;
struct Times {
  std::array<Rounds, kDepths.size()> bare;
  std::array<Rounds, kDepths.size()> kept;
  Rounds tier;
};

double Least(const Rounds& rounds) { return *std::min_element(rounds.begin(), rounds.end()); }

double Least(const std::array<Rounds, kDepths.size()>& all) {
  double least = Least(all[0]);
  for (const Rounds& rounds : all) least = std::min(least, Least(rounds));
  return least;
}

// Those of the best depth.
const Rounds& BestOf(const std::array<Rounds, kDepths.size()>& all) {
  return *std::min_element(all.begin(), all.end(),
                           [](const Rounds& a, const Rounds& b) { return Median(a) < Median(b); });
}

// How many times as fast `tier` was, round by round.
Rounds Ratios(const Rounds& bare, const Rounds& tier) {
  Rounds ratios;
  for (size_t i = 0; i < bare.size(); ++i) ratios.push_back(bare[i] / tier[i]);
  return ratios;
}

nlohmann::ordered_json Report(const char* name, int64_t block, double bytes, const Times& times) {
  const auto rate = [bytes](const Rounds& seconds) { return 1e-9 * bytes / Median(seconds); };
  const Rounds& bare = BestOf(times.bare);
  const Rounds ratios = Ratios(bare, times.tier);
  const double least = *std::min_element(ratios.begin(), ratios.end());
  const double best = Least(times.bare) / Least(times.tier);
  nlohmann::ordered_json result = {{"bare_gbps", rate(bare)},
                                   {"tier_gbps", rate(times.tier)},
                                   {"ratio", Median(ratios)},
                                   {"ratio_least", least},
                                   {"ratio_best", best}};
  absl::PrintF(
      "%8.0f KiB  %-5s  bare %6.2f GB/s  tier %6.2f GB/s  ratio %.2f, least %.2f, best %.2f",
      static_cast<double>(block) / 1024, name, rate(bare), rate(times.tier), Median(ratios), least,
      best);
  if (!times.kept[0].empty()) {
    const Rounds& kept = BestOf(times.kept);
    const double of_kept = Least(times.kept) / Least(times.tier);
    result["kept_gbps"] = rate(kept);
    result["ratio_of_kept_best"] = of_kept;
    absl::PrintF("  kept %6.2f GB/s, best %.2f", rate(kept), of_kept);
  }
  absl::PrintF("\n");
  return result;
}

class Comparison {
 public:
  Comparison(const Settings& settings, Way way, int64_t block)
      : settings_(settings),
        block_(block),
        count_(static_cast<size_t>((settings.mib << 20) / block)),
        // Values of the tier are a little larger: the bare loop moves as much.
        memory_(MakeFileBuffer(static_cast<int64_t>(count_) * (block + 4096))),
        bare_(settings, way),
        tier_(settings, way, memory_.get(), StoreShape{Blocks(0), Bytes(block), 16, Tokens(32)},
              count_) {
    // Huge pages where they are to be had, as in the host pool.
    (void)madvise(memory_.get(), count_ * static_cast<size_t>(block + 4096), MADV_HUGEPAGE);
    std::mt19937_64 random(7);
    for (size_t i = 0; i < count_ * static_cast<size_t>(block + 4096); i += sizeof(uint64_t)) {
      const uint64_t word = random();
      std::memcpy(memory_.get() + i, &word, sizeof(word));
    }
  }

  nlohmann::ordered_json Measure() {
    for (int round = 0; round <= settings_.rounds; ++round) Round(/*counts=*/round > 0);
    const double bytes = static_cast<double>(count_) * static_cast<double>(block_);
    nlohmann::ordered_json result;
    result["block_bytes"] = block_;
    result["blocks"] = count_;
    result["store"] = Report("store", block_, bytes, store_);
    result["load"] = Report("load", block_, bytes, load_);
    result["find_us_per_block"] = 1e6 * tier_.Find() / static_cast<double>(count_);
    std::fflush(stdout);
    bare_.Clear();
    return result;
  }

 private:
  double Loop(bool write, bool keep, size_t depth) {
    return bare_.Move(write, keep, memory_.get(), tier_.value_bytes(), count_, depth);
  }

  // The first one warms up and does not count.
  void Round(bool counts) {
    for (size_t d = 0; d < kDepths.size(); ++d) {
      bare_.Clear();
      const double store = Loop(/*write=*/true, /*keep=*/false, kDepths[d]);
      const double load = Loop(/*write=*/false, /*keep=*/false, kDepths[d]);
      const double kept = Loop(/*write=*/false, /*keep=*/true, kDepths[d]);
      if (!counts) continue;
      store_.bare[d].push_back(store);
      load_.bare[d].push_back(load);
      load_.kept[d].push_back(kept);
    }
    bare_.Clear();
    const double store = tier_.Move(/*write=*/true);
    const double load = tier_.Move(/*write=*/false);
    if (!counts) return;
    store_.tier.push_back(store);
    load_.tier.push_back(load);
  }

  const Settings& settings_;
  const int64_t block_;
  const size_t count_;
  const FileBuffer memory_;
  Bare bare_;
  Tier tier_;
  Times store_;
  Times load_;
};

nlohmann::ordered_json MeasureHashes() {
  constexpr size_t kBlocks = 20000;
  nlohmann::ordered_json result;
  std::vector<TokenId> tokens(32, 7);
  for (const bool strong : {false, true}) {
    Hash128 hash;
    const absl::Time start = absl::Now();
    for (size_t i = 0; i < kBlocks; ++i) {
      hash = strong ? StrongBlockHash(hash, tokens) : BlockHash(hash, tokens);
    }
    const double each = absl::ToDoubleNanoseconds(absl::Now() - start) / kBlocks;
    SLUICE_CHECK(hash != Hash128());
    result[strong ? "sha256_ns" : "xxh3_ns"] = each;
    absl::PrintF("hash of a block of 32 tokens, %s: %.0f ns\n", strong ? "SHA-256" : "XXH3", each);
  }
  return result;
}

int Main(int argc, char** argv) {
  Settings settings;
  CLI::App app("Measures the remote tier against a bare hiredis loop.");
  app.add_option("--socket", settings.socket, "of a redis-server whose content is deleted")
      ->required();
  app.add_option("--tcp-port", settings.tcp_port, "of the same server");
  app.add_option("--tls-port", settings.tls_port, "of the same server; needs --tcp-port");
  app.add_option("--tls-ca", settings.tls_ca, "authority of its certificate");
  app.add_option("--kib", settings.kib, "sizes of blocks")->delimiter(',');
  app.add_option("--mib", settings.mib, "bytes moved per measurement, in MiB");
  app.add_option("--rounds", settings.rounds, "measurements of each kind");
  app.add_option("--json", settings.json, "write the figures here");
  CLI11_PARSE(app, argc, argv);
  nlohmann::ordered_json result;
  std::vector<Way> ways = {Way::kSocket};
  if (settings.tcp_port > 0) ways.push_back(Way::kTcp);
  if (settings.tls_port > 0) ways.push_back(Way::kTls);
  for (const Way way : ways) {
    absl::PrintF("%s\n", NameOf(way));
    for (const int64_t kib : settings.kib) {
      result[NameOf(way)].push_back(Comparison(settings, way, kib << 10).Measure());
    }
  }
  result["hash"] = MeasureHashes();
  if (!settings.json.empty()) std::ofstream(settings.json) << result.dump(2) << '\n';
  return 0;
}

}  // namespace
}  // namespace sluice

int main(int argc, char** argv) { return sluice::Main(argc, argv); }
