// cp.async, and the block's shared memory.
#include <cstdlib>
#include <cstring>

#include "cuda_emu/access.h"
#include "cuda_emu/block.h"
#include "cuda_emu/instruction.h"
#include "cuda_emu/random.h"

namespace cuda_emu {
namespace {

void Land(const PendingCopy& copy) {
  const auto valid = static_cast<size_t>(copy.valid);
  SeenCopy(copy.dst, copy.src, valid);
  SeenFill(static_cast<unsigned char*>(copy.dst) + valid, 0,
           static_cast<size_t>(copy.bytes) - valid);
}

bool LandsAtOnce(Block* block, Fiber* me) {
  switch (block->async_copies) {
    case AsyncCopies::kEarly:
      return true;
    case AsyncCopies::kLate:
      return false;
    case AsyncCopies::kRandom:
      break;
  }
  return (NextRandom(&me->random) & 1) != 0;
}

}  // namespace

void LandCopies(Fiber* fiber, int group) {
  size_t count = 0;
  while (count < fiber->copies.size() && fiber->copies[count].group < group) ++count;
  for (size_t i = 0; i < count; ++i) Land(fiber->copies[i]);
  fiber->copies.erase(fiber->copies.begin(),
                      fiber->copies.begin() + static_cast<std::ptrdiff_t>(count));
}

void AsyncCopy(void* dst, const void* src, int bytes, int valid, Site site) {
  const auto size = static_cast<size_t>(bytes);
  if (valid != 0) NoteAccess(Space::kGlobalRead, src, static_cast<size_t>(valid), size, site);
  NoteAccess(Space::kSharedWrite, dst, size, size, site);
  Fiber* const me = current_fiber;
  ++current_block->counts.async_copies;
  const PendingCopy copy{dst, src, bytes, valid, me->copy_group};
  if (LandsAtOnce(current_block, me)) {
    Land(copy);
  } else {
    me->copies.push_back(copy);
  }
}

void AsyncCopyCommit() { ++current_fiber->copy_group; }
void AsyncCopyWait(int keep) { LandCopies(current_fiber, current_fiber->copy_group - keep); }
void AsyncCopyWaitAll() { LandCopies(current_fiber, current_fiber->copy_group + 1); }

unsigned char* DynamicShared() { return current_block->shared; }
size_t DynamicSharedBytes() { return current_block->shared_bytes; }

void* StaticShared(const void* key, size_t bytes, size_t alignment) {
  const TsanQuiet quiet;
  for (const StaticObject& object : current_block->statics) {
    if (object.key == key) return object.object;
  }
  void* p = nullptr;
  if (posix_memalign(&p, alignment < 16 ? 16 : alignment, bytes) != 0) std::abort();
  if (CurrentConfig().fill_with_nan) std::memset(p, 0xff, bytes);
  current_block->statics.push_back({key, p});
  return p;
}

}  // namespace cuda_emu
