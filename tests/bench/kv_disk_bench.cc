// How fast the disk tier is, against the device it is on, in one run:
//
//   raw    blocks straight between memory and one file, O_DIRECT, kDepth at a time through the same
//          FileIo: what the device gives for blocks of this size
//   tier   the same blocks through DiskLink and DiskStore: sealed, written with their records;
//          read, checked
//
// Both move the same bytes in turns, several times; slots and file are written once before, so that
// both overwrite what is there. The ratio is that of the medians.
//
// Then: how long it takes to find 100,000 blocks again (records read, index rebuilt), the records
// dropped from the page cache before.
//
//   kv_disk_bench --dir DIR [--mib 512] [--rounds 5] [--io auto|uring|threads] [--json FILE]
#include <fcntl.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <condition_variable>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <mutex>
#include <nlohmann/json.hpp>
#include <random>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "backend/kv/disk_link.h"
#include "backend/kv/disk_store.h"
#include "backend/kv/file_buffer.h"
#include "scheduler/base/check.h"
#include "scheduler/scheduler.h"
#include "tests/bench/store_bench.h"

namespace sluice {
namespace {

struct Settings {
  std::string directory;
  int64_t mib = 512;
  int rounds = 5;
  std::string io = "auto";
  std::string json;

  FileIoMethod method() const {
    if (io == "uring") return FileIoMethod::kUring;
    return io == "threads" ? FileIoMethod::kThreads : FileIoMethod::kAuto;
  }
};

DiskStoreOptions StoreOptions(const Settings& settings, const StoreShape& shape, int64_t slots) {
  DiskStoreOptions options;
  options.directory = settings.directory + "/tier";
  options.space.model = "benchmark";
  options.space.name = "benchmark";
  options.space.dtype = "bf16";
  options.space.shape = shape;
  options.limit = Bytes(slots * DiskStore::SlotCost(shape).value());
  options.io = settings.method();
  options.sync_at_end = false;
  return options;
}

// Blocks between memory and one file.
class Raw {
 public:
  Raw(const Settings& settings, std::byte* memory, int64_t block, size_t count)
      : memory_(memory), block_(block), count_(count) {
    io_ = Must(FileIo::Create(settings.method()));
    const std::string path = settings.directory + "/raw";
    fd_ = open(path.c_str(), O_RDWR | O_CREAT | O_DIRECT | O_CLOEXEC, 0644);
    SLUICE_CHECK(fd_ >= 0);
    unlink(path.c_str());
    SLUICE_CHECK(fallocate(fd_, 0, 0, static_cast<off_t>(block) * static_cast<off_t>(count)) == 0);
  }
  ~Raw() { close(fd_); }

  // Returns seconds.
  double Move(bool write) {
    std::vector<FileOp> ops(count_);
    for (size_t i = 0; i < count_; ++i) {
      const int64_t at = static_cast<int64_t>(i) * block_;
      ops[i].fd = fd_;
      ops[i].write = write;
      ops[i].offset = at;
      ops[i].parts.push_back({memory_ + at, static_cast<size_t>(block_)});
    }
    const absl::Time start = absl::Now();
    io_->Run(
        ops, [] {}, [](size_t, const absl::Status& status) { Must(status); });
    return absl::ToDoubleSeconds(absl::Now() - start);
  }

 private:
  std::byte* const memory_;
  const int64_t block_;
  const size_t count_;
  std::unique_ptr<FileIo> io_;
  int fd_ = -1;
};

// The same through the disk tier.
class Tier {
 public:
  Tier(const Settings& settings, std::byte* memory, const StoreShape& shape, size_t count)
      : shape_(shape),
        count_(count),
        names_(count, shape.tokens_per_block.size(), 1, &BlockHash),
        meter_(absl::Now()) {
    store_ = Must(DiskStore::Open(StoreOptions(settings, shape, static_cast<int64_t>(count))));
    Must(store_->Scan().status());
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

  std::string description() const { return store_->description(); }

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

 private:
  const StoreShape shape_;
  const size_t count_;
  const Names names_;
  ActivityMeter meter_;
  std::unique_ptr<DiskStore> store_;
  std::mutex mu_;
  std::condition_variable ready_;
  std::unique_ptr<DiskLink> link_;
  int64_t next_ = 0;
};

nlohmann::ordered_json MeasureBlocks(const Settings& settings, int64_t block) {
  const StoreShape shape{Blocks(0), Bytes(block), 16, Tokens(32)};
  const auto count = static_cast<size_t>((settings.mib << 20) / block);
  const FileBuffer memory = MakeFileBuffer(static_cast<int64_t>(count) * block);
  std::mt19937_64 random(7);
  for (size_t i = 0; i < count * static_cast<size_t>(block); i += sizeof(uint64_t)) {
    const uint64_t word = random();
    std::memcpy(memory.get() + i, &word, sizeof(word));
  }
  Raw raw(settings, memory.get(), block, count);
  Tier tier(settings, memory.get(), shape, count);
  raw.Move(true);
  tier.Move(true);
  nlohmann::ordered_json result;
  result["block_bytes"] = block;
  result["blocks"] = count;
  result["io"] = tier.description();
  const double bytes = static_cast<double>(count) * static_cast<double>(block);
  for (const bool write : {true, false}) {
    std::vector<double> raw_rate;
    std::vector<double> tier_rate;
    for (int i = 0; i < settings.rounds; ++i) {
      raw_rate.push_back(1e-9 * bytes / raw.Move(write));
      tier_rate.push_back(1e-9 * bytes / tier.Move(write));
    }
    const double ratio = Median(tier_rate) / Median(raw_rate);
    result[write ? "store" : "load"] = {
        {"raw_gbps", Median(raw_rate)}, {"tier_gbps", Median(tier_rate)}, {"ratio", ratio}};
    absl::PrintF("%8.2f KiB  %s  raw %6.2f GB/s  tier %6.2f GB/s  ratio %.2f\n",
                 static_cast<double>(block) / 1024, write ? "store" : "load ", Median(raw_rate),
                 Median(tier_rate), ratio);
    std::fflush(stdout);
  }
  return result;
}

void FillStore(DiskStore& store, const Names& names, size_t count) {
  const StoreShape& shape = store.shape();
  const size_t width = shape.tokens_per_block.size();
  const FileBuffer payload = MakeFileBuffer(shape.payload.value());
  std::memset(payload.get(), 1, shape.payload.size());
  for (size_t begin = 0; begin < count; begin += 1000) {
    std::vector<StoreWrite> writes;
    for (size_t i = begin; i < std::min(count, begin + 1000); ++i) {
      writes.push_back(
          {BlockId(static_cast<int32_t>(i)), {payload.get(), shape.payload.size()}, {}});
    }
    store.Write(writes, [&](size_t i) {
      const auto tokens = std::span(names.tokens).subspan((begin + i) * width, width);
      return SealBlock(names.identities[begin + i], tokens, writes[i].payload, shape.layers);
    });
    for (const StoreWrite& write : writes) Must(write.status);
  }
}

nlohmann::ordered_json MeasureRestart(const Settings& settings) {
  constexpr size_t kCount = 100000;
  const StoreShape shape{Blocks(0), Bytes(4096), 32, Tokens(32)};
  const DiskStoreOptions options = StoreOptions(settings, shape, kCount);
  const Names names(kCount, 32, 2, &BlockHash);
  std::string records;
  {
    const std::unique_ptr<DiskStore> store = Must(DiskStore::Open(options));
    Must(store->Scan().status());
    FillStore(*store, names, kCount);
    records = store->directory() + "/records";
  }
  const int fd = open(records.c_str(), O_RDWR | O_CLOEXEC);
  SLUICE_CHECK(fd >= 0 && fdatasync(fd) == 0);
  posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
  close(fd);

  const absl::Time start = absl::Now();
  const std::unique_ptr<DiskStore> store = Must(DiskStore::Open(options));
  const StoreContent content = Must(store->Scan());
  const absl::Time scanned = absl::Now();
  SchedulerOptions scheduling;
  scheduling.geometry = {shape.tokens_per_block, shape.payload};
  scheduling.device_blocks = Blocks(4096);
  scheduling.host_blocks = Blocks(4096);
  scheduling.disk_blocks = store->shape().slots;
  Scheduler scheduler(scheduling);
  const absl::Time made = absl::Now();
  const size_t unused = scheduler.Adopt(content.blocks).size();
  const absl::Time adopted = absl::Now();
  SLUICE_CHECK(content.blocks.size() == kCount && unused == 0);
  nlohmann::ordered_json result;
  result["blocks"] = kCount;
  result["scan_s"] = absl::ToDoubleSeconds(scanned - start);
  result["adopt_s"] = absl::ToDoubleSeconds(adopted - made);
  result["total_s"] = absl::ToDoubleSeconds((scanned - start) + (adopted - made));
  absl::PrintF("restart with %d blocks: records read in %.3f s, index rebuilt in %.3f s\n", kCount,
               absl::ToDoubleSeconds(scanned - start), absl::ToDoubleSeconds(adopted - made));
  return result;
}

int Main(int argc, char** argv) {
  Settings settings;
  CLI::App app("Measures the disk tier against its device.");
  app.add_option("--dir", settings.directory, "directory on the disk to measure")->required();
  app.add_option("--mib", settings.mib, "bytes moved per measurement, in MiB");
  app.add_option("--rounds", settings.rounds, "measurements of each kind");
  app.add_option("--io", settings.io, "auto, uring or threads");
  app.add_option("--json", settings.json, "write the figures here");
  CLI11_PARSE(app, argc, argv);
  std::filesystem::create_directories(settings.directory + "/tier");
  nlohmann::ordered_json result;
  for (const int64_t kib : {64, 256, 1024, 4096}) {
    result["blocks"].push_back(MeasureBlocks(settings, kib << 10));
  }
  result["restart"] = MeasureRestart(settings);
  std::filesystem::remove_all(settings.directory + "/tier");
  if (!settings.json.empty()) std::ofstream(settings.json) << result.dump(2) << '\n';
  return 0;
}

}  // namespace
}  // namespace sluice

int main(int argc, char** argv) { return sluice::Main(argc, argv); }
