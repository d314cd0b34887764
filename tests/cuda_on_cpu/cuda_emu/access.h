// NoteAccess: what a checked memory access tells the emulation before it happens.
//
// Only accesses through backend/cuda/gpu/memory.h, cp.async, ldmatrix and __ldg come here. Each is
// checked for alignment; with accounting on (control.h) its address is counted as well.
#pragma once

#include <cstddef>
#include <cstdint>

#include "cuda_emu/site.h"

namespace cuda_emu {

enum class Space { kGlobalRead, kGlobalWrite, kSharedRead, kSharedWrite, kLdmatrix };

inline bool accounting = false;

// Slow paths of NoteAccess.
void ReportMisaligned(const void* p, size_t alignment, Site site);
void CountAccess(Space space, const void* p, size_t bytes, Site site);

inline void NoteAccess(Space space, const void* p, size_t bytes, size_t alignment, Site site) {
  if (__builtin_expect((reinterpret_cast<uintptr_t>(p) & (alignment - 1)) != 0, 0)) {
    ReportMisaligned(p, alignment, site);
  }
  if (__builtin_expect(accounting, 0)) CountAccess(space, p, bytes, site);
}

}  // namespace cuda_emu
