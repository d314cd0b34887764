// PinnedPool: the host tier's memory. Reserved at once, made usable for the device (touched and
// registered with CUDA) chunk by chunk from the front on a thread of its own: 100 GB take tens of
// seconds that start-up does not wait for.
//
// Until WaitFor(end) has returned OK, the device must not be given addresses below `end`.
//
// Thread-safe.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "backend/cuda/device/context.h"
#include "backend/cuda/device/memory.h"
#include "scheduler/base/units.h"

namespace sluice::cuda {

struct PinnedPoolOptions {
  Bytes size;
  // No object of this size, counted from the start, is cut by a chunk: a KV block. A copy must not
  // span two registrations.
  Bytes granule = Bytes(1);
  Bytes chunk = MiB(256);  // least size of a registration; rounded up to whole granules and pages
  // Register in the background. false: Create() returns when all is done.
  bool background = true;
};

class PinnedPool {
 public:
  // Context and account must outlive it. Memory is taken from the NUMA node of the device if that
  // is known. Returns RESOURCE_EXHAUSTED if the machine has not that much memory; without
  // `background` also what registering returns.
  static absl::StatusOr<std::unique_ptr<PinnedPool>> Create(const DeviceContext& context,
                                                            const PinnedPoolOptions& options,
                                                            MemoryAccount& account);
  // REQUIRES: no copy from or to it is under way.
  ~PinnedPool();
  PinnedPool(const PinnedPool&) = delete;
  PinnedPool& operator=(const PinnedPool&) = delete;

  // Zeroed, page-aligned. The host may use all of it at once.
  std::byte* data() const { return data_; }
  Bytes size() const { return size_; }
  // Registrations begin at multiples of this: whole granules, whole pages.
  Bytes chunk() const { return chunk_; }

  // What the device may use, from the front.
  Bytes registered() const;
  // Waits until the first `end` bytes are registered.
  // Returns the error if registering failed (RESOURCE_EXHAUSTED: the system does not pin as much),
  // CANCELLED when the pool is being destroyed.
  absl::Status WaitFor(Bytes end);
  absl::Status WaitForAll() { return WaitFor(size_); }
  // Whether the first `end` bytes are registered or still may be: what the host puts there is of
  // use. Does not wait; returns what WaitFor() would if it is known not to succeed.
  absl::Status Usable(Bytes end) const;

 private:
  PinnedPool(const DeviceContext& context, MemoryAccount& account)
      : context_(context), account_(account) {}

  void RegisterAll();
  absl::Status RegisterNext(Bytes begin);

  const DeviceContext& context_;
  MemoryAccount& account_;
  std::byte* data_ = nullptr;
  Bytes size_;
  Bytes chunk_;

  mutable std::mutex mu_;
  std::condition_variable progress_;
  Bytes registered_;     // guarded by mu_, as is what follows
  absl::Status status_;  // why registering stopped
  bool stop_ = false;

  std::thread worker_;
};

}  // namespace sluice::cuda
