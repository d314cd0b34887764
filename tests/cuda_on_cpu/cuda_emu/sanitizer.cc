#include "cuda_emu/sanitizer.h"

#include <cstring>

namespace cuda_emu {
namespace {

// Through volatile pointers, or the compiler would expand the calls in place, where
// AddressSanitizer does not see them.
void* (*volatile seen_memcpy)(void*, const void*, size_t) = &std::memcpy;
void* (*volatile seen_memset)(void*, int, size_t) = &std::memset;

// ThreadSanitizer's memcpy may be told to trust callers without instrumentation, which we are.
#if defined(CUDA_EMU_TSAN)
extern "C" void __tsan_read_range(void* address, unsigned long bytes);
extern "C" void __tsan_write_range(void* address, unsigned long bytes);
void SeeRead(const void* p, size_t bytes) { __tsan_read_range(const_cast<void*>(p), bytes); }
void SeeWrite(void* p, size_t bytes) { __tsan_write_range(p, bytes); }
#else
void SeeRead(const void*, size_t) {}
void SeeWrite(void*, size_t) {}
#endif

}  // namespace

void SeenCopy(void* dst, const void* src, size_t bytes) {
  if (bytes == 0) return;
  SeeRead(src, bytes);
  SeeWrite(dst, bytes);
  seen_memcpy(dst, src, bytes);
}
void SeenFill(void* dst, int value, size_t bytes) {
  if (bytes == 0) return;
  SeeWrite(dst, bytes);
  seen_memset(dst, value, bytes);
}

}  // namespace cuda_emu
