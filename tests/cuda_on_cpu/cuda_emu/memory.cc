#include "cuda_emu/memory.h"

#include <sys/mman.h>

#include <cstring>

#include "cuda_emu/control.h"
#include "cuda_emu/runtime_types.h"
#include "cuda_emu/sanitizer.h"

namespace cuda_emu {
namespace {

constexpr size_t kPage = 4096;
constexpr size_t kAlignment = 256;  // of every allocation, as CUDA promises

thread_local int access_depth = 0;

// One key for the process; -1 where the CPU has none.
int Key() {
  static const int key = [] {
    const int fresh = pkey_alloc(0, 0);
    if (fresh >= 0) pkey_set(fresh, PKEY_DISABLE_ACCESS);
    return fresh;
  }();
  return key;
}

size_t RoundUp(size_t bytes, size_t unit) { return (bytes + unit - 1) / unit * unit; }

}  // namespace

bool CanProtectDevice() { return Key() >= 0; }

DeviceAccess::DeviceAccess() {
  if (access_depth++ == 0 && Key() >= 0) pkey_set(Key(), 0);
}
DeviceAccess::~DeviceAccess() {
  if (--access_depth == 0 && Key() >= 0) pkey_set(Key(), PKEY_DISABLE_ACCESS);
}

int Memory::Allocate(size_t bytes, MemoryKind kind, int device, void** out) {
  *out = nullptr;
  if (bytes == 0) return cudaSuccess;
  const Config& config = CurrentConfig();
  const bool on_device = kind == MemoryKind::kDevice;
  if (on_device ? bytes > config.device_bytes - device_bytes_[device]
                : bytes > config.pinned_bytes - pinned_bytes_) {
    return cudaErrorMemoryAllocation;
  }
  const size_t body = RoundUp(bytes, kAlignment);
  const size_t usable = RoundUp(body, kPage);
  const size_t mapped = usable + 2 * kPage;
  void* const map =
      mmap(nullptr, mapped, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (map == MAP_FAILED) return cudaErrorMemoryAllocation;
  unsigned char* const low = static_cast<unsigned char*>(map) + kPage;
  mprotect(low, usable, PROT_READ | PROT_WRITE);
  unsigned char* const p = low + (usable - body);  // the end meets the guard page
  Poison(low, usable - body);
  Poison(p + bytes, body - bytes);
  if (on_device) {
    if (config.protect_device && Key() >= 0) {
      pkey_mprotect(low, usable, PROT_READ | PROT_WRITE, Key());
    }
    const DeviceAccess access;
    if (config.fill_with_nan) std::memset(p, 0xff, bytes);
    device_bytes_[device] += bytes;
  } else {
    pinned_bytes_ += bytes;
  }
  allocations_[reinterpret_cast<uintptr_t>(p)] = {bytes, kind, device, map, mapped};
  *out = p;
  return cudaSuccess;
}

int Memory::Free(void* p, MemoryKind kind) {
  if (p == nullptr) return cudaSuccess;
  const auto it = allocations_.find(reinterpret_cast<uintptr_t>(p));
  if (it == allocations_.end() || it->second.kind != kind) return cudaErrorInvalidValue;
  const Allocation& allocation = it->second;
  (kind == MemoryKind::kDevice ? device_bytes_[allocation.device] : pinned_bytes_) -=
      allocation.bytes;
  Unpoison(allocation.map, allocation.map_bytes);
  munmap(allocation.map, allocation.map_bytes);
  allocations_.erase(it);
  return cudaSuccess;
}

int Memory::Register(void* p, size_t bytes) {
  if (p == nullptr || bytes == 0) return cudaErrorInvalidValue;
  const auto begin = reinterpret_cast<uintptr_t>(p);
  const auto after = allocations_.lower_bound(begin);
  if (Find(p) != nullptr || (after != allocations_.end() && after->first < begin + bytes)) {
    return cudaErrorHostMemoryAlreadyRegistered;
  }
  if (bytes > CurrentConfig().pinned_bytes - pinned_bytes_) return cudaErrorMemoryAllocation;
  pinned_bytes_ += bytes;
  allocations_[begin] = {bytes, MemoryKind::kRegistered, 0, nullptr, 0};
  return cudaSuccess;
}

int Memory::Unregister(void* p) {
  const auto it = allocations_.find(reinterpret_cast<uintptr_t>(p));
  if (it == allocations_.end() || it->second.kind != MemoryKind::kRegistered) {
    return cudaErrorHostMemoryNotRegistered;
  }
  pinned_bytes_ -= it->second.bytes;
  allocations_.erase(it);
  return cudaSuccess;
}

void Memory::FreeAll() {
  for (const auto& [begin, allocation] : allocations_) {
    if (allocation.map == nullptr) continue;
    Unpoison(allocation.map, allocation.map_bytes);
    munmap(allocation.map, allocation.map_bytes);
  }
  allocations_.clear();
  device_bytes_.clear();
  pinned_bytes_ = 0;
}

const Allocation* Memory::Find(const void* p, size_t* offset) const {
  const auto address = reinterpret_cast<uintptr_t>(p);
  auto it = allocations_.upper_bound(address);
  if (it == allocations_.begin()) return nullptr;
  --it;
  if (address - it->first >= it->second.bytes) return nullptr;
  if (offset != nullptr) *offset = address - it->first;
  return &it->second;
}

size_t Memory::Count(MemoryKind kind) const {
  size_t count = 0;
  for (const auto& [begin, allocation] : allocations_) count += allocation.kind == kind;
  return count;
}

size_t Memory::device_bytes(int device) const {
  const auto it = device_bytes_.find(device);
  return it == device_bytes_.end() ? 0 : it->second;
}

}  // namespace cuda_emu
