// Block: one block of a grid while it runs. All its threads are fibers of one OS thread, so nothing
// here is locked; other blocks may run on other OS threads.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "cuda_emu/control.h"
#include "cuda_emu/fiber.h"
#include "cuda_emu/sanitizer.h"
#include "cuda_emu/warp.h"

namespace cuda_emu {

inline constexpr int kWarpLanes = 32;
inline constexpr int kMaxWarps = 32;
inline constexpr int kBarriers = 16;
// Warp operations of different masks that one warp may have under way.
inline constexpr int kMeetings = 8;

// A kernel launch as the engine sees it.
struct Grid {
  std::string name;
  dim3 blocks;
  dim3 threads;
  size_t shared_bytes = 0;
  std::function<void()> body;  // run once per CUDA thread
  const void* stream = nullptr;
  int error = 0;  // result: a cudaError
  SyncPoint start, done, block_order;
};

// Lanes of one warp that meet for an operation.
struct Meeting {
  bool used = false;
  bool mixed = false;  // lanes of different operations: nothing is done, results are undefined
  uint32_t mask = 0;
  uint32_t arrived = 0;
  WarpOp op{};
  Site site;
  std::array<void*, kWarpLanes> lanes;
};

// __syncwarp of one mask, for ThreadSanitizer: two points that take turns.
struct WarpSync {
  uint32_t mask = 0;
  uint32_t phase = 0;
};

struct Warp {
  uint32_t ready = 0;
  uint32_t exist = 0;
  uint32_t exited = 0;
  std::array<Meeting, kMeetings> meetings;
  std::array<WarpSync, kMeetings> syncs;
};

struct Barrier {
  int arrived = 0;
  int expected = 0;  // 0: all threads of the block
  uint64_t phase = 0;
  Site site;  // of the first to arrive
  int predicates = 0;
  std::array<int, 2> result{};  // of the last two phases
  std::array<uint32_t, kMaxWarps> waiting{};
};

struct StaticObject {
  const void* key;
  void* object;
};

// ThreadSanitizer's points of one block; fresh per block, so that they have no history.
struct BlockPoints {
  std::array<std::array<SyncPoint, 2>, kBarriers> barriers;
  std::array<std::array<std::array<SyncPoint, 2>, kMeetings>, kMaxWarps> warps;
};

struct Block {
  Grid* grid = nullptr;
  uint3 index{};
  int threads = 0;
  int live = 0;  // not exited
  int warp_count = 0;
  std::vector<Fiber*> fibers;
  std::array<Warp, kMaxWarps> warps;
  uint32_t ready_warps = 0;
  std::array<Barrier, kBarriers> barriers;
  int current_warp = 0;
  Fiber* current = nullptr;
  Fiber main;  // the OS thread's own stack

  ThreadOrder order{};
  AsyncCopies async_copies{};
  uint64_t random = 0;
  std::array<uint32_t, kMaxWarps> priority{};
  uint64_t yields = 0;

  int error = 0;  // not 0: given up
  unsigned char* shared = nullptr;
  size_t shared_bytes = 0;
  std::vector<StaticObject> statics;
  std::unique_ptr<BlockPoints> points;
  Counts counts;
};

// The block and the thread that this OS thread runs; null outside kernels.
inline thread_local Block* current_block = nullptr;
inline thread_local Fiber* current_fiber = nullptr;

// Runs block number `index` of the grid on the fibers of `pool`; block->error says how it went.
void RunBlock(Block* block, Grid* grid, uint64_t index, FiberPool* pool);

// ---- For operations of the running thread ------------------------------------------------------

// Lets others run until somebody makes this thread ready; ends the block if nobody can.
void Suspend(Block* block, Fiber* me);
// After a meeting that this thread completed: it may go on, others may go first.
void MaybeYield(Block* block, Fiber* me);
void MakeReady(Block* block, int warp, uint32_t lanes);
// Gives the block up: its launch fails with `error`.
[[noreturn]] void AbandonBlock(Block* block, int error);
// Ends all waits at a barrier; `me` is not made ready, it runs.
void ReleaseBarrier(Block* block, Barrier* barrier, const Fiber* me);
// Ends a meeting after running `function` for its lanes.
void CompleteMeeting(Block* block, int warp, Meeting* meeting, uint32_t lanes,
                     WarpFunction function, uint32_t self);
// Lands the copies of groups before `group`.
void LandCopies(Fiber* fiber, int group);
// "decode block (3,0,0) thread 17"; empty outside kernels.
std::string WhoRuns();
void KernelDiagnostic(const std::string& text, Site site);

}  // namespace cuda_emu
