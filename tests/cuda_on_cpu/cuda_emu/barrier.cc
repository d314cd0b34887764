// Barriers of a block: __syncthreads and its kin, bar.sync, bar.arrive.
#include "cuda_emu/block.h"
#include "cuda_emu/warp.h"

namespace cuda_emu {
namespace {

[[maybe_unused]] SyncPoint* Point(Block* block, int id, uint64_t phase) {
  return kTsan ? &block->points->barriers[static_cast<size_t>(id)][phase & 1] : nullptr;
}

// Counts one arrival; true if it was the last.
bool Arrive(Block* block, int id, int threads, int predicate, Site site) {
  Barrier& barrier = block->barriers[static_cast<size_t>(id)];
  if (barrier.arrived == 0) {
    barrier.site = site;
    barrier.expected = threads;
  } else if (barrier.expected != threads || (id == 0 && !barrier.site.SameLine(site))) {
    KernelDiagnostic(
        "threads of one block meet in different barriers: others wait at " + barrier.site.Text(),
        site);
  }
  HappensBefore(Point(block, id, barrier.phase));
  barrier.predicates += predicate;
  return ++barrier.arrived == (threads != 0 ? threads : block->live);
}

int MeetAtBarrier(int id, int threads, int predicate, Site site) {
  Block* const block = current_block;
  Fiber* const me = current_fiber;
  Barrier& barrier = block->barriers[static_cast<size_t>(id)];
  const uint64_t phase = barrier.phase;
  if (Arrive(block, id, threads, predicate, site)) {
    ReleaseBarrier(block, &barrier, me);
    MaybeYield(block, me);
  } else {
    barrier.waiting[static_cast<size_t>(me->warp)] |= 1u << me->lane;
    me->state = ThreadState::kAtBarrier;
    me->waits_at = site;
    Suspend(block, me);
    me->state = ThreadState::kReady;
  }
  HappensAfter(Point(block, id, phase));
  return barrier.result[phase & 1];
}

}  // namespace

void ReleaseBarrier(Block* block, Barrier* barrier, const Fiber* me) {
  ++block->counts.block_barriers;
  barrier->arrived = 0;
  barrier->result[barrier->phase & 1] = barrier->predicates;
  barrier->predicates = 0;
  ++barrier->phase;
  for (int w = 0; w < block->warp_count; ++w) {
    uint32_t lanes = barrier->waiting[static_cast<size_t>(w)];
    barrier->waiting[static_cast<size_t>(w)] = 0;
    if (me != nullptr && w == me->warp) lanes &= ~(1u << me->lane);
    MakeReady(block, w, lanes);
  }
}

void BlockBarrier(int id, int threads, Site site) { MeetAtBarrier(id, threads, 0, site); }

int BlockBarrierCount(bool predicate, Site site) {
  return MeetAtBarrier(0, 0, predicate ? 1 : 0, site);
}

void BlockArrive(int id, int threads, Site site) {
  Block* const block = current_block;
  if (Arrive(block, id, threads, 0, site)) {
    ReleaseBarrier(block, &block->barriers[static_cast<size_t>(id)], current_fiber);
    MaybeYield(block, current_fiber);
  }
}

}  // namespace cuda_emu
