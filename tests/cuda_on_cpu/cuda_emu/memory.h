// Memory: what cudaMalloc, cudaHostAlloc and cudaHostRegister gave out.
//
// Device memory is ordinary memory with a protection key: host code that touches it faults at that
// very line, in every build, unless a DeviceAccess is in scope. (On a CPU without keys the check is
// off.) Each allocation ends at a guard page; under ASan the bytes up to 256 around it are
// poisoned.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>

namespace cuda_emu {

// Opens device memory to the calling OS thread.
class DeviceAccess {
 public:
  DeviceAccess();
  ~DeviceAccess();
  DeviceAccess(const DeviceAccess&) = delete;
  DeviceAccess& operator=(const DeviceAccess&) = delete;
};
// Whether this machine can protect device memory from the host.
bool CanProtectDevice();

enum class MemoryKind { kPinned, kRegistered, kDevice };

struct Allocation {
  size_t bytes = 0;
  MemoryKind kind{};
  int device = 0;
  void* map = nullptr;  // null if registered
  size_t map_bytes = 0;
};

// Not thread-safe: Machine locks it. Errors are cudaError values.
class Memory {
 public:
  // *out is null for zero bytes, as CUDA does it.
  int Allocate(size_t bytes, MemoryKind kind, int device, void** out);
  // REQUIRES: nothing reads or writes it any more.
  int Free(void* p, MemoryKind kind);
  int Register(void* p, size_t bytes);
  int Unregister(void* p);
  void FreeAll();

  // The allocation that holds p, or null; *offset: of p in it.
  const Allocation* Find(const void* p, size_t* offset = nullptr) const;
  size_t Count(MemoryKind kind) const;
  size_t device_bytes(int device) const;
  size_t pinned_bytes() const { return pinned_bytes_; }

 private:
  std::map<uintptr_t, Allocation> allocations_;
  std::map<int, size_t> device_bytes_;
  size_t pinned_bytes_ = 0;
};

}  // namespace cuda_emu
