#include "cuda_emu/stack_switch.h"

#include <cstdint>

// The switches end in `ret`: an indirect jump would defeat the return predictor.
#if defined(__x86_64__)
asm(R"(
.text
.p2align 4
.globl cuda_emu_switch_stack
.hidden cuda_emu_switch_stack
.type cuda_emu_switch_stack,@function
cuda_emu_switch_stack:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size cuda_emu_switch_stack,.-cuda_emu_switch_stack
)");

void* cuda_emu::PrepareStack(void* top, void (*entry)()) {
  constexpr int kSavedRegisters = 6;
  auto** p = reinterpret_cast<void**>(reinterpret_cast<uintptr_t>(top) & ~uintptr_t{15});
  *--p = nullptr;  // entry's return address: never used, ends unwinding
  *--p = reinterpret_cast<void*>(entry);
  for (int i = 0; i < kSavedRegisters; ++i) *--p = nullptr;
  return p;
}
#elif defined(__aarch64__)
asm(R"(
.text
.p2align 2
.globl cuda_emu_switch_stack
.hidden cuda_emu_switch_stack
.type cuda_emu_switch_stack,%function
cuda_emu_switch_stack:
  sub sp, sp, #160
  stp x19, x20, [sp, #0]
  stp x21, x22, [sp, #16]
  stp x23, x24, [sp, #32]
  stp x25, x26, [sp, #48]
  stp x27, x28, [sp, #64]
  stp x29, x30, [sp, #80]
  stp d8, d9, [sp, #96]
  stp d10, d11, [sp, #112]
  stp d12, d13, [sp, #128]
  stp d14, d15, [sp, #144]
  mov x9, sp
  str x9, [x0]
  mov sp, x1
  ldp x19, x20, [sp, #0]
  ldp x21, x22, [sp, #16]
  ldp x23, x24, [sp, #32]
  ldp x25, x26, [sp, #48]
  ldp x27, x28, [sp, #64]
  ldp x29, x30, [sp, #80]
  ldp d8, d9, [sp, #96]
  ldp d10, d11, [sp, #112]
  ldp d12, d13, [sp, #128]
  ldp d14, d15, [sp, #144]
  add sp, sp, #160
  ret
)");

void* cuda_emu::PrepareStack(void* top, void (*entry)()) {
  constexpr int kFrameBytes = 160;
  constexpr int kLinkRegister = 11;  // x30, in 8-byte words
  auto* p = reinterpret_cast<uint64_t*>((reinterpret_cast<uintptr_t>(top) & ~uintptr_t{15}) -
                                        kFrameBytes);
  for (int i = 0; i < kFrameBytes / 8; ++i) p[i] = 0;
  p[kLinkRegister] = reinterpret_cast<uint64_t>(entry);
  return p;
}
#else
#error "cuda_emu: no stack switch for this architecture"
#endif
