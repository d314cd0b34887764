#include "backend/cuda/kernels/gemm_engine.h"

#include "absl/strings/str_cat.h"
#include "backend/cuda/gpu/error.h"

namespace sluice::cuda {
namespace {

class PlainGemmEngine : public GemmEngine {
 public:
  std::string_view name() const override { return "plain"; }

  absl::Status Run(const GemmParams& params, cudaStream_t stream) override {
    return CudaStatus(LaunchGemm(params, stream),
                      absl::StrCat("gemm ", params.m, " x ", params.n, " x ", params.k));
  }
};

}  // namespace

std::unique_ptr<GemmEngine> MakePlainGemmEngine() { return std::make_unique<PlainGemmEngine>(); }

}  // namespace sluice::cuda
