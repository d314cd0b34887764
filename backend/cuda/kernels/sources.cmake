# The sources of this folder, relative to it. Compiled by nvcc for the real library and as C++ for
# the one that tests/cuda_on_cpu runs.
set(SLUICE_CUDA_KERNELS
  attention_decode.cu
  attention_merge.cu
  attention_plan.cc
  attention_prefill.cu
  embedding.cu
  fp8_product.cc
  gated_activation.cu
  gemm.cu
  gemm_engine.cc
  kv_transfer.cu
  logits.cu
  mla_attention.cu
  pick_logits.cu
  quantize_rows.cu
  rms_norm.cu
  rope_kv_write.cu
  sampling.cu
  scale_product.cu)
# Need cuBLASLt of the toolkit: the real library only.
set(SLUICE_CUDA_KERNELS_CUBLASLT cublaslt_gemm.cc)
