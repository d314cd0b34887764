// How fast the remote tier is, against a bare hiredis loop to the same Redis with values of the
// same size, in one run:
//
//   bare   redisAppendCommandArgv() of SET and GET, so many ahead, and redisGetReply(); the best of
//          several depths
//   tier   blocks through DiskLink and RemoteStore: sealed, asked for, written; read, checked, put
//          into host memory
//
// Both move the same bytes in turns, several times; every round writes to an empty store. The ratio
// is that of the medians.
//
// Then: what a look-up of a prompt costs, and what the hashes of its blocks cost.
//
//   kv_remote_bench --socket PATH [--mib 256] [--rounds 5] [--json FILE]
//
// PATH: of a redis-server for this alone; everything in it is deleted.
#include <hiredis/hiredis.h>

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
  int64_t mib = 256;
  int rounds = 5;
  std::string json;
};

// hiredis as everybody uses it.
class Bare {
 public:
  explicit Bare(const Settings& settings) : redis_(redisConnectUnix(settings.socket.c_str())) {
    SLUICE_CHECK(redis_ != nullptr && redis_->err == 0);
  }
  ~Bare() { redisFree(redis_); }
  Bare(const Bare&) = delete;
  Bare& operator=(const Bare&) = delete;

  void Clear() {
    Append({"FLUSHALL"});
    Take(0);
  }

  // Returns seconds.
  double Move(bool write, const std::byte* memory, size_t size, size_t count, size_t depth) {
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
      Take(write ? 0 : size);
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
  void Take(size_t size) {
    void* reply = nullptr;
    SLUICE_CHECK(redisGetReply(redis_, &reply) == REDIS_OK);
    const auto* const answer = static_cast<const redisReply*>(reply);
    SLUICE_CHECK(answer->type != REDIS_REPLY_ERROR && (size == 0 || answer->len == size));
    freeReplyObject(reply);
  }

  redisContext* const redis_;
};

std::unique_ptr<RemoteStore> OpenStore(const Settings& settings, const StoreShape& shape,
                                       size_t slots) {
  RemoteStoreOptions options;
  options.space.model = "benchmark";
  options.space.dtype = "bf16";
  options.space.shape = shape;
  options.limit =
      Bytes(static_cast<int64_t>(slots * RemoteValueFormat(options.space).value_bytes()));
  options.pool.address = Must(RemoteAddress::Parse("unix:" + settings.socket));
  options.pool.timeout = absl::Seconds(10);
  options.pool.clock = absl::Now;
  auto store = Must(RemoteStore::Create(std::move(options)));
  Must(store->pool().Start());
  return store;
}

// The same through the remote tier.
class Tier {
 public:
  Tier(const Settings& settings, std::byte* memory, const StoreShape& shape, size_t count)
      : count_(count),
        names_(count, shape.tokens_per_block.size(), 1, &StrongBlockHash),
        meter_(absl::Now()),
        store_(OpenStore(settings, shape, count)) {
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

nlohmann::ordered_json MeasureBlocks(const Settings& settings, int64_t block) {
  constexpr std::array<size_t, 3> kDepths = {1, 4, 16};
  const StoreShape shape{Blocks(0), Bytes(block), 16, Tokens(32)};
  const auto count = static_cast<size_t>((settings.mib << 20) / block);
  // Values of the tier are a little larger: the bare loop moves as much.
  const FileBuffer memory = MakeFileBuffer(static_cast<int64_t>(count) * (block + 4096));
  std::mt19937_64 random(7);
  for (size_t i = 0; i < count * static_cast<size_t>(block + 4096); i += sizeof(uint64_t)) {
    const uint64_t word = random();
    std::memcpy(memory.get() + i, &word, sizeof(word));
  }
  Bare bare(settings);
  Tier tier(settings, memory.get(), shape, count);
  std::array<std::array<std::vector<double>, kDepths.size()>, 2> bare_time;
  std::array<std::vector<double>, 2> tier_time;
  for (int round = 0; round <= settings.rounds; ++round) {  // the first warms up
    for (size_t d = 0; d < kDepths.size(); ++d) {
      bare.Clear();
      for (const bool write : {true, false}) {
        const double took = bare.Move(write, memory.get(), tier.value_bytes(), count, kDepths[d]);
        if (round > 0) bare_time[write ? 0 : 1][d].push_back(took);
      }
    }
    bare.Clear();
    for (const bool write : {true, false}) {
      const double took = tier.Move(write);
      if (round > 0) tier_time[write ? 0 : 1].push_back(took);
    }
  }
  nlohmann::ordered_json result;
  result["block_bytes"] = block;
  result["blocks"] = count;
  const double bytes = static_cast<double>(count) * static_cast<double>(block);
  for (const size_t use : {size_t{0}, size_t{1}}) {
    double best = 1e9;
    for (const std::vector<double>& times : bare_time[use]) best = std::min(best, Median(times));
    const double bare_rate = 1e-9 * bytes / best;
    const double tier_rate = 1e-9 * bytes / Median(tier_time[use]);
    const char* const name = use == 0 ? "store" : "load";
    result[name] = {
        {"bare_gbps", bare_rate}, {"tier_gbps", tier_rate}, {"ratio", tier_rate / bare_rate}};
    absl::PrintF("%8.2f KiB  %-5s  bare %6.2f GB/s  tier %6.2f GB/s  ratio %.2f\n",
                 static_cast<double>(block) / 1024, name, bare_rate, tier_rate,
                 tier_rate / bare_rate);
  }
  result["find_us_per_block"] = 1e6 * tier.Find() / static_cast<double>(count);
  std::fflush(stdout);
  bare.Clear();
  return result;
}

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
  app.add_option("--mib", settings.mib, "bytes moved per measurement, in MiB");
  app.add_option("--rounds", settings.rounds, "measurements of each kind");
  app.add_option("--json", settings.json, "write the figures here");
  CLI11_PARSE(app, argc, argv);
  nlohmann::ordered_json result;
  for (const int64_t kib : {64, 256, 1024, 4096}) {
    result["blocks"].push_back(MeasureBlocks(settings, kib << 10));
  }
  result["hash"] = MeasureHashes();
  if (!settings.json.empty()) std::ofstream(settings.json) << result.dump(2) << '\n';
  return 0;
}

}  // namespace
}  // namespace sluice

int main(int argc, char** argv) { return sluice::Main(argc, argv); }
