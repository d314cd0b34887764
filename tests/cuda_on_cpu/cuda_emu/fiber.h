// Fiber: one CUDA thread, run on a stack of its own by the OS thread that runs its block.
#pragma once

#include <cstdint>
#include <vector>

#include "cuda_emu/site.h"
#include "cuda_emu/types.h"

namespace cuda_emu {

enum class ThreadState : uint8_t { kReady, kAtBarrier, kInWarp, kDone };

// A cp.async that has not landed.
struct PendingCopy {
  void* dst;
  const void* src;
  int bytes;
  int valid;
  int group;
};

struct alignas(64) Fiber {
  // What a switch touches: one cache line.
  void* stack_pointer = nullptr;
  uint3 thread{};
  int lane = 0;
  int warp = 0;
  ThreadState state = ThreadState::kReady;
  Site waits_at;

  unsigned char* stack = nullptr;  // lowest usable byte
  size_t stack_bytes = 0;
  void* context = nullptr;     // ThreadSanitizer's
  void* fake_stack = nullptr;  // AddressSanitizer's
  std::vector<PendingCopy> copies;
  int copy_group = 0;
  uint64_t random = 0;
};

// Stacks are reused. Under ThreadSanitizer a pool belongs to one stream: its contexts carry that
// stream's history, and lending them to another would order the two.
struct FiberPool {
  std::vector<Fiber*> fibers;
};

// A pool of at least `count` fibers, for kernels of `stream`.
FiberPool* TakeFibers(int count, const void* stream);
void GiveFibers(FiberPool* pool, const void* stream);
// Frees all pools that are not taken.
void DropFibers();

}  // namespace cuda_emu
