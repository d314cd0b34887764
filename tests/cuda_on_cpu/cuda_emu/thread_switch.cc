#include "cuda_emu/thread_switch.h"

#include <bit>

#include "cuda_emu/device.h"
#include "cuda_emu/diagnostic.h"
#include "cuda_emu/random.h"
#include "cuda_emu/runtime_types.h"
#include "cuda_emu/stack_switch.h"

namespace cuda_emu {
namespace {

// Yields in a row without any other progress, after which a spinning block is called stuck.
constexpr uint64_t kMaxYields = 1 << 22;
// kPriority draws new priorities once in so many picks, on average.
constexpr uint64_t kPriorityPeriod = 256;

// A random bit that is set in `mask`.
int RandomBit(uint32_t mask, uint64_t* random) {
  const int turn = static_cast<int>(NextRandom(random) & 31);
  return (std::countr_zero(std::rotr(mask, turn)) + turn) & 31;
}

Fiber* TakeThread(Block* block, int warp, int lane) {
  Warp& w = block->warps[static_cast<size_t>(warp)];
  w.ready &= ~(1u << lane);
  if (w.ready == 0) block->ready_warps &= ~(1u << warp);
  return block->fibers[static_cast<size_t>(warp * kWarpLanes + lane)];
}

uint32_t ReadyLanes(const Block& block, int warp) {
  return block.warps[static_cast<size_t>(warp)].ready;
}

// The next warp in cyclic order that has a ready lane.
Fiber* PickInOrder(Block* block) {
  int warp = block->current_warp;
  if (ReadyLanes(*block, warp) == 0) {
    const uint32_t later = warp == 31 ? 0 : block->ready_warps & ~((2u << warp) - 1);
    warp = std::countr_zero(later != 0 ? later : block->ready_warps);
  }
  return TakeThread(block, warp, std::countr_zero(ReadyLanes(*block, warp)));
}

Fiber* PickRandomThread(Block* block) {
  const int warp = RandomBit(block->ready_warps, &block->random);
  return TakeThread(block, warp, RandomBit(ReadyLanes(*block, warp), &block->random));
}

Fiber* PickByPriority(Block* block) {
  if (NextRandom(&block->random) % kPriorityPeriod == 0) {
    for (auto& p : block->priority) p = static_cast<uint32_t>(NextRandom(&block->random));
  }
  int best = -1;
  for (uint32_t left = block->ready_warps; left != 0; left &= left - 1) {
    const int warp = std::countr_zero(left);
    if (best < 0 ||
        block->priority[static_cast<size_t>(warp)] > block->priority[static_cast<size_t>(best)]) {
      best = warp;
    }
  }
  return TakeThread(block, best, RandomBit(ReadyLanes(*block, best), &block->random));
}

}  // namespace

Fiber* PickThread(Block* block) {
  if (block->ready_warps == 0) return nullptr;
  switch (block->order) {
    case ThreadOrder::kInOrder:
      return PickInOrder(block);
    case ThreadOrder::kReverse: {
      const int warp = 31 - std::countl_zero(block->ready_warps);
      return TakeThread(block, warp, 31 - std::countl_zero(ReadyLanes(*block, warp)));
    }
    case ThreadOrder::kRandom:
      return PickRandomThread(block);
    case ThreadOrder::kPriority:
      break;
  }
  return PickByPriority(block);
}

void SwitchThread(Block* block, Fiber* from, Fiber* to, [[maybe_unused]] bool last) {
  ++block->counts.switches;
  block->current = to;
  if (to != &block->main) {
    block->current_warp = to->warp;
    threadIdx = to->thread;
    current_fiber = to;
  }
  EnterContext(to->context);
#if defined(CUDA_EMU_ASAN)
  __sanitizer_start_switch_fiber(last ? nullptr : &from->fake_stack, to->stack, to->stack_bytes);
#endif
  cuda_emu_switch_stack(&from->stack_pointer, to->stack_pointer);
#if defined(CUDA_EMU_ASAN)
  const void* bottom = nullptr;
  size_t bytes = 0;
  __sanitizer_finish_switch_fiber(from->fake_stack, &bottom, &bytes);
#endif
}

void MakeReady(Block* block, int warp, uint32_t lanes) {
  if (lanes == 0) return;
  block->warps[static_cast<size_t>(warp)].ready |= lanes;
  block->ready_warps |= 1u << warp;
}

void AbandonBlock(Block* block, int error) {
  block->error = error;
  SwitchThread(block, block->current, &block->main, true);
  __builtin_unreachable();
}

void Suspend(Block* block, Fiber* me) {
  Fiber* const next = PickThread(block);
  if (next == me) {
    block->current = me;
    return;
  }
  if (next == nullptr) {
    ReportDeadlock(*block);
    AbandonBlock(block, cudaErrorLaunchFailure);
  }
  SwitchThread(block, me, next, false);
}

void MaybeYield(Block* block, Fiber* me) {
  block->yields = 0;
  if (block->order == ThreadOrder::kInOrder) return;
  MakeReady(block, me->warp, 1u << me->lane);
  Suspend(block, me);
}

void YieldThread() {
  Block* const block = current_block;
  if (++block->yields > kMaxYields) {
    KernelDiagnostic("the threads of a block spin without end", Site{});
    AbandonBlock(block, cudaErrorLaunchTimeout);
  }
  // Another thread if there is one, drawn at random: an order by number could starve one.
  if (block->ready_warps == 0) return;
  Fiber* const me = block->current;
  Fiber* const next = PickRandomThread(block);
  MakeReady(block, me->warp, 1u << me->lane);
  SwitchThread(block, me, next, false);
}

}  // namespace cuda_emu
