// Switching between the threads of a block: who is next, and going there.
#pragma once

#include "cuda_emu/block.h"

namespace cuda_emu {

// Takes the next ready thread, as the block's order says; null if there is none.
Fiber* PickThread(Block* block);
// Goes from one thread (or the OS thread's stack, block->main) to another.
// last: `from` never runs again.
void SwitchThread(Block* block, Fiber* from, Fiber* to, bool last);
// Diagnoses that no thread of the block can run: who waits where.
void ReportDeadlock(const Block& block);

}  // namespace cuda_emu
