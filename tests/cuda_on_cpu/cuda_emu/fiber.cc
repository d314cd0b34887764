#include "cuda_emu/fiber.h"

#include <sys/mman.h>

#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <utility>

#include "cuda_emu/control.h"
#include "cuda_emu/sanitizer.h"

namespace cuda_emu {
namespace {

constexpr size_t kPage = 4096;
constexpr size_t kDefaultStack = kAsan || kTsan ? 256 << 10 : 64 << 10;

std::mutex pools_mutex;
// Never destroyed: LeakSanitizer sees the stacks as reachable.
auto& pools = *new std::vector<std::pair<const void*, FiberPool*>>;

Fiber* NewFiber() {
  auto* const fiber = new Fiber;
  const size_t asked = CurrentConfig().stack_bytes;
  const size_t bytes = asked == 0 ? kDefaultStack : (asked + kPage - 1) / kPage * kPage;
  void* const map = mmap(nullptr, bytes + kPage, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (map == MAP_FAILED) {
    std::perror("cuda_emu: no memory for the stack of a CUDA thread");
    std::abort();
  }
  mprotect(map, kPage, PROT_NONE);  // an overflow faults
  fiber->stack = static_cast<unsigned char*>(map) + kPage;
  fiber->stack_bytes = bytes;
  fiber->context = NewContext();
  return fiber;
}

const void* PoolKey(const void* stream) { return kTsan ? stream : nullptr; }

}  // namespace

FiberPool* TakeFibers(int count, const void* stream) {
  FiberPool* pool = nullptr;
  {
    const std::lock_guard<std::mutex> lock(pools_mutex);
    for (size_t i = 0; i < pools.size() && pool == nullptr; ++i) {
      if (pools[i].first != PoolKey(stream)) continue;
      pool = pools[i].second;
      pools.erase(pools.begin() + static_cast<std::ptrdiff_t>(i));
    }
  }
  if (pool == nullptr) pool = new FiberPool;
  while (static_cast<int>(pool->fibers.size()) < count) pool->fibers.push_back(NewFiber());
  return pool;
}

void GiveFibers(FiberPool* pool, const void* stream) {
  const std::lock_guard<std::mutex> lock(pools_mutex);
  pools.emplace_back(PoolKey(stream), pool);
}

void DropFibers() {
  const std::lock_guard<std::mutex> lock(pools_mutex);
  for (auto& [stream, pool] : pools) {
    for (Fiber* fiber : pool->fibers) {
      DropContext(fiber->context);
      Unpoison(fiber->stack, fiber->stack_bytes);
      munmap(fiber->stack - kPage, fiber->stack_bytes + kPage);
      delete fiber;
    }
    delete pool;
  }
  pools.clear();
}

}  // namespace cuda_emu
