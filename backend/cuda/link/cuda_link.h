// CudaLink copies KV blocks between the device pool and the host pool beside the steps: one thread
// and one stream per direction, in the order of a LinkScheduler, in bounded slices, layer by layer.
// Copies from and to a disk tier are not its own: they fail with FAILED_PRECONDITION.
//
// What a backend does with it, on the engine's thread:
//   link.Start(plan.copies, compute);      // before the step's first kernel
//   for each layer i:
//     link.WaitForLayer(compute, loads, i);  // then launch the kernels of layer i
// A copy begins after everything that is in `compute` at its Start(), so it may overwrite what
// earlier steps read and may read what they write. A result is given out when no byte of the copy
// is under way any more: then, and not before, its blocks may be used again.
//
// Failures. A call that CUDA refuses ends its copy with that error, after what was under way has
// ended; sources are never written. A store of numbers that the offload codec cannot keep ends with
// OUT_OF_RANGE; CopyResult::failed names their blocks, all others are in place. A device that is
// lost (DeviceHealth) ends all copies, now and later, with UNAVAILABLE.
//
// Thread-safe.
#pragma once

#include <array>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <thread>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/clock.h"
#include "backend/activity.h"
#include "backend/cuda/device/context.h"
#include "backend/cuda/device/event.h"
#include "backend/cuda/device/memory.h"
#include "backend/cuda/device/pinned_pool.h"
#include "backend/cuda/device/status.h"
#include "backend/cuda/link/kv_pools.h"
#include "backend/cuda/link/link_lane.h"
#include "scheduler/cost/measure.h"
#include "scheduler/link/link_scheduler.h"
#include "scheduler/step.h"

namespace sluice::cuda {

struct CudaLinkOptions {
  // Sustained rate of the slower direction, from calibration; what slices are sized by. The default
  // is what any PCIe 4 x16 slot reaches.
  ByteRate rate{20e9};
  // Copy engine time per descriptor, from calibration.
  Seconds per_descriptor{0.6e-6};
  // Descriptors with fewer bytes go through the gather/scatter kernel, from calibration. 0: none
  // do.
  Bytes kernel_below{32 << 10};
  // Whoever is more urgent waits for so much of what is under way; never less than one layer of
  // one block per slice.
  absl::Duration slice_time = absl::Milliseconds(1);
  // Slices in a stream at a time, sharing slice_time. 2 keeps the engine busy while the host
  // reacts.
  int slices_in_flight = 2;
  double write_back_share = 0.25;                   // see LinkSchedulerOptions
  absl::Duration promote_after = absl::Seconds(5);  // likewise
  // Host blocks that lie in it are waited for while it is being registered. Null: all are usable.
  PinnedPool* host_pool = nullptr;
  // false: no threads; the callers of WaitForLayer() and Pump() do the work.
  bool own_threads = true;
  std::function<absl::Time()> clock = absl::Now;  // must not go back
};

class CudaLink {
 public:
  // All arguments must outlive it (pools are copied).
  static absl::StatusOr<std::unique_ptr<CudaLink>> Create(
      const DeviceContext& context, const CudaKvPools& pools, const CudaLinkOptions& options,
      DeviceHealth& health, MemoryAccount& account, ActivityMeter& meter);
  // Waits for the slices under way; copies that have not ended get no result.
  ~CudaLink();
  CudaLink(const CudaLink&) = delete;
  CudaLink& operator=(const CudaLink&) = delete;

  // Called on one of the link's threads after results came in. Call before the first Start().
  void SetListener(std::function<void()> on_done);

  // Queues copies and returns at once. They begin when all that `compute` holds now has run; null:
  // nothing that touches their blocks is under way. REQUIRES: ids were never used before.
  void Start(std::span<const Copy> copies, cudaStream_t compute);
  // Copies that nobody needs any more: each ends soon, with CANCELLED unless it is complete by
  // then. Ids that have ended or were never started are ignored.
  void Revoke(std::span<const CopyId> copies);
  std::vector<CopyResult> TakeFinished();

  // Makes what is put into `stream` from now on wait for `layer` of the loads. Blocks until that
  // layer of each is in its stream (at most a slice ahead of its bytes), not until it has arrived.
  // Returns the error of the first of `loads` that has failed or was revoked, after all of them
  // have ended: `stream` waits for nothing then. An id that was never started is INTERNAL.
  absl::Status WaitForLayer(cudaStream_t stream, std::span<const CopyId> loads, int layer);
  // Whether `layer` of the copy is in place or the copy has failed.
  bool Settled(CopyId id, int layer);

  // Without own threads, for one calling thread: does one thing: books what arrived, submits a
  // slice, or, if `wait`, waits for the oldest slice. False: there was nothing to do.
  bool Pump(bool wait);

  // The size of slices: blocks of one layer.
  int64_t slice_blocks() const { return slice_blocks_; }

 private:
  // A copy that has no result yet, or has failed.
  struct Progress {
    LinkDirection direction = LinkDirection::kHostToDevice;
    int64_t blocks = 0;
    Bytes bytes;
    std::shared_ptr<Event> fence;  // until its first slice is submitted
    int64_t units = 0;             // submitted: one layer of one block each
    int layers_done = 0;           // in place
    int flights = 0;               // slices in the stream
    bool begun = false;            // its first slice has come to the front of the stream
    absl::Time started;
    absl::Status failure;
    std::vector<bool> refused;        // [blocks], by the codec; empty: none
    int refused_layer = 0;            // the first where one was
    std::optional<CopyResult> ended;  // the scheduler's result; ours follows the last flight
    bool remembered = false;          // has had its result; kept for its failure

    // Why it has failed or will, or OK.
    absl::Status Why() const { return failure.ok() && ended.has_value() ? ended->status : failure; }
    bool Failed() const { return !Why().ok(); }
  };
  struct Line {
    std::unique_ptr<LinkLane> lane;
    std::optional<LinkSlice> slice;   // next to submit
    std::optional<LinkSlice> moving;  // submitted, the scheduler not yet told
    absl::Status moving_status;
    std::thread worker;
  };
  using Lock = std::unique_lock<std::mutex>;

  CudaLink(const DeviceContext& context, const CudaKvPools& pools, const CudaLinkOptions& options,
           DeviceHealth& health, ActivityMeter& meter);

  Line& line(LinkDirection direction) { return lines_[static_cast<size_t>(direction)]; }
  absl::StatusOr<std::shared_ptr<Event>> RecordFence(cudaStream_t compute);
  void QueueLocked(const Copy& copy, const std::shared_ptr<Event>& fence, absl::Time now);
  void RefuseLocked(const Copy& copy, const absl::Status& why, absl::Time now);
  bool SubmittedLocked(CopyId id, int layer) const;
  void WaitUntilOver(std::span<const CopyId> loads, Lock* lock);
  absl::Status WaitForFlights(cudaStream_t stream, std::span<const CopyId> loads, int layer);

  // The rest is in cuda_link_worker.cc; the lock is held.
  void WorkerMain(Line& line);
  bool PumpLocked(bool wait, Lock* lock);
  // One thing that the line can do; as Pump().
  bool Serve(Line& line, bool wait, Lock* lock);
  void SubmitNext(Line& line, Lock* lock);
  void WaitForOldest(Line& line, Lock* lock);
  void TellListener(Lock* lock);
  absl::Status HostReady(const LinkSlice& slice);  // without the lock
  void Assign();
  void TellScheduler(Line& line);
  void BeginFront(Line& line, absl::Time now);
  void BookLocked();
  static void NoteRefused(const LinkFlight& flight, std::span<const int64_t> refused,
                          Progress* progress);
  void FinishIfOver(CopyId id);
  void Remember(CopyId id, Progress* progress);
  void LoseLocked();

  const DeviceContext& context_;
  const CudaKvPools pools_;
  const CudaLinkOptions options_;
  DeviceHealth& health_;
  ActivityMeter& meter_;
  const int64_t slice_blocks_;
  EventPool fences_;

  std::mutex mu_;
  std::condition_variable work_;      // for the workers
  std::condition_variable progress_;  // for WaitForLayer
  std::function<void()> on_done_;     // guarded by mu_, as is what follows
  LinkScheduler scheduler_;
  std::array<Line, 2> lines_;  // by direction: host to device, device to host
  absl::flat_hash_map<CopyId, Progress> copies_;
  std::deque<CopyId> failed_;  // remembered ones of copies_, in the order they failed
  CopyId newest_;
  std::vector<CopyResult> finished_;
  int64_t submitted_ = 0;  // slices ever
  bool news_ = false;      // finished_ has results the listener was not told of
  bool lost_ = false;
  bool stop_ = false;
};

// Blocks of a slice: what fits into the options' slice_time / slices_in_flight at their rate and
// descriptor cost, at least 1.
int64_t SliceBlocks(const CudaKvPools& pools, const CudaLinkOptions& options);

}  // namespace sluice::cuda
