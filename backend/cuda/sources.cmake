# The sources of this folder, weights/ and forward/, relative to it; compiled for the real library
# and for the one that tests/cuda_on_cpu runs. CudaBackend itself is apart: whoever links it decides
# which of its versions a program has.
set(SLUICE_CUDA_MODEL
  forward/control_buffer.cc
  forward/forward.cc
  forward/result_buffer.cc
  forward/step_tables.cc
  forward/token_sampler.cc
  forward/workspace.cc
  gemm_choice.cc
  stall_watch.cc
  step_check.cc
  step_runner.cc
  weights/device_weights.cc
  weights/weight_uploader.cc)
set(SLUICE_CUDA_BACKEND cuda_backend.cc device_probe.cc)
