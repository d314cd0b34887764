#include "backend/cuda/device/pinned_pool.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <numeric>

#include "absl/strings/str_cat.h"
#include "backend/cuda/device/numa.h"
#include "backend/cuda/device/status.h"
#include "backend/cuda/gpu/gpu.h"

namespace sluice::cuda {
namespace {

int64_t PageBytes() { return sysconf(_SC_PAGESIZE); }

// Whole granules and whole pages.
Bytes ChunkBytes(const PinnedPoolOptions& options) {
  const int64_t unit = std::lcm(std::max<int64_t>(1, options.granule.value()), PageBytes());
  return Bytes(std::max<int64_t>(1, (options.chunk.value() + unit - 1) / unit) * unit);
}

// Brings pages in, where the kernel can (5.14) in one call: registering then only locks them.
void Touch(std::byte* data, Bytes size) {
#if defined(MADV_POPULATE_WRITE)
  if (madvise(data, size.size(), MADV_POPULATE_WRITE) == 0) return;
#endif
  // Reading and writing back would race with the host's use of the memory; cudaHostRegister brings
  // the pages in itself.
  static_cast<void>(data);
  static_cast<void>(size);
}

}  // namespace

absl::StatusOr<std::unique_ptr<PinnedPool>> PinnedPool::Create(const DeviceContext& context,
                                                               const PinnedPoolOptions& options,
                                                               MemoryAccount& account) {
  std::unique_ptr<PinnedPool> pool(new PinnedPool(context, account));
  pool->chunk_ = ChunkBytes(options);
  if (options.size == Bytes(0)) return pool;
  const int64_t physical = int64_t{sysconf(_SC_PHYS_PAGES)} * PageBytes();
  void* data = MAP_FAILED;
  if (options.size.value() <= physical) {
    data = mmap(nullptr, options.size.size(), PROT_READ | PROT_WRITE,
                MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  }
  if (data == MAP_FAILED) {
    return absl::ResourceExhaustedError(absl::StrCat("cannot reserve ", options.size.value() >> 20,
                                                     " MiB for the host KV pool: the machine has ",
                                                     physical >> 20, " MiB in all; ask for less"));
  }
  pool->data_ = static_cast<std::byte*>(data);
  pool->size_ = options.size;
  static_cast<void>(madvise(data, options.size.size(), MADV_HUGEPAGE));  // hints, both
  if (const auto node = context.numa_node()) {
    PreferNode(data, options.size, *node).IgnoreError();
  }
  if (options.background) {
    pool->worker_ = std::thread([raw = pool.get()] { raw->RegisterAll(); });
    return pool;
  }
  pool->RegisterAll();
  if (absl::Status status = pool->WaitForAll(); !status.ok()) return status;
  return pool;
}

PinnedPool::~PinnedPool() {
  {
    const std::lock_guard<std::mutex> lock(mu_);
    stop_ = true;
  }
  progress_.notify_all();
  if (worker_.joinable()) worker_.join();
  for (Bytes begin; begin < registered_; begin += chunk_) {
    static_cast<void>(cudaHostUnregister(data_ + begin.value()));
  }
  account_.AddPinned(Bytes(0) - registered_);
  if (data_ != nullptr) munmap(data_, size_.size());
}

void PinnedPool::RegisterAll() {
  absl::Status status = context_.MakeCurrent();
  for (Bytes begin; status.ok() && begin < size_; begin += chunk_) {
    status = RegisterNext(begin);
  }
  if (status.ok()) return;
  {
    const std::lock_guard<std::mutex> lock(mu_);
    status_ = status;
  }
  progress_.notify_all();
}

absl::Status PinnedPool::RegisterNext(Bytes begin) {
  {
    const std::lock_guard<std::mutex> lock(mu_);
    if (stop_) return absl::CancelledError("the host KV pool is being destroyed");
  }
  const Bytes bytes = std::min(chunk_, size_ - begin);
  std::byte* const data = data_ + begin.value();
  Touch(data, bytes);
  constexpr unsigned kFlags = cudaHostRegisterPortable | cudaHostRegisterMapped;
  if (const cudaError_t error = cudaHostRegister(data, bytes.size(), kFlags);
      error != cudaSuccess) {
    const absl::Status why = CudaStatus(error, "cudaHostRegister");
    return absl::Status(why.code(),
                        absl::StrCat("only ", begin.value() >> 20, " of ", size_.value() >> 20,
                                     " MiB of the host KV pool can be pinned: ", why.message(),
                                     "; ask for less host memory"));
  }
  account_.AddPinned(bytes);
  {
    const std::lock_guard<std::mutex> lock(mu_);
    registered_ += bytes;
  }
  progress_.notify_all();
  return absl::OkStatus();
}

Bytes PinnedPool::registered() const {
  const std::lock_guard<std::mutex> lock(mu_);
  return registered_;
}

absl::Status PinnedPool::Usable(Bytes end) const {
  const std::lock_guard<std::mutex> lock(mu_);
  return registered_ >= end ? absl::OkStatus() : status_;
}

absl::Status PinnedPool::WaitFor(Bytes end) {
  std::unique_lock<std::mutex> lock(mu_);
  progress_.wait(lock, [&] { return registered_ >= end || !status_.ok() || stop_; });
  if (registered_ >= end) return absl::OkStatus();
  return status_.ok() ? absl::CancelledError("the host KV pool is being destroyed") : status_;
}

}  // namespace sluice::cuda
