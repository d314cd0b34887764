#include "backend/kv/tiered_store.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "scheduler/base/check.h"
#include "scheduler/base/status_macros.h"

namespace sluice {
namespace {

// Written to the disk at a time from the background: a store of the scheduler's waits for it.
constexpr int64_t kFillBytes = 4 << 20;
constexpr int64_t kCopyBytes = 8 << 20;

size_t BatchOf(int64_t bytes, const StoreShape& shape) {
  return static_cast<size_t>(
      std::clamp<int64_t>(bytes / shape.payload.value(), 1, TieredStore::kRemoteExtra.value()));
}

}  // namespace

TieredStore::TieredStore(BlockStore& disk, BlockStore& remote, const TieredStoreOptions& options)
    : disk_(disk),
      remote_(remote),
      slots_(disk.shape().slots.size()),
      copies_(disk.shape().payload, options.copies, BatchOf(kCopyBytes, disk.shape()),
              [this](std::span<const CarriedBlock> blocks) { CopyBatch(blocks); }),
      fills_(disk.shape().payload, options.fills, BatchOf(kFillBytes, disk.shape()),
             [this](std::span<const CarriedBlock> blocks) { FillBatch(blocks); }) {
  const StoreShape& here = disk.shape();
  const StoreShape& there = remote.shape();
  SLUICE_CHECK(here.payload == there.payload && here.layers == there.layers);
  SLUICE_CHECK(here.tokens_per_block == there.tokens_per_block && remote.shared());
  SLUICE_CHECK(there.slots >= here.slots + kRemoteExtra);
}

// A process that ends between Bind() and the next copy keeps what was in those slots before: blocks
// of the same model all the same.
TieredStore::~TieredStore() { DropStale(); }

std::string TieredStore::description() const {
  return absl::StrCat(disk_.description(), "; beside it ", remote_.description());
}

bool TieredStore::Flush(absl::Duration timeout) {
  return copies_.WaitUntilEmpty(timeout) && fills_.WaitUntilEmpty(timeout);
}

TieredStats TieredStore::stats() const {
  TieredStats stats;
  {
    std::lock_guard<std::mutex> lock(mu_);
    stats = stats_;
  }
  stats.waiting = copies_.waiting() + fills_.waiting();
  return stats;
}

// ---- Slots -------------------------------------------------------------------------------------

absl::StatusOr<StoreContent> TieredStore::Scan() {
  SLUICE_ASSIGN_OR_RETURN(StoreContent content, disk_.Scan());
  Adopt(content.blocks);
  return content;
}

void TieredStore::Adopt(std::span<const StoredBlock> found) {
  remote_.Bind(found);
  std::lock_guard<std::mutex> lock(mu_);
  for (const StoredBlock& block : found) {
    slots_[block.slot.index()] = Slot{block.identity, /*on_disk=*/true, ++generation_};
  }
}

TieredStore::Slot TieredStore::Forget(BlockId slot) {
  std::lock_guard<std::mutex> lock(mu_);
  Slot empty;
  empty.generation = ++generation_;
  return std::exchange(slots_[slot.index()], std::move(empty));
}

void TieredStore::BindRemote(BlockId slot, const BlockIdentity& block) {
  const StoredBlock bound{slot, block, {}};
  remote_.Bind(std::span(&bound, 1));
}

void TieredStore::Settle(BlockId slot, int64_t generation, const BlockIdentity& block,
                         bool on_disk) {
  {
    std::lock_guard<std::mutex> lock(mu_);
    Slot& known = slots_[slot.index()];
    if (known.generation != generation) return;
    known.block = block;
    known.on_disk = on_disk;
  }
  BindRemote(slot, block);
}

void TieredStore::Bind(std::span<const StoredBlock> blocks) {
  remote_.Bind(blocks);
  std::lock_guard<std::mutex> lock(mu_);
  for (const StoredBlock& block : blocks) {
    slots_[block.slot.index()] = Slot{block.identity, /*on_disk=*/false, ++generation_};
    stale_.push_back(block.slot);
  }
}

void TieredStore::DropStale() {
  std::lock_guard<std::mutex> one(drops_);
  std::vector<BlockId> slots;
  {
    std::lock_guard<std::mutex> lock(mu_);
    slots = std::exchange(stale_, {});
  }
  for (const BlockId slot : slots) (void)disk_.Drop(slot);
}

absl::Status TieredStore::Leave(BlockId slot, bool erase) {
  DropStale();
  const Slot before = Forget(slot);
  // Nothing that is on its way puts it back.
  fills_.Remove([&](const CarriedBlock& block) { return block.slot == slot; });
  if (erase && before.block.has_value()) {
    copies_.Remove(
        [&](const CarriedBlock& block) { return block.record.identity == *before.block; });
  }
  const absl::Status here = erase ? disk_.Erase(slot) : disk_.Drop(slot);
  const absl::Status there = erase ? remote_.Erase(slot) : remote_.Drop(slot);
  return here.ok() && erase ? there : here;
}

// ---- Writing -----------------------------------------------------------------------------------

void TieredStore::Write(std::span<StoreWrite> writes, absl::FunctionRef<BlockRecord(size_t)> seal) {
  DropStale();
  std::vector<int64_t> generations;
  for (const StoreWrite& write : writes) {
    (void)Forget(write.slot);
    (void)remote_.Drop(write.slot);
    std::lock_guard<std::mutex> lock(mu_);
    generations.push_back(slots_[write.slot.index()].generation);
  }
  std::vector<BlockIdentity> identities(writes.size());
  std::vector<bool> copied(writes.size());
  {
    std::lock_guard<std::mutex> disk(disk_writes_);
    disk_.Write(writes, [&](size_t i) {
      BlockRecord record = seal(i);
      identities[i] = record.identity;
      copied[i] = CopyToRemote(writes[i].slot, record, writes[i].payload);
      return record;
    });
  }
  for (size_t i = 0; i < writes.size(); ++i) {
    const bool on_disk = writes[i].status.ok();
    if (!on_disk && !copied[i]) continue;
    Settle(writes[i].slot, generations[i], identities[i], on_disk);
    if (on_disk) continue;
    writes[i].status = absl::OkStatus();
    std::lock_guard<std::mutex> lock(mu_);
    ++stats_.remote_only;
  }
}

bool TieredStore::CopyToRemote(BlockId slot, const BlockRecord& record,
                               std::span<const std::byte> payload) {
  const bool away = !remote_.reachable();
  if (!away && copies_.Push(slot, 0, record, payload)) return true;
  std::lock_guard<std::mutex> lock(mu_);
  ++(away ? stats_.copies_away : stats_.copies_full);
  return false;
}

// In slots of the background's own: those of the scheduler may hold other blocks by now.
void TieredStore::CopyBatch(std::span<const CarriedBlock> blocks) {
  const size_t payload = shape().payload.size();
  auto slot = static_cast<int32_t>(shape().slots.value());
  std::vector<StoreWrite> writes;
  for (const CarriedBlock& block : blocks) {
    writes.push_back({BlockId(slot++), std::span<const std::byte>(block.bytes.get(), payload),
                      absl::UnknownError("not written"), &block.record.identity});
  }
  const bool away = !remote_.reachable();
  if (!away) remote_.Write(writes, [&](size_t i) { return blocks[i].record; });
  std::lock_guard<std::mutex> lock(mu_);
  for (const StoreWrite& write : writes) {
    ++(away ? stats_.copies_away : write.status.ok() ? stats_.copied : stats_.copies_failed);
  }
}

void TieredStore::FillBatch(std::span<const CarriedBlock> blocks) {
  DropStale();
  const size_t payload = shape().payload.size();
  // A slot that is written anew waits here, and is written last.
  std::lock_guard<std::mutex> disk(disk_writes_);
  std::vector<StoreWrite> writes;
  std::vector<size_t> places;  // in `blocks`
  {
    std::lock_guard<std::mutex> lock(mu_);
    for (size_t i = 0; i < blocks.size(); ++i) {
      const Slot& slot = slots_[blocks[i].slot.index()];
      if (slot.generation != blocks[i].generation || slot.on_disk) continue;
      writes.push_back({blocks[i].slot, std::span<const std::byte>(blocks[i].bytes.get(), payload),
                        absl::UnknownError("not written"), &blocks[i].record.identity});
      places.push_back(i);
    }
  }
  if (writes.empty()) return;
  disk_.Write(writes, [&](size_t w) { return blocks[places[w]].record; });
  std::lock_guard<std::mutex> lock(mu_);
  for (size_t w = 0; w < writes.size(); ++w) {
    const bool written = writes[w].status.ok();
    ++(written ? stats_.filled : stats_.fills_failed);
    Slot& slot = slots_[writes[w].slot.index()];
    if (written && slot.generation == blocks[places[w]].generation) slot.on_disk = true;
  }
}

// ---- Reading -----------------------------------------------------------------------------------

class TieredStore::ReadJob {
 public:
  ReadJob(TieredStore& store, std::span<StoreRead> reads, absl::FunctionRef<void(size_t)> done)
      : store_(store), reads_(reads), done_(done), errors_(reads.size()) {
    std::lock_guard<std::mutex> lock(store.mu_);
    for (const StoreRead& read : reads) slots_.push_back(store.slots_[read.slot.index()]);
  }

  void Run() {
    std::vector<size_t> on_disk;
    std::vector<size_t> elsewhere;
    for (size_t i = 0; i < reads_.size(); ++i) {
      if (slots_[i].on_disk) {
        on_disk.push_back(i);
      } else if (slots_[i].block.has_value()) {
        elsewhere.push_back(i);
      } else {
        Fail(i, absl::DataLossError("the slot is empty"));
      }
    }
    ReadDisk(on_disk);
    elsewhere.insert(elsewhere.end(), missed_.begin(), missed_.end());
    std::sort(elsewhere.begin(), elsewhere.end());  // parents first, for the disk's sake
    ReadRemote(elsewhere);
  }

 private:
  // Some of the reads, each with a check of ours: that of who reads hears nothing of bytes that may
  // be replaced.
  struct Part {
    std::vector<StoreRead> reads;
    std::vector<PayloadCheck> checks;
  };

  Part MakePart(const std::vector<size_t>& which) const {
    Part part;
    part.reads.resize(which.size());
    part.checks.reserve(which.size());
    for (size_t k = 0; k < which.size(); ++k) {
      const StoreRead& from = reads_[which[k]];
      StoreRead& read = part.reads[k];
      read.slot = from.slot;
      read.first_layer = from.first_layer;
      read.out = from.out;
      part.checks.emplace_back(*slots_[which[k]].block, from.out, store_.shape().layer_bytes(),
                               from.first_layer);
      read.check = &part.checks[k];
    }
    return part;
  }

  static absl::Status Judge(Part& part, size_t k) {
    SLUICE_RETURN_IF_ERROR(part.reads[k].status);
    return part.checks[k].Finish(part.reads[k].record);
  }

  void Succeed(size_t i, StoreRead& read) {
    reads_[i].record = std::move(read.record);
    reads_[i].status = absl::OkStatus();
    done_(i);
  }

  void Fail(size_t i, absl::Status status) {
    {
      std::lock_guard<std::mutex> lock(store_.mu_);
      ++store_.stats_.lost;
    }
    reads_[i].status = std::move(status);
    done_(i);
  }

  void ReadDisk(const std::vector<size_t>& which) {
    if (which.empty()) return;
    Part part = MakePart(which);
    store_.disk_.Read(part.reads, [&](size_t k) {
      const size_t i = which[k];
      errors_[i] = Judge(part, k);
      if (!errors_[i].ok()) return missed_.push_back(i);
      {
        std::lock_guard<std::mutex> lock(store_.mu_);
        ++store_.stats_.disk_blocks;
        store_.stats_.disk_bytes += Bytes(static_cast<int64_t>(reads_[i].out.size()));
      }
      Succeed(i, part.reads[k]);
    });
    for (const size_t i : missed_) NoteMissed(i);
  }

  // What the disk gave wrong, or not at all, is not to be found there again.
  void NoteMissed(size_t i) {
    {
      std::lock_guard<std::mutex> lock(store_.mu_);
      ++store_.stats_.disk_failed;
      if (absl::IsDataLoss(errors_[i])) ++store_.stats_.disk_corrupt;
      Slot& slot = store_.slots_[reads_[i].slot.index()];
      if (slot.generation == slots_[i].generation) slot.on_disk = false;
    }
    (void)store_.disk_.Drop(reads_[i].slot);
  }

  void ReadRemote(const std::vector<size_t>& which) {
    if (which.empty()) return;
    Part part = MakePart(which);
    std::vector<size_t> good;
    std::vector<size_t> bad;
    store_.remote_.Read(part.reads, [&](size_t k) {
      const size_t i = which[k];
      const absl::Status status = Judge(part, k);
      if (status.ok()) {
        good.push_back(i);
        NoteRemote(i, part.reads[k]);
        return Succeed(i, part.reads[k]);
      }
      if (absl::IsDataLoss(status)) bad.push_back(i);
      Fail(i, StatusOf(i, status));
    });
    for (const size_t i : bad) (void)store_.remote_.Drop(reads_[i].slot);  // removes the value
    // Read and right: whoever drops it later has not found it bad.
    for (const size_t i : good) store_.BindRemote(reads_[i].slot, *slots_[i].block);
    std::lock_guard<std::mutex> lock(store_.mu_);
    store_.stats_.remote_corrupt += static_cast<int64_t>(bad.size());
  }

  void NoteRemote(size_t i, const StoreRead& read) {
    const bool whole = read.out.size() == store_.shape().payload.size();
    const bool taken =
        whole && store_.fills_.Push(read.slot, slots_[i].generation, read.record, read.out);
    std::lock_guard<std::mutex> lock(store_.mu_);
    TieredStats& stats = store_.stats_;
    ++stats.remote_blocks;
    stats.remote_bytes += Bytes(static_cast<int64_t>(read.out.size()));
    if (!errors_[i].ok()) ++stats.rescued;
    if (whole && !taken) ++stats.fills_full;
  }

  // What to say of a block that neither place gives.
  absl::Status StatusOf(size_t i, const absl::Status& remote) const {
    const absl::Status& disk = errors_[i];
    if (!disk.ok()) {
      const auto code = absl::IsNotFound(disk) ? absl::StatusCode::kDataLoss : disk.code();
      return absl::Status(
          code,
          absl::StrCat(disk.message(), "; nor is it in the remote store: ", remote.message()));
    }
    if (absl::IsDataLoss(remote)) return remote;
    return absl::NotFoundError(absl::StrCat("only the remote store has it: ", remote.message()));
  }

  TieredStore& store_;
  const std::span<StoreRead> reads_;
  const absl::FunctionRef<void(size_t)> done_;
  std::vector<Slot> slots_;           // as they were, by read
  std::vector<absl::Status> errors_;  // of the disk, by read
  std::vector<size_t> missed_;        // that the disk did not give
};

void TieredStore::Read(std::span<StoreRead> reads, absl::FunctionRef<void(size_t)> done) {
  DropStale();
  ReadJob(*this, reads, done).Run();
}

}  // namespace sluice
