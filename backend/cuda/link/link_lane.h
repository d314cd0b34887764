// LinkLane: one direction of the host link: its stream, and the slices that are in it. A slice is
// submitted as a few copies or one kernel and closed by an event. What is in the stream at a time
// is bounded, so that whatever comes later waits for that at most.
//
// One thread submits and waits (the lane's); Find() is for others, under the owner's lock, which
// also guards Push() and Pop().
#pragma once

#include <deque>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "backend/cuda/device/context.h"
#include "backend/cuda/device/event.h"
#include "backend/cuda/device/memory.h"
#include "backend/cuda/device/stream.h"
#include "backend/cuda/link/kv_pools.h"
#include "backend/cuda/link/transfer_plan.h"
#include "scheduler/link/link_scheduler.h"
#include "scheduler/step.h"

namespace sluice::cuda {

// A slice in the stream.
struct LinkFlight {
  CopyId copy;
  int layer = 0;
  bool completes_layer = false;  // the last slice of its layer
  bool by_kernel = false;
  int64_t blocks = 0;
  int64_t first = 0;     // position of the first of them in the copy
  size_t slot = 0;       // what it holds
  int64_t sequence = 0;  // counts the link's slices
};

class LinkLane {
 public:
  struct Options {
    LinkDirection direction = LinkDirection::kHostToDevice;
    int64_t slice_blocks = 1;  // the most of a slice, in blocks (of one layer)
    int depth = 2;             // the most in the stream, in slices of that size
    Bytes kernel_below;
    int priority = 0;
  };

  // All must outlive it.
  static absl::StatusOr<std::unique_ptr<LinkLane>> Create(const CudaKvPools& pools,
                                                          const Options& options,
                                                          DeviceHealth& health,
                                                          MemoryAccount& account);
  // Waits for what is in the stream.
  ~LinkLane();
  LinkLane(const LinkLane&) = delete;
  LinkLane& operator=(const LinkLane&) = delete;

  LinkDirection direction() const { return options_.direction; }
  cudaStream_t stream() const { return stream_.get(); }
  bool empty() const { return flights_.empty(); }
  // Whether there may be no room for a slice.
  bool full() const {
    return flights_.size() >= slots_.size() ||
           (!empty() && blocks_ + options_.slice_blocks > options_.depth * options_.slice_blocks);
  }
  const LinkFlight& oldest() const { return flights_.front(); }

  // --- The lane's thread, without the lock ---
  // Everything submitted from now on waits for `fence`, unless it has passed.
  absl::Status WaitForFence(const Event& fence);
  // Puts the slice into the stream, for Push(). On an error some of it may be under way: push it
  // all the same. REQUIRES: !full(), and after each Submit() one Push().
  absl::Status Submit(const LinkSlice& slice, LinkFlight* flight);
  // Waits until the oldest slice has left the stream. Into *refused: positions in the copy of
  // blocks with numbers that cannot be quantized. UNAVAILABLE: the device is lost. REQUIRES:
  // !empty().
  absl::Status WaitForOldest(std::vector<int64_t>* refused);

  // --- Under the lock ---
  void Push(const LinkFlight& flight);
  LinkFlight Pop();
  // The newest slice that completes `layer` of the copy, or null. It may have left the stream.
  const LinkFlight* Find(CopyId copy, int layer) const;
  // Makes `stream` wait for a flight that Find() found.
  absl::Status MakeWait(cudaStream_t stream, const LinkFlight& flight);

 private:
  // What a slice needs until it has left the stream.
  struct Slot {
    Event done;
    bool recorded = false;  // false: the slice has left already
    PinnedBuffer pairs;     // KvTransferPair [slice_blocks], read by the kernel
    DeviceBuffer broken;    // int32 [slice_blocks]: see KvTransferParams::broken
    PinnedBuffer broken_copy;
    bool checks = false;  // broken_copy will tell
  };

  LinkLane(const CudaKvPools& pools, const Options& options, DeviceHealth& health)
      : pools_(pools), options_(options), health_(health) {}

  absl::Status AddSlot(MemoryAccount& account);
  absl::Status EnqueueKernel(int layer, Slot& slot);
  absl::Status EnqueueRuns();
  absl::Status Close(Slot& slot);

  const CudaKvPools& pools_;
  const Options options_;
  DeviceHealth& health_;
  std::vector<std::unique_ptr<Slot>> slots_;
  Stream stream_;  // uses the slots
  size_t next_slot_ = 0;
  std::deque<LinkFlight> flights_;
  int64_t blocks_ = 0;  // of them
  TransferPlan plan_;   // the submitting thread's, as is what follows
  std::vector<void*> batch_to_;
  std::vector<const void*> batch_from_;
  std::vector<size_t> batch_bytes_;
};

}  // namespace sluice::cuda
