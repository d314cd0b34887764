// Link: one worker thread that copies KV blocks between the device pool and the host pool, in the
// order and at the pace of a LinkScheduler, and says how far each copy has got. Copies from and to
// a disk tier are not its own (backend/kv/disk_link.h): they fail with FAILED_PRECONDITION.
//
// If the host pool has a codec, layers are encoded as they are stored and decoded as they are
// loaded; what is paced and counted are encoded bytes. A store of KV the codec refuses (numbers
// that are not finite) fails with OUT_OF_RANGE.
//
// Thread-safe.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <mutex>
#include <span>
#include <thread>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/time/clock.h"
#include "backend/activity.h"
#include "backend/cpu/kv_layout.h"
#include "scheduler/link/link_scheduler.h"
#include "scheduler/step.h"

namespace sluice {

struct LinkOptions {
  double bytes_per_second = 0;  // per direction; 0 = as fast as memory
  // Keep a checksum of every layer of every block stored, and fail a load (DATA_LOSS) that does not
  // match it.
  bool verify = false;
  std::function<absl::Time()> clock = absl::Now;  // must not go back
};

class Link {
 public:
  // Both must outlive it.
  Link(const KvPools& pools, const LinkOptions& options, ActivityMeter& meter);
  // Stops after the slice under way; copies that have not ended get no result.
  ~Link();
  Link(const Link&) = delete;
  Link& operator=(const Link&) = delete;

  // Called on the worker thread after results came in. Call before the first Start().
  void SetListener(std::function<void()> on_done);

  // REQUIRES: ids were never used before.
  void Start(std::span<const Copy> copies);
  // Copies that nobody needs any more: each ends soon, with CANCELLED unless it is complete by
  // then. Ids that have ended or were never started are ignored.
  void Revoke(std::span<const CopyId> copies);
  std::vector<CopyResult> TakeFinished();

  // A host block that came from elsewhere, and is known to be good, will be loaded. REQUIRES: no
  // copy uses it now.
  void NoteHostBlock(BlockId block);

  // Whether `layer` of a copy is in place, or the copy has failed: WaitForLayer would not block.
  bool Settled(CopyId id, int layer);
  // Blocks until `layer` of the copy is in place. Returns the copy's error if it has failed.
  // An id that was never started is INTERNAL.
  absl::Status WaitForLayer(CopyId id, int layer);

 private:
  struct Progress {
    int layers = 0;
    absl::Status status;
  };

  void WorkerMain();
  absl::Status MoveSlice(const LinkSlice& slice);
  // `next`: the source of what is moved after it, if that is known.
  absl::Status MoveBlock(LinkDirection direction, int layer, const Copy::Pair& pair, BlockId next);
  absl::Status StoreLayer(const std::byte* page, std::byte* host, const std::byte* next);
  void LoadLayer(const std::byte* host, std::byte* page, const std::byte* next);
  void QueueLocked(const Copy& copy, absl::Time now);
  void RefuseLocked(const Copy& copy, absl::Time now);
  bool BookArrivals(const std::vector<LinkArrival>& arrivals, absl::Time now);
  void Remember(CopyId id, const absl::Status& failure);
  bool SettledLocked(CopyId id, int layer) const;

  const KvPools& pools_;
  const bool verify_;
  const std::function<absl::Time()> clock_;
  ActivityMeter& meter_;
  std::function<void()> on_done_;
  std::vector<uint64_t> checksums_;  // [host block][layer]; of whoever fills or reads the block
  std::vector<std::byte> plain_;     // the worker's: a layer of a block before the codec

  std::mutex mu_;
  std::condition_variable work_;      // for the worker
  std::condition_variable progress_;  // for WaitForLayer
  LinkScheduler scheduler_;           // guarded by mu_, as is what follows
  // Copies under way, and the last of those that failed. One that is not here has arrived in full.
  absl::flat_hash_map<CopyId, Progress> copies_;
  std::deque<CopyId> failed_;  // of copies_, in the order they failed
  CopyId newest_;
  bool refused_ = false;  // finished_ has results the listener was not told of
  std::vector<CopyResult> finished_;
  bool stop_ = false;

  std::thread worker_;
};

}  // namespace sluice
