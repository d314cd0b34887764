#include "cuda_emu/block.h"

#include <cstdlib>
#include <cstring>
#include <map>
#include <utility>

#include "cuda_emu/accounting.h"
#include "cuda_emu/device.h"
#include "cuda_emu/diagnostic.h"
#include "cuda_emu/random.h"
#include "cuda_emu/runtime_types.h"
#include "cuda_emu/stack_switch.h"
#include "cuda_emu/thread_switch.h"

namespace cuda_emu {
namespace {

constexpr size_t kSharedAlignment = 1024;
constexpr int kAllGroups = 1 << 30;
// Offsets of stack tops: equal ones would put all stacks into the same sets of the L1 cache.
constexpr size_t kStackColours = 64, kStackStep = 704, kStackRange = 4096;

std::string IndexText(const uint3& i) {
  return "(" + std::to_string(i.x) + "," + std::to_string(i.y) + "," + std::to_string(i.z) + ")";
}

void ThreadExits(Block* block, Fiber* me) {
  LandCopies(me, kAllGroups);
  me->copy_group = 0;
  me->state = ThreadState::kDone;
  --block->live;
  Warp& warp = block->warps[static_cast<size_t>(me->warp)];
  warp.exited |= 1u << me->lane;
  Barrier& all = block->barriers[0];
  if (all.arrived != 0 && all.expected == 0) {
    // Hardware from Volta on lets the barrier complete without exited threads.
    if (CurrentConfig().strict) {
      KernelDiagnostic("a thread exited while others of its block wait at __syncthreads", all.site);
    }
    if (all.arrived == block->live) ReleaseBarrier(block, &all, nullptr);
  }
  for (Meeting& meeting : warp.meetings) {
    const uint32_t lanes = meeting.mask & warp.exist & ~warp.exited;
    if (!meeting.used || meeting.arrived != lanes || lanes == 0) continue;
    if (meeting.op != WarpOp::kSync) {
      KernelDiagnostic("a lane in the mask of a warp operation exited", meeting.site);
    }
    CompleteMeeting(block, me->warp, &meeting, lanes, nullptr, 0);
  }
}

void ThreadMain() {
  Block* const block = current_block;
#if defined(CUDA_EMU_ASAN)
  const void* bottom = nullptr;
  size_t bytes = 0;
  __sanitizer_finish_switch_fiber(nullptr, &bottom, &bytes);
  if (block->main.stack_bytes == 0) {  // the first switch tells where the OS thread's stack is
    block->main.stack = static_cast<unsigned char*>(const_cast<void*>(bottom));
    block->main.stack_bytes = bytes;
  }
#endif
  Grid* const grid = block->grid;
  Fiber* const me = block->current;
  const bool ordered = CurrentConfig().tsan_order_blocks;
  HappensAfter(&grid->start);
  if (ordered) HappensAfter(&grid->block_order);
  grid->body();
  ThreadExits(block, me);
  if (ordered) HappensBefore(&grid->block_order);
  HappensBefore(&grid->done);
  Fiber* next = PickThread(block);
  if (next == nullptr) {
    if (block->live != 0) {
      ReportDeadlock(*block);
      block->error = cudaErrorLaunchFailure;
    }
    next = &block->main;
  }
  SwitchThread(block, me, next, true);
  __builtin_unreachable();
}

void SetUpThreads(Block* block, FiberPool* pool) {
  const auto count = static_cast<size_t>(block->threads);
  std::vector<Fiber*> fibers(pool->fibers.begin(),
                             pool->fibers.begin() + static_cast<std::ptrdiff_t>(count));
  // Another context for "thread i" in each block, so that blocks are not ordered with one another.
  if (kTsan) Shuffled(&fibers, &block->random);
  const dim3& size = block->grid->threads;
  for (unsigned i = 0; i < count; ++i) {
    Fiber* const fiber = fibers[i];
    fiber->thread = {i % size.x, i / size.x % size.y, i / (size.x * size.y)};
    fiber->lane = static_cast<int>(i % kWarpLanes);
    fiber->warp = static_cast<int>(i / kWarpLanes);
    fiber->state = ThreadState::kReady;
    fiber->random = NextRandom(&block->random);
    fiber->copies.clear();
    fiber->copy_group = 0;
    const size_t colour = i % kStackColours * kStackStep % kStackRange;
    fiber->stack_pointer = PrepareStack(fiber->stack + fiber->stack_bytes - colour, ThreadMain);
  }
  block->fibers = std::move(fibers);
}

void SetUpWarps(Block* block) {
  block->warp_count = (block->threads + kWarpLanes - 1) / kWarpLanes;
  for (int w = 0; w < block->warp_count; ++w) {
    Warp& warp = block->warps[static_cast<size_t>(w)];
    warp.ready = warp.exited = 0;
    const int lanes = block->threads - w * kWarpLanes;
    warp.exist = lanes >= kWarpLanes ? kFullMask : (1u << lanes) - 1;
    for (Meeting& meeting : warp.meetings) meeting.used = false;
    warp.syncs.fill(WarpSync{});
    MakeReady(block, w, warp.exist);
  }
}

// A fresh heap block of exactly the size: ASan guards its ends, TSan knows no history of it.
void SetUpShared(Block* block) {
  block->shared = nullptr;
  block->shared_bytes = block->grid->shared_bytes;
  if (block->shared_bytes == 0) return;
  void* p = nullptr;
  if (posix_memalign(&p, kSharedAlignment, block->shared_bytes) != 0) std::abort();
  if (CurrentConfig().fill_with_nan) std::memset(p, 0xff, block->shared_bytes);
  block->shared = static_cast<unsigned char*>(p);
}

void SetUp(Block* block, Grid* grid, uint64_t index, FiberPool* pool) {
  const Config& config = CurrentConfig();
  block->grid = grid;
  block->threads = static_cast<int>(grid->threads.x * grid->threads.y * grid->threads.z);
  block->live = block->threads;
  block->order = config.thread_order;
  block->async_copies = config.async_copies;
  block->random = config.seed * 0x9e3779b97f4a7c15ull + index * 0x2545f4914f6cdd1dull + 1;
  block->error = 0;
  block->yields = 0;
  block->ready_warps = 0;
  block->current_warp = 0;
  for (auto& p : block->priority) p = static_cast<uint32_t>(NextRandom(&block->random));
  for (Barrier& barrier : block->barriers) barrier = Barrier{};
  block->index = {static_cast<unsigned>(index % grid->blocks.x),
                  static_cast<unsigned>(index / grid->blocks.x % grid->blocks.y),
                  static_cast<unsigned>(index / grid->blocks.x / grid->blocks.y)};
  SetUpThreads(block, pool);
  SetUpWarps(block);
  SetUpShared(block);
  block->statics.clear();
  if (kTsan) block->points = std::make_unique<BlockPoints>();
}

// Threads that never end: their stacks are forgotten. Kernels own nothing that needs a destructor.
void DropThreads(Block* block) {
  for (Fiber* fiber : block->fibers) {
    Unpoison(fiber->stack, fiber->stack_bytes);
    if (fiber->state != ThreadState::kDone && kTsan) {
      DropContext(fiber->context);
      fiber->context = NewContext();
    }
    fiber->fake_stack = nullptr;
    fiber->copies.clear();
  }
}

}  // namespace

void RunBlock(Block* block, Grid* grid, uint64_t index, FiberPool* pool) {
  {
    const TsanQuiet quiet;
    SetUp(block, grid, index, pool);
  }
  current_block = block;
  blockIdx = block->index;
  blockDim = grid->threads;
  gridDim = grid->blocks;
  block->main.context = RunningContext();
  block->main.stack_bytes = 0;
  SwitchThread(block, &block->main, PickThread(block), false);
  const TsanQuiet quiet;
  if (block->error != 0) DropThreads(block);
  current_block = nullptr;
  current_fiber = nullptr;
  FinishAccounting();
  Unpoison(block->shared, block->shared_bytes);
  std::free(block->shared);
  for (const StaticObject& object : block->statics) std::free(object.object);
  block->statics.clear();
  block->points.reset();
  ++block->counts.blocks;
}

void ReportDeadlock(const Block& block) {
  std::map<std::string, std::pair<int, int>> groups;  // where -> how many, the first
  for (int i = 0; i < block.threads; ++i) {
    const Fiber& fiber = *block.fibers[static_cast<size_t>(i)];
    std::string where = "exited";
    if (fiber.state == ThreadState::kAtBarrier) {
      where = "at block barrier " + fiber.waits_at.Text();
    } else if (fiber.state == ThreadState::kInWarp) {
      where = "at warp operation " + fiber.waits_at.Text();
    }
    auto& [count, first] = groups.try_emplace(where, 0, i).first->second;
    ++count;
  }
  std::string text = block.grid->name + " block " + IndexText(block.index) + ": no thread can run;";
  for (const auto& [where, group] : groups) {
    text += " " + std::to_string(group.first) + " threads " + where +
            " (first: " + std::to_string(group.second) + ");";
  }
  text.pop_back();
  AddDiagnostic("deadlock", text);
}

std::string WhoRuns() {
  if (current_block == nullptr) return "";
  return current_block->grid->name + " block " + IndexText(blockIdx) + " thread " +
         IndexText(threadIdx);
}

void KernelDiagnostic(const std::string& text, Site site) {
  const TsanQuiet quiet;
  std::string line = site.line == 0 ? text : site.Text() + ": " + text;
  if (current_block != nullptr) line += " [" + WhoRuns() + "]";
  AddDiagnostic("kernel", line);
}

}  // namespace cuda_emu
