// SharedMemoryStore: a remote store without a server: blocks under their names in memory, which
// several stores may look at; it can be away, and it can hang until a test lets it go on.
#pragma once

#include <condition_variable>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"
#include "backend/kv/block_store.h"

namespace sluice::testing {

class SharedMemoryStore final : public BlockStore {
 public:
  // What several servers share.
  struct Values {
    struct Value {
      BlockRecord record;
      std::vector<std::byte> bytes;
    };
    std::mutex mu;
    std::map<std::pair<uint64_t, uint64_t>, Value> by_name;
  };

  SharedMemoryStore(StoreShape shape, Blocks slots, std::shared_ptr<Values> values)
      : shape_(shape), values_(std::move(values)) {
    shape_.slots = slots;
  }

  const StoreShape& shape() const override { return shape_; }
  Tier tier() const override { return Tier::kRemote; }
  bool shared() const override { return true; }
  bool reachable() const override {
    std::lock_guard<std::mutex> lock(mu_);
    return !away_;
  }
  std::string description() const override { return "shared memory"; }

  void Write(std::span<StoreWrite> writes, absl::FunctionRef<BlockRecord(size_t)> seal) override {
    const absl::Status away = WaitUntilLetGo();
    for (size_t i = 0; i < writes.size(); ++i) {
      const BlockRecord record = seal(i);
      writes[i].status = away;
      if (!away.ok()) continue;
      Remember(writes[i].slot, record.identity);
      std::lock_guard<std::mutex> lock(values_->mu);
      values_->by_name[NameOf(record.identity)] = {
          record, {writes[i].payload.begin(), writes[i].payload.end()}};
    }
  }

  void Read(std::span<StoreRead> reads, absl::FunctionRef<void(size_t)> done) override {
    for (size_t i = 0; i < reads.size(); ++i) {
      reads[i].status = ReadOne(reads[i]);
      done(i);
    }
  }

  absl::Status Drop(BlockId slot) override { return Leave(slot, false); }
  absl::Status Erase(BlockId slot) override { return Leave(slot, true); }
  absl::StatusOr<StoreContent> Scan() override { return StoreContent(); }
  void Bind(std::span<const StoredBlock> blocks) override {
    for (const StoredBlock& block : blocks) Remember(block.slot, block.identity);
  }

  void SetAway(bool away) {
    std::lock_guard<std::mutex> lock(mu_);
    away_ = away;
  }
  // Writes wait from now on.
  void Hang() {
    std::lock_guard<std::mutex> lock(mu_);
    hangs_ = true;
  }
  void LetGo() {
    std::lock_guard<std::mutex> lock(mu_);
    hangs_ = false;
    changed_.notify_all();
  }
  void WaitUntilHanging() {
    std::unique_lock<std::mutex> lock(mu_);
    changed_.wait(lock, [this] { return hanging_; });
  }

  bool Has(const BlockIdentity& block) const {
    std::lock_guard<std::mutex> lock(values_->mu);
    return values_->by_name.contains(NameOf(block));
  }
  // Another bit in its bytes. REQUIRES: Has().
  void Flip(const BlockIdentity& block) {
    std::lock_guard<std::mutex> lock(values_->mu);
    values_->by_name.at(NameOf(block)).bytes[7] ^= std::byte{4};
  }

 private:
  struct Slot {
    BlockIdentity block;
    bool read = false;
  };

  static std::pair<uint64_t, uint64_t> NameOf(const BlockIdentity& block) {
    return {block.hash.low ^ block.salt, block.hash.high};
  }

  absl::Status WaitUntilLetGo() {
    std::unique_lock<std::mutex> lock(mu_);
    hanging_ = hangs_;
    changed_.notify_all();
    changed_.wait(lock, [this] { return !hangs_; });
    hanging_ = false;
    return away_ ? absl::UnavailableError("nobody answers") : absl::OkStatus();
  }

  void Remember(BlockId slot, const BlockIdentity& block) {
    std::lock_guard<std::mutex> lock(mu_);
    slots_[slot.value()] = Slot{block, false};
  }

  absl::Status ReadOne(StoreRead& read) {
    BlockIdentity block;
    {
      std::lock_guard<std::mutex> lock(mu_);
      if (away_) return absl::UnavailableError("nobody answers");
      const auto it = slots_.find(read.slot.value());
      if (it == slots_.end()) return absl::NotFoundError("the slot is empty");
      block = it->second.block;
      it->second.read = true;
    }
    std::lock_guard<std::mutex> lock(values_->mu);
    const auto it = values_->by_name.find(NameOf(block));
    if (it == values_->by_name.end()) return absl::NotFoundError("it is gone there");
    const size_t from = static_cast<size_t>(read.first_layer) * shape_.layer_bytes().size();
    std::copy_n(it->second.bytes.begin() + static_cast<std::ptrdiff_t>(from), read.out.size(),
                read.out.begin());
    read.record = it->second.record;
    return absl::OkStatus();
  }

  // As RemoteStore's: who drops what was read has found it bad.
  absl::Status Leave(BlockId slot, bool remove) {
    std::unique_lock<std::mutex> lock(mu_);
    const auto it = slots_.find(slot.value());
    if (it == slots_.end()) return absl::OkStatus();
    const Slot before = it->second;
    slots_.erase(it);
    lock.unlock();
    if (!remove && !before.read) return absl::OkStatus();
    std::lock_guard<std::mutex> values(values_->mu);
    values_->by_name.erase(NameOf(before.block));
    return absl::OkStatus();
  }

  StoreShape shape_;
  const std::shared_ptr<Values> values_;
  mutable std::mutex mu_;
  std::condition_variable changed_;
  std::map<int32_t, Slot> slots_;  // guarded by mu_, as is what follows
  bool away_ = false;
  bool hangs_ = false;
  bool hanging_ = false;
};

}  // namespace sluice::testing
