// launch_shapes: the threads and the dynamic shared memory of each kernel that asks for any, as one
// JSON object per line: what ptxas does not know. Used by backend/cuda/ptx_check.py --launches.
#include <cstdio>
#include <cstdlib>
#include <string>

#include "backend/cuda/kernels/attention.h"
#include "backend/cuda/kernels/gemm.h"
#include "backend/cuda/kernels/mla_attention.h"
#include "cuda_emu/control.h"

namespace sluice::cuda {
namespace {

void Must(cudaError_t error) {
  if (error == cudaSuccess) return;
  std::fprintf(stderr, "launch_shapes: %s\n", cudaGetErrorString(error));
  std::exit(1);
}

// Prints what the launch of `detail` looks like when it runs.
class Printer {
 public:
  Printer() {
    cuda_emu::SetKernelCost([this](const cuda_emu::KernelLaunch& launch) {
      std::printf("{\"launch\": \"%s\", \"shape\": \"%s\", \"threads\": %u, \"shared\": %zu}\n",
                  launch.name, detail_.c_str(), launch.threads, launch.shared_bytes);
      return 1.0;
    });
    Must(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking));
  }
  ~Printer() {
    Must(cudaStreamDestroy(stream_));
    cuda_emu::SetKernelCost(nullptr);
  }
  Printer(const Printer&) = delete;
  Printer& operator=(const Printer&) = delete;

  template <class Launch>
  void Print(const std::string& detail, const Launch& launch) {
    detail_ = detail;
    Must(launch(stream_));
    Must(cudaStreamSynchronize(stream_));
  }

 private:
  std::string detail_;
  cudaStream_t stream_ = nullptr;
};

int Main() {
  Printer printer;
  // One item without queries: the kernel starts, finds nothing to do and ends.
  AttentionWork* works = nullptr;
  Must(cudaMalloc(&works, sizeof(AttentionWork)));
  const AttentionWork nothing;
  Must(cudaMemcpy(works, &nothing, sizeof(nothing), cudaMemcpyHostToDevice));
  for (const int dim : {32, 64, 80, 96, 128, 256}) {
    AttentionParams params;
    params.works = works;
    params.work_count = params.heads = params.kv_heads = 1;
    params.head_dim = dim;
    params.views[0].block_tokens = MakeFastDivisor(16);
    const std::string detail = "head_dim " + std::to_string(dim);
    printer.Print(detail, [&](cudaStream_t s) { return LaunchDecodeAttention(params, s); });
    printer.Print(detail, [&](cudaStream_t s) { return LaunchPrefillAttention(params, s); });
  }
  MlaAttentionParams mla;
  mla.works = works;
  mla.work_count = mla.heads = 1;
  printer.Print("latent 512 + 64", [&](cudaStream_t s) { return LaunchMlaAttention(mla, s); });
  Must(cudaFree(works));
  void* memory = nullptr;
  Must(cudaMalloc(&memory, 1 << 16));
  for (const int m : {16, 64}) {
    const GemmParams gemm{memory, 64, memory, nullptr, memory, false, m, 64, 64};
    printer.Print(std::to_string(m) + " rows", [&](cudaStream_t s) { return LaunchGemm(gemm, s); });
  }
  Must(cudaFree(memory));
  return 0;
}

}  // namespace
}  // namespace sluice::cuda

int main() { return sluice::cuda::Main(); }
