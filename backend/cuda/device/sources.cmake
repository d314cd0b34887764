# The sources of this folder, relative to it; compiled for the real library and for the one that
# tests/cuda_on_cpu runs.
set(SLUICE_CUDA_DEVICE context.cc memory.cc numa.cc pinned_pool.cc pool_size.cc status.cc)
