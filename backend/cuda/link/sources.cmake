# The sources of this folder, relative to it; compiled for the real library and for the one that
# tests/cuda_on_cpu runs.
set(SLUICE_CUDA_LINK cuda_link.cc cuda_link_worker.cc link_lane.cc transfer_plan.cc)
