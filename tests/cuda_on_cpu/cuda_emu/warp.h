// Barriers and warp functions. Called by CUDA threads only, i.e. inside a kernel.
//
// The n-th lane of a mask to arrive waits; the last one does the work for all and wakes them.
// Diagnosed: lanes of one warp that meet in different operations or source lines, a calling lane
// outside its mask, a shuffle that reads a lane which does not take part, a lane of the mask that
// exited, threads of one block in different __syncthreads.
#pragma once

#include <cstdint>
#include <cstring>
#include <type_traits>

#include "cuda_emu/site.h"

namespace cuda_emu {

inline constexpr uint32_t kFullMask = 0xffffffffu;

// bar.sync id, threads; threads 0: all of the block.
void BlockBarrier(int id, int threads, Site site);
// bar.arrive id, threads: counts for the barrier and goes on.
void BlockArrive(int id, int threads, Site site);
// __syncthreads that returns how many threads gave true.
int BlockBarrierCount(bool predicate, Site site);

enum class WarpOp { kSync, kShuffle, kVote, kReduce, kMatch, kMma, kLdmatrix };

// Runs once per operation with the argument records of the lanes in `mask`; others are undefined.
using WarpFunction = void (*)(void* const lanes[32], uint32_t mask);
// Meets the other lanes of `mask`; `function` may be null. aligned: a PTX .aligned instruction,
// which needs all 32 lanes.
void Collective(uint32_t mask, WarpOp op, bool aligned, WarpFunction function, void* lane,
                Site site);
void SyncWarp(uint32_t mask, Site site);

int Lane();
// What the emulation knows of convergence: a lane is converged with itself.
uint32_t ActiveMask();
// __threadfence_block, __threadfence, __threadfence_system.
enum class FenceScope { kBlock, kDevice, kSystem };
void Fence(FenceScope scope);
// Ends the kernel with cudaErrorLaunchFailure and a diagnostic.
[[noreturn]] void Trap(const char* what, Site site);

uint32_t Vote(uint32_t mask, bool predicate, Site site);
int ReduceAdd(uint32_t mask, int value, Site site);
int ReduceMax(uint32_t mask, int value, Site site);
int ReduceMin(uint32_t mask, int value, Site site);
uint32_t MatchAny(uint32_t mask, uint32_t value, Site site);

// `bits` of lane `source`; the caller's own if the source is not valid for it.
uint64_t Shuffle(uint32_t mask, uint64_t bits, int source, bool valid, Site site);

template <class T>
T ShuffleValue(uint32_t mask, T value, int source, bool valid, Site site) {
  static_assert(sizeof(T) <= 8 && std::is_trivially_copyable_v<T>);
  uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof(T));
  bits = Shuffle(mask, bits, source, valid, site);
  std::memcpy(&value, &bits, sizeof(T));
  return value;
}

}  // namespace cuda_emu

// NOLINTBEGIN(bugprone-reserved-identifier)
inline void __syncthreads(cuda_emu::Site site = cuda_emu::Site::Here()) {
  cuda_emu::BlockBarrier(0, 0, site);
}
inline int __syncthreads_count(int predicate, cuda_emu::Site site = cuda_emu::Site::Here()) {
  return cuda_emu::BlockBarrierCount(predicate != 0, site);
}
inline int __syncthreads_and(int predicate, cuda_emu::Site site = cuda_emu::Site::Here()) {
  return cuda_emu::BlockBarrierCount(predicate == 0, site) == 0;
}
inline int __syncthreads_or(int predicate, cuda_emu::Site site = cuda_emu::Site::Here()) {
  return cuda_emu::BlockBarrierCount(predicate != 0, site) != 0;
}
inline void __syncwarp(unsigned mask = cuda_emu::kFullMask,
                       cuda_emu::Site site = cuda_emu::Site::Here()) {
  cuda_emu::SyncWarp(mask, site);
}
inline void __threadfence_block() { cuda_emu::Fence(cuda_emu::FenceScope::kBlock); }
inline void __threadfence() { cuda_emu::Fence(cuda_emu::FenceScope::kDevice); }
inline void __threadfence_system() { cuda_emu::Fence(cuda_emu::FenceScope::kSystem); }
inline void __trap(cuda_emu::Site site = cuda_emu::Site::Here()) {
  cuda_emu::Trap("__trap()", site);
}

template <class T>
T __shfl_sync(unsigned mask, T value, int source, int width = 32,
              cuda_emu::Site site = cuda_emu::Site::Here()) {
  const int group = cuda_emu::Lane() & ~(width - 1);
  return cuda_emu::ShuffleValue(mask, value, group + (source & (width - 1)), true, site);
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int lanes, int width = 32,
                  cuda_emu::Site site = cuda_emu::Site::Here()) {
  const int lane = cuda_emu::Lane();
  const int source = lane ^ lanes;
  // A lane may read an earlier group of `width` lanes, never a later one.
  const bool valid = (source & ~(width - 1)) <= (lane & ~(width - 1));
  return cuda_emu::ShuffleValue(mask, value, source, valid, site);
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned lanes, int width = 32,
                   cuda_emu::Site site = cuda_emu::Site::Here()) {
  const int lane = cuda_emu::Lane();
  const int step = static_cast<int>(lanes);
  return cuda_emu::ShuffleValue(mask, value, lane + step, (lane & (width - 1)) + step < width,
                                site);
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned lanes, int width = 32,
                 cuda_emu::Site site = cuda_emu::Site::Here()) {
  const int lane = cuda_emu::Lane();
  const int step = static_cast<int>(lanes);
  return cuda_emu::ShuffleValue(mask, value, lane - step, (lane & (width - 1)) >= step, site);
}

inline unsigned __ballot_sync(unsigned mask, int predicate,
                              cuda_emu::Site site = cuda_emu::Site::Here()) {
  return cuda_emu::Vote(mask, predicate != 0, site);
}
inline int __any_sync(unsigned mask, int predicate, cuda_emu::Site site = cuda_emu::Site::Here()) {
  return cuda_emu::Vote(mask, predicate != 0, site) != 0;
}
inline int __all_sync(unsigned mask, int predicate, cuda_emu::Site site = cuda_emu::Site::Here()) {
  return cuda_emu::Vote(mask, predicate == 0, site) == 0;
}
inline unsigned __match_any_sync(unsigned mask, unsigned value,
                                 cuda_emu::Site site = cuda_emu::Site::Here()) {
  return cuda_emu::MatchAny(mask, value, site);
}
inline int __reduce_add_sync(unsigned mask, int value,
                             cuda_emu::Site site = cuda_emu::Site::Here()) {
  return cuda_emu::ReduceAdd(mask, value, site);
}
inline int __reduce_max_sync(unsigned mask, int value,
                             cuda_emu::Site site = cuda_emu::Site::Here()) {
  return cuda_emu::ReduceMax(mask, value, site);
}
inline int __reduce_min_sync(unsigned mask, int value,
                             cuda_emu::Site site = cuda_emu::Site::Here()) {
  return cuda_emu::ReduceMin(mask, value, site);
}
inline unsigned __activemask() { return cuda_emu::ActiveMask(); }
// NOLINTEND(bugprone-reserved-identifier)
