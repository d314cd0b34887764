// Atomic functions: relaxed, as on the device. Order comes from fences and barriers only.
#pragma once

#include <bit>
#include <cstdint>
#include <type_traits>

namespace cuda_emu {

// Replaces *p by change(*p) in one step; returns the old value.
template <class T, class Change>
T AtomicUpdate(T* p, Change change) {
  using Word = std::conditional_t<sizeof(T) == 8, uint64_t,
                                  std::conditional_t<sizeof(T) == 4, uint32_t, uint16_t>>;
  static_assert(sizeof(T) == sizeof(Word));
  auto* word = reinterpret_cast<Word*>(p);
  Word old = __atomic_load_n(word, __ATOMIC_RELAXED);
  while (!__atomic_compare_exchange_n(word, &old,
                                      std::bit_cast<Word>(change(std::bit_cast<T>(old))), false,
                                      __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
  }
  return std::bit_cast<T>(old);
}

// A thread that polls lets others run: a spin on this value ends in a deadlock report otherwise.
void YieldThread();

}  // namespace cuda_emu

template <class T>
T atomicAdd(T* p, std::type_identity_t<T> v) {
  return cuda_emu::AtomicUpdate(p, [v](T old) { return static_cast<T>(old + v); });
}
template <class T>
T atomicSub(T* p, std::type_identity_t<T> v) {
  return cuda_emu::AtomicUpdate(p, [v](T old) { return static_cast<T>(old - v); });
}
template <class T>
T atomicMax(T* p, std::type_identity_t<T> v) {
  return cuda_emu::AtomicUpdate(p, [v](T old) { return old < v ? v : old; });
}
template <class T>
T atomicMin(T* p, std::type_identity_t<T> v) {
  return cuda_emu::AtomicUpdate(p, [v](T old) { return v < old ? v : old; });
}
template <class T>
T atomicOr(T* p, std::type_identity_t<T> v) {
  return cuda_emu::AtomicUpdate(p, [v](T old) { return static_cast<T>(old | v); });
}
template <class T>
T atomicAnd(T* p, std::type_identity_t<T> v) {
  return cuda_emu::AtomicUpdate(p, [v](T old) { return static_cast<T>(old & v); });
}
template <class T>
T atomicExch(T* p, std::type_identity_t<T> v) {
  return cuda_emu::AtomicUpdate(p, [v](T) { return v; });
}
template <class T>
T atomicCAS(T* p, std::type_identity_t<T> expected, std::type_identity_t<T> v) {
  return cuda_emu::AtomicUpdate(p, [=](T old) { return old == expected ? v : old; });
}
inline unsigned atomicInc(unsigned* p, unsigned limit) {
  return cuda_emu::AtomicUpdate(p, [limit](unsigned old) { return old >= limit ? 0u : old + 1; });
}

// NOLINTNEXTLINE(bugprone-reserved-identifier)
inline void __nanosleep(unsigned) { cuda_emu::YieldThread(); }
