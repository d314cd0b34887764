// RunGrid: all blocks of one kernel launch.
#pragma once

#include "cuda_emu/block.h"

namespace cuda_emu {

// Runs the grid's blocks, on Config::block_workers OS threads; sets grid->error.
// Called with device memory accessible.
void RunGrid(Grid* grid);

}  // namespace cuda_emu
