// BlockQueue carries blocks from where they are to where they may be as well, on a thread of its
// own: whoever has a block leaves a copy here and goes on. Bounded in bytes: what does not fit is
// refused, so a slow target costs blocks and never time.
//
// Thread-safe.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <mutex>
#include <span>
#include <thread>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/time/time.h"
#include "backend/kv/block_store.h"
#include "backend/kv/file_buffer.h"
#include "scheduler/base/units.h"

namespace sluice {

struct CarriedBlock {
  BlockId slot;
  int64_t generation = 0;  // of the slot's content
  BlockRecord record;
  FileBuffer bytes;
};

class BlockQueue {
 public:
  // Called on the queue's thread with up to `batch` blocks, in the order they came.
  using Work = std::function<void(std::span<const CarriedBlock>)>;

  // `limit`: of all that waits or is being worked on; at least one block fits. `payload`: of each.
  // REQUIRES: batch > 0.
  BlockQueue(Bytes payload, Bytes limit, size_t batch, Work work);
  // Ends after the batch under way; the rest is dropped.
  ~BlockQueue();
  BlockQueue(const BlockQueue&) = delete;
  BlockQueue& operator=(const BlockQueue&) = delete;

  // Copies the bytes. False: there is no room.
  bool Push(BlockId slot, int64_t generation, const BlockRecord& record,
            std::span<const std::byte> payload);

  // Takes back those for which `unwanted`; waits for the batch under way if one of them is in it.
  // REQUIRES: not called from `work`.
  void Remove(absl::FunctionRef<bool(const CarriedBlock&)> unwanted);

  // Waits until all is done, or for `timeout`; returns whether it is.
  bool WaitUntilEmpty(absl::Duration timeout);

  Bytes waiting() const;

 private:
  void ThreadMain();

  const size_t payload_;
  const size_t most_;  // blocks
  const size_t batch_;
  const Work work_;

  mutable std::mutex mu_;
  std::condition_variable changed_;
  std::deque<CarriedBlock> queue_;  // guarded by mu_, as is what follows
  // Changed by the queue's thread only, which reads it without the lock.
  std::vector<CarriedBlock> at_work_;
  int64_t batches_ = 0;  // done
  std::vector<FileBuffer> spare_;
  size_t reserved_ = 0;  // blocks that are being copied in
  bool stop_ = false;

  std::thread thread_;  // last: everything above is ready when it starts
};

}  // namespace sluice
