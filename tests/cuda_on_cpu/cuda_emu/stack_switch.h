// Stackful coroutines in fifteen instructions: save the callee-saved registers, swap stacks.
//
// swapcontext does the same with a system call per switch (ten times slower here); threads per CUDA
// thread are fifty times slower. x86-64 is tested; aarch64 follows the AAPCS64 and is not.
#pragma once

namespace cuda_emu {

// Stores the running stack's pointer in *save and goes on where `load` was stored.
extern "C" void cuda_emu_switch_stack(void** save, void* load);

// A stack pointer that, when first loaded, calls `entry`, which must not return.
// top: one past the highest usable byte.
void* PrepareStack(void* top, void (*entry)());

}  // namespace cuda_emu
