// DiskLink moves KV blocks between the host pool and a store, beside steps and memory copies: one
// thread per direction, in the order of a LinkScheduler, several blocks at a time. It seals what it
// writes and checks what it reads: bytes that are not the block's never count as arrived.
//
// A block that cannot be read, or is not what was written, fails alone (CopyResult::failed) and is
// dropped from the store; so does one the store's codec refuses (OUT_OF_RANGE). A disk that refuses
// everything ends a copy early.
//
// Thread-safe.
#pragma once

#include <array>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "backend/activity.h"
#include "backend/kv/block_store.h"
#include "backend/kv/file_buffer.h"
#include "backend/kv/kv_recoder.h"
#include "scheduler/base/units.h"
#include "scheduler/link/link_scheduler.h"
#include "scheduler/step.h"

namespace sluice {

struct DiskLinkOptions {
  // The bytes of a host block: the store's payload, or what `recoder` makes it of.
  std::function<std::span<std::byte>(BlockId)> host;
  // Between those and the store's payload; null: they are the same. Must outlive the link.
  const KvRecoder* recoder = nullptr;
  Blocks host_blocks;
  // Why a host block cannot be filled, which fails that block; OK: it can. Empty: all can. Called
  // on worker threads; must not wait.
  std::function<absl::Status(BlockId)> fillable;
  // Called after a block has arrived on the host, before its copy ends. May be empty.
  std::function<void(BlockId)> on_arrival;
  // Tells a person what goes wrong, at most once in ten seconds. May be empty.
  std::function<void(const std::string&)> log;
  std::function<absl::Time()> clock;  // must not go back
};

class DiskLink {
 public:
  // Store and meter must outlive it. REQUIRES: the store has been scanned.
  DiskLink(BlockStore& store, DiskLinkOptions options, ActivityMeter& meter);
  // Stops after the slices under way; copies that have not ended get no result.
  ~DiskLink();
  DiskLink(const DiskLink&) = delete;
  DiskLink& operator=(const DiskLink&) = delete;

  // Called on a worker thread after results came in. Call before the first Start().
  void SetListener(std::function<void()> on_done);

  // REQUIRES: copies from or to the disk, with identities; ids were never used before.
  void Start(std::span<const Copy> copies);
  // As Backend::RevokeCopies().
  void Revoke(std::span<const CopyId> copies);
  std::vector<CopyResult> TakeFinished();
  // Drops these slots, on a worker thread, before any copy started later. REQUIRES: no copy uses
  // them.
  void Forget(std::span<const BlockId> slots);

 private:
  // What has become of the blocks of a copy under way.
  struct Progress {
    Copy copy;
    size_t done = 0;  // blocks that were tried, from the front
    std::vector<int32_t> failed;
    int32_t corrupt = 0;
    absl::Status error;  // the worst: a disk that fails rather than a block that is bad
  };
  // A slice's blocks, copied so that the lock need not be held.
  struct Job {
    LinkDirection direction = LinkDirection::kHostToDisk;
    std::vector<Copy::Pair> blocks;
    std::vector<BlockIdentity> identities;
    std::vector<TokenId> tokens;
    std::vector<absl::Status> statuses;
  };
  // A slice's payloads where a recoder stands between host and store. One per direction: each is
  // served by one worker at a time.
  struct Payloads {
    // Of `count` blocks.
    void Reserve(size_t count, Bytes payload);
    std::span<std::byte> of(size_t i) const { return {buffer.get() + i * each, size}; }

    FileBuffer buffer;
    size_t count = 0;
    size_t each = 0;  // bytes from payload to payload: whole pages, as direct I/O wants them
    size_t size = 0;
    std::vector<std::byte> plain;
  };

  // What is to be done for copies that have ended.
  struct Ended {
    std::vector<CopyResult> results;
    std::vector<std::string> complaints;
    std::vector<BlockId> unwanted;  // slots to drop
  };

  void WorkerMain();
  // Drops what waits to be dropped; returns whether there was anything.
  bool DropForgotten(std::unique_lock<std::mutex>& lock);
  void CheckCopy(const Copy& copy) const;
  Job MakeJobLocked(const LinkSlice& slice);
  void Move(Job& job);
  void WriteBlocks(Job& job);
  void ReadBlocks(Job& job);
  // Encodes the blocks of `job` for the store; statuses say which it refuses.
  void EncodeBlocks(Job& job);
  absl::Status TakeIn(const BlockRecord& record, PayloadCheck& check, const Job& job, size_t i,
                      std::span<const std::byte> payload);
  // Returns what the LinkScheduler should know: an error ends the copy.
  absl::Status BookSliceLocked(CopyId id, const Job& job);
  Ended BookArrivalsLocked(const std::vector<LinkArrival>& arrivals, absl::Time now);
  static CopyResult ResultOf(const CopyResult& arrived, Progress& progress,
                             std::vector<BlockId>* unwanted);
  std::string ComplaintLocked(const CopyResult& result, LinkDirection direction, absl::Time now);

  BlockStore& store_;
  const DiskLinkOptions options_;
  ActivityMeter& meter_;
  std::array<Payloads, 2> payloads_;  // to the store, from the store

  std::mutex mu_;
  std::condition_variable work_;
  std::function<void()> on_done_;  // guarded by mu_, as is what follows
  LinkScheduler scheduler_;
  absl::flat_hash_map<CopyId, Progress> copies_;
  std::vector<CopyResult> finished_;
  absl::Time complained_ = absl::InfinitePast();
  int64_t kept_quiet_ = 0;          // failed copies since then
  std::vector<BlockId> forgotten_;  // slots to drop
  bool dropping_ = false;           // some worker does; nothing else is begun meanwhile
  bool stop_ = false;

  std::vector<std::thread> workers_;
};

}  // namespace sluice
