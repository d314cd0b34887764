#include "backend/kv/faulty_store.h"

#include <algorithm>
#include <utility>
#include <vector>

namespace sluice {

FaultyStore::FaultyStore(BlockStore& base, FaultyStoreOptions options)
    : base_(base), options_(std::move(options)), random_(options_.seed) {}

bool FaultyStore::Draw(StoreFault fault) {
  const double probability = options_.probability[static_cast<size_t>(fault)];
  std::lock_guard<std::mutex> lock(mu_);
  if (std::uniform_real_distribution<double>(0, 1)(random_) >= probability) return false;
  ++counts_[static_cast<size_t>(fault)];
  return true;
}

uint64_t FaultyStore::Random() {
  std::lock_guard<std::mutex> lock(mu_);
  return random_();
}

int64_t FaultyStore::count(StoreFault fault) const {
  std::lock_guard<std::mutex> lock(mu_);
  return counts_[static_cast<size_t>(fault)];
}

int64_t FaultyStore::silent_read_faults() const {
  return count(StoreFault::kShortRead) + count(StoreFault::kBitFlip) +
         count(StoreFault::kOtherBlock) + count(StoreFault::kOtherRecord);
}

void FaultyStore::Delay() {
  if (options_.pause && Draw(StoreFault::kDelay)) options_.pause(options_.delay);
}

void FaultyStore::Write(std::span<StoreWrite> writes, absl::FunctionRef<BlockRecord(size_t)> seal) {
  Delay();
  std::vector<StoreWrite> passed;
  std::vector<size_t> index;
  std::vector<std::vector<std::byte>> torn;
  std::vector<size_t> lost;
  torn.reserve(writes.size());
  for (size_t i = 0; i < writes.size(); ++i) {
    StoreWrite write = writes[i];
    const bool error = Draw(StoreFault::kWriteError);
    if (error || Draw(StoreFault::kNoSpace)) {
      writes[i].status = error ? absl::UnavailableError("a fault: cannot be written")
                               : absl::ResourceExhaustedError("a fault: no space");
      (void)base_.Drop(write.slot);
      seal(i);
      continue;
    }
    if (Draw(StoreFault::kTornWrite)) {
      torn.emplace_back(write.payload.begin(), write.payload.end());
      std::fill(torn.back().begin() + static_cast<std::ptrdiff_t>(torn.back().size() / 2),
                torn.back().end(), std::byte{0xA5});
      write.payload = torn.back();
    }
    if (Draw(StoreFault::kLostWrite)) lost.push_back(passed.size());
    passed.push_back(write);
    index.push_back(i);
  }
  base_.Write(passed, [&](size_t i) { return seal(index[i]); });
  for (size_t i = 0; i < passed.size(); ++i) writes[index[i]].status = passed[i].status;
  for (const size_t i : lost) (void)base_.Drop(passed[i].slot);
}

void FaultyStore::Read(std::span<StoreRead> reads, absl::FunctionRef<void(size_t)> done) {
  Delay();
  // As the memory was, for short reads.
  std::vector<std::vector<std::byte>> before;
  before.reserve(reads.size());
  for (StoreRead& read : reads) {
    before.emplace_back(read.out.begin(), read.out.end());
    read.check = nullptr;  // bytes change here after they have arrived
  }
  base_.Read(reads, [&](size_t i) {
    StoreRead& read = reads[i];
    if (read.status.ok() && Draw(StoreFault::kReadError)) {
      read.status = absl::UnavailableError("a fault: cannot be read");
    }
    if (read.status.ok() && Draw(StoreFault::kShortRead)) {
      const size_t got = Random() % read.out.size();
      std::copy(before[i].begin() + static_cast<std::ptrdiff_t>(got), before[i].end(),
                read.out.begin() + static_cast<std::ptrdiff_t>(got));
    }
    if (read.status.ok()) Spoil(read);
    done(i);
  });
}

void FaultyStore::Spoil(StoreRead& read) {
  if (Draw(StoreFault::kBitFlip)) {
    const uint64_t where = Random();
    read.out[where % read.out.size()] ^= std::byte{1} << (where >> 60 & 7);
  }
  if (Draw(StoreFault::kOtherBlock)) read.record.identity.hash.low ^= 1;
  if (Draw(StoreFault::kOtherRecord)) {
    read.record.checksums[Random() % read.record.checksums.size()] ^= 1 + (Random() >> 1);
  }
}

}  // namespace sluice
