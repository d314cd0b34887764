# The sources of this folder, relative to it; compiled for the real library and for the one that
# tests/cuda_on_cpu runs, in both together with the kernels.
set(SLUICE_CUDA_GPU error.cc)
