// PTX instructions that backend/cuda/gpu/device.h wraps: mma, ldmatrix, cp.async; and the block's
// shared memory.
//
// Fragment layouts: PTX ISA, "Matrix Fragments for mma.m16n8k16", "... mma.m8n8k16 and m16n8k32"
// and "ldmatrix"; matrix_test states them a second time, as the strides published in CUTLASS.
#pragma once

#include <cstddef>
#include <cstdint>

#include "cuda_emu/site.h"

namespace cuda_emu {

// Types of the operands a and b; c and d are f32 (s32 for kS8).
enum class MmaType { kBf16, kF16, kS8 };

// mma.sync.aligned.row.col: m16n8k16 for 16-bit types, m16n8k32 for kS8. Per lane 4 words
// of a, 2 of b, 4 of c and d. d may be c.
void Mma(MmaType type, void* d, const uint32_t* a, const uint32_t* b, const void* c, Site site);

// ldmatrix.sync.aligned.m8n8.x{count}[.trans].shared.b16; row: this lane's row address.
void Ldmatrix(uint32_t* out, const void* row, int count, bool transposed, Site site);

// cp.async: `bytes` (4, 8 or 16) are written, of which `valid` come from src and the others are
// zero. Lands at once or at the wait, as Config::async_copies says.
void AsyncCopy(void* dst, const void* src, int bytes, int valid, Site site);
void AsyncCopyCommit();
// Waits until at most `keep` committed groups of this thread are under way.
void AsyncCopyWait(int keep);
// cp.async.wait_all: also what was not committed.
void AsyncCopyWaitAll();

// The block's dynamic shared memory; null if the launch asked for none.
unsigned char* DynamicShared();
size_t DynamicSharedBytes();
// The block's object of one declaration, identified by `key`; filled with NaN at first use.
void* StaticShared(const void* key, size_t bytes, size_t alignment);

}  // namespace cuda_emu
