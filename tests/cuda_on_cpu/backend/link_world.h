// LinkWorld: a device pool, a host pool and a CudaLink between them, and pages whose content tells
// which write was the last. Everything a test of the link needs beside its schedule.
#pragma once

#include <condition_variable>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "backend/activity.h"
#include "backend/cuda/device/context.h"
#include "backend/cuda/device/memory.h"
#include "backend/cuda/device/pinned_pool.h"
#include "backend/cuda/device/status.h"
#include "backend/cuda/device/stream.h"
#include "backend/cuda/link/cuda_link.h"
#include "backend/cuda/link/kv_pools.h"

namespace sluice::cuda {

struct WorldOptions {
  KvPageShape page{1, 16, 16};  // 1 KiB
  KvType host_type = KvType::kHalf;
  int64_t layers = 3;
  int64_t device_blocks = 8;
  int64_t host_blocks = 10;
  Bytes chunk = Bytes(1);   // least registration
  bool background = false;  // register the host pool meanwhile
  bool pageable = false;    // a mistake: the host pool is not pinned
  CudaLinkOptions link;
};

class LinkWorld {
 public:
  static absl::StatusOr<std::unique_ptr<LinkWorld>> Create(const WorldOptions& options);

  CudaLink& link() { return *link_; }
  void DropLink() { link_ = nullptr; }
  const CudaKvPools& pools() const { return pools_; }
  DeviceHealth& health() { return health_; }
  MemoryAccount& account() { return account_; }
  ActivityMeter& meter() { return meter_; }
  cudaStream_t compute() const { return compute_.get(); }

  // --- Content: every (stamp, layer) is a page unlike all others ---
  void FillHost(int32_t block, uint32_t stamp);
  bool HostHolds(int32_t block, uint32_t stamp) const;
  // By kernels in the compute stream.
  absl::Status FillDevice(int32_t block, uint32_t stamp);
  absl::Status CheckDevice(int32_t block, uint32_t stamp);
  absl::Status CheckDevice(int32_t block, uint32_t stamp, int layer);
  // Words that CheckDevice() found wrong so far; waits for the compute stream.
  absl::StatusOr<uint32_t> DeviceErrors();

  // --- Copies ---
  CopyId NextId() { return CopyId(next_id_++); }
  // A copy of neighbouring or given blocks.
  Copy Make(LinkDirection direction, CopyClass copy_class, std::vector<Copy::Pair> blocks);
  // Results as they come, until `count` have come in all since the last call. Fewer: nothing moves.
  std::vector<CopyResult> Take(size_t count);

 private:
  LinkWorld() : meter_(absl::UnixEpoch()) {}
  absl::Status SetUp(const WorldOptions& options);

  DeviceHealth health_;
  MemoryAccount account_;
  ActivityMeter meter_;
  std::optional<DeviceContext> context_;
  std::unique_ptr<PinnedPool> host_;
  std::vector<std::byte> pageable_;
  DeviceBuffer device_;
  DeviceBuffer errors_;
  PinnedBuffer errors_copy_;
  CudaKvPools pools_;
  bool own_threads_ = true;
  int64_t next_id_ = 0;

  std::mutex mu_;
  std::condition_variable done_;
  int64_t calls_ = 0;  // of the listener

  Stream compute_;
  std::unique_ptr<CudaLink> link_;
};

// Pairs (source + i, target + i).
std::vector<Copy::Pair> Neighbours(int32_t source, int32_t target, int32_t count);

}  // namespace sluice::cuda
