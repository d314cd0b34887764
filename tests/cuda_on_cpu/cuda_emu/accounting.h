// Counting of sectors and bank conflicts per source line.
#pragma once

namespace cuda_emu {

// The end of a block: accesses of warps that never filled up are counted as they are.
void FinishAccounting();

}  // namespace cuda_emu
