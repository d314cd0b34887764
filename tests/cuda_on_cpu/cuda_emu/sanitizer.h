// What the emulation tells the sanitizers. The library itself is never instrumented.
//
// ThreadSanitizer sees each CUDA thread and each stream as a context of its own ("fiber").
// Switching between contexts orders nothing; only what CUDA orders is announced, with HappensAfter
// and HappensBefore. The emulation's own locks and tables are invisible: they run in TsanQuiet
// scopes.
//
// Learnt the hard way: a sync object covers 8 bytes, so two must never share a word; TSan drops
// explicit acquire and release inside an ignore scope; contexts carry the history of their stream,
// so they are never lent to another; memory must be freed inside a quiet scope.
#pragma once

#include <cstddef>
#include <cstdint>

#if defined(CUDA_EMU_TSAN)
extern "C" {
void* __tsan_get_current_fiber(void);
void* __tsan_create_fiber(unsigned flags);
void __tsan_destroy_fiber(void* fiber);
void __tsan_switch_to_fiber(void* fiber, unsigned flags);
void __tsan_acquire(void* address);
void __tsan_release(void* address);
void AnnotateIgnoreSyncBegin(const char* file, int line);
void AnnotateIgnoreSyncEnd(const char* file, int line);
void AnnotateIgnoreReadsBegin(const char* file, int line);
void AnnotateIgnoreReadsEnd(const char* file, int line);
void AnnotateIgnoreWritesBegin(const char* file, int line);
void AnnotateIgnoreWritesEnd(const char* file, int line);
}
#endif
#if defined(CUDA_EMU_ASAN)
extern "C" {
void __sanitizer_start_switch_fiber(void** fake_stack, const void* bottom, size_t size);
void __sanitizer_finish_switch_fiber(void* fake_stack, const void** bottom, size_t* size);
void __asan_poison_memory_region(void const volatile* address, size_t size);
void __asan_unpoison_memory_region(void const volatile* address, size_t size);
}
#endif

namespace cuda_emu {

#if defined(CUDA_EMU_ASAN)
inline constexpr bool kAsan = true;
inline void Poison(const void* p, size_t bytes) { __asan_poison_memory_region(p, bytes); }
inline void Unpoison(const void* p, size_t bytes) { __asan_unpoison_memory_region(p, bytes); }
#else
inline constexpr bool kAsan = false;
inline void Poison(const void*, size_t) {}
inline void Unpoison(const void*, size_t) {}
#endif

// Where one context releases and others acquire. Alone in its word.
struct alignas(8) SyncPoint {
  uint64_t word = 0;
};

#if defined(CUDA_EMU_TSAN)
inline constexpr bool kTsan = true;

// Depth of quiet scopes of the running context. Code that switches contexts saves and restores it.
inline thread_local int quiet_depth = 0;

inline void BeginQuiet() {
  AnnotateIgnoreReadsBegin("", 0);
  AnnotateIgnoreWritesBegin("", 0);
  AnnotateIgnoreSyncBegin("", 0);
}
inline void EndQuiet() {
  AnnotateIgnoreSyncEnd("", 0);
  AnnotateIgnoreWritesEnd("", 0);
  AnnotateIgnoreReadsEnd("", 0);
}
// What happens inside is neither checked nor does it order anything.
struct TsanQuiet {
  TsanQuiet() {
    if (quiet_depth++ == 0) BeginQuiet();
  }
  ~TsanQuiet() {
    if (--quiet_depth == 0) EndQuiet();
  }
};
// Lifts all quiet scopes: the code of the program under test runs inside.
struct TsanLoud {
  int saved;
  TsanLoud() : saved(quiet_depth) {
    if (saved != 0) EndQuiet();
    quiet_depth = 0;
  }
  ~TsanLoud() {
    if (saved != 0) BeginQuiet();
    quiet_depth = saved;
  }
};
// What ran before HappensBefore(p) is ordered before what runs after HappensAfter(p).
inline void HappensBefore(SyncPoint* p) {
  if (quiet_depth != 0) AnnotateIgnoreSyncEnd("", 0);
  __tsan_release(&p->word);
  if (quiet_depth != 0) AnnotateIgnoreSyncBegin("", 0);
}
inline void HappensAfter(SyncPoint* p) {
  if (quiet_depth != 0) AnnotateIgnoreSyncEnd("", 0);
  __tsan_acquire(&p->word);
  if (quiet_depth != 0) AnnotateIgnoreSyncBegin("", 0);
}
inline void* NewContext() { return __tsan_create_fiber(0); }
inline void* RunningContext() { return __tsan_get_current_fiber(); }
inline void DropContext(void* context) {
  if (context != nullptr) __tsan_destroy_fiber(context);
}
inline void EnterContext(void* context) { __tsan_switch_to_fiber(context, 1 /* orders nothing */); }
#else
inline constexpr bool kTsan = false;
struct TsanQuiet {
  TsanQuiet() {}
  ~TsanQuiet() {}
};
struct TsanLoud {
  TsanLoud() {}
  ~TsanLoud() {}
};
inline void HappensBefore(SyncPoint*) {}
inline void HappensAfter(SyncPoint*) {}
inline void* NewContext() { return nullptr; }
inline void* RunningContext() { return nullptr; }
inline void DropContext(void*) {}
inline void EnterContext(void*) {}
#endif

// Runs the rest of its scope as `context`: a stream's operation on whichever thread executes it.
class ContextScope {
 public:
  explicit ContextScope([[maybe_unused]] void* context) {
#if defined(CUDA_EMU_TSAN)
    if (context == nullptr) return;
    back_ = RunningContext();
    depth_ = quiet_depth;
    EnterContext(context);
    quiet_depth = 0;
#endif
  }
  ~ContextScope() {
#if defined(CUDA_EMU_TSAN)
    if (back_ == nullptr) return;
    EnterContext(back_);
    quiet_depth = depth_;
#endif
  }
  ContextScope(const ContextScope&) = delete;
  ContextScope& operator=(const ContextScope&) = delete;

 private:
#if defined(CUDA_EMU_TSAN)
  void* back_ = nullptr;
  int depth_ = 0;
#endif
};

// memcpy and memset whose bytes the sanitizers check.
void SeenCopy(void* dst, const void* src, size_t bytes);
void SeenFill(void* dst, int value, size_t bytes);

}  // namespace cuda_emu
