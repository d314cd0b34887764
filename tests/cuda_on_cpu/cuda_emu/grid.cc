#include "cuda_emu/grid.h"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <memory>
#include <numeric>
#include <thread>

#include "cuda_emu/access.h"
#include "cuda_emu/diagnostic.h"
#include "cuda_emu/machine.h"
#include "cuda_emu/memory.h"
#include "cuda_emu/random.h"
#include "cuda_emu/runtime_types.h"

namespace cuda_emu {
namespace {

constexpr uint64_t kBlockOrderSalt = 0xb10c;

std::vector<uint64_t> BlockOrder(const Grid& grid) {
  std::vector<uint64_t> order(size_t{grid.blocks.x} * grid.blocks.y * grid.blocks.z);
  std::iota(order.begin(), order.end(), 0);
  uint64_t random = CurrentConfig().seed ^ kBlockOrderSalt;
  if (CurrentConfig().shuffle_blocks) Shuffled(&order, &random);
  return order;
}

// The share of one OS thread: blocks from `next` on until none is left or one fails.
void RunBlocks(Grid* grid, const std::vector<uint64_t>& order, std::atomic<size_t>* next,
               std::atomic<int>* error) {
  const int threads = static_cast<int>(grid->threads.x * grid->threads.y * grid->threads.z);
  // Blocks in a row get different contexts, or the barriers of one would order the next.
  const size_t sets =
      kTsan ? static_cast<size_t>(std::clamp(CurrentConfig().tsan_contexts, 1, 8)) : 1;
  std::vector<FiberPool*> pools;
  std::unique_ptr<Block> block;
  {
    const TsanQuiet quiet;
    block = std::make_unique<Block>();
    for (size_t i = 0; i < std::min(sets, order.size()); ++i) {
      pools.push_back(TakeFibers(threads, grid->stream));
    }
  }
  while (*error == 0) {
    const size_t i = next->fetch_add(1, std::memory_order_relaxed);
    if (i >= order.size()) break;
    RunBlock(block.get(), grid, order[i], pools[i % pools.size()]);
    if (block->error != 0) *error = block->error;
  }
  const TsanQuiet quiet;
  AddCounts(block->counts);
  for (FiberPool* pool : pools) GiveFibers(pool, grid->stream);
  block.reset();
}

// Whether a thread of the program under test, other than the first, is about to run blocks: in the
// deterministic modes whoever waits does. CUDA threads read their indices from the storage of the
// thread they run on, and ThreadSanitizer counts the making of that storage, at the thread's start,
// as a write that nothing orders before the kernel. Announcing it would announce all else that the
// thread did, too, and hide its races; so a thread of ours runs the blocks, whose start is ordered.
bool OnForeignThread() {
  return kTsan && CurrentConfig().streams != Streams::kThreads && gettid() != getpid();
}

}  // namespace

void RunGrid(Grid* grid) {
  std::vector<uint64_t> order;
  {
    const TsanQuiet quiet;
    order = BlockOrder(*grid);
  }
  HappensBefore(&grid->start);
  std::atomic<size_t> next{0};
  std::atomic<int> error{0};
  const size_t wanted =
      accounting ? 1 : static_cast<size_t>(std::max(1, CurrentConfig().block_workers));
  const bool foreign = OnForeignThread();
  std::vector<std::thread> workers;
  for (size_t i = foreign ? 0 : 1; i < std::min(wanted, order.size()); ++i) {
    workers.emplace_back([&] {
      const DeviceAccess access;
      HappensBefore(&grid->start);  // this thread's own storage, which its fibers use
      RunBlocks(grid, order, &next, &error);
    });
  }
  if (!foreign) RunBlocks(grid, order, &next, &error);
  for (std::thread& worker : workers) worker.join();
  grid->error = error;
  HappensAfter(&grid->done);
}

// Fences of one scope synchronise with each other in the order in which they execute. That is more
// than the device promises: TSan misses some races, and reports none that are not there.
void Fence(FenceScope scope) {
  static SyncPoint points[3];
  SyncPoint* const point = &points[static_cast<int>(scope)];
  HappensAfter(point);
  HappensBefore(point);
  __atomic_thread_fence(__ATOMIC_SEQ_CST);
}

void Trap(const char* what, Site site) {
  KernelDiagnostic(what, site);
  AbandonBlock(current_block, cudaErrorLaunchFailure);
}

void ReportMisaligned(const void* p, size_t alignment, Site site) {
  KernelDiagnostic(
      "misaligned address: " + std::to_string(reinterpret_cast<uintptr_t>(p) % alignment) +
          " bytes past a multiple of " + std::to_string(alignment),
      site);
  if (current_block != nullptr) AbandonBlock(current_block, cudaErrorMisalignedAddress);
}

}  // namespace cuda_emu
