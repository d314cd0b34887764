#include "backend/cuda/kernels/cublaslt_gemm.h"

#include <cublasLt.h>

#include <map>
#include <optional>
#include <tuple>
#include <utility>

#include "absl/strings/str_cat.h"
#include "backend/cuda/gpu/error.h"
#include "backend/cuda/kernels/fp8_product.h"
#include "scheduler/base/status_macros.h"

namespace sluice::cuda {
namespace {

constexpr size_t kMostShapes = 4096;
constexpr int kLeastFp8Capability = 89;  // sm_89

absl::Status ToStatus(cublasStatus_t status, const char* what) {
  if (status == CUBLAS_STATUS_SUCCESS) return absl::OkStatus();
  return absl::InternalError(absl::StrCat("cublaslt: ", what, ": ", cublasLtGetStatusName(status),
                                          ": ", cublasLtGetStatusString(status)));
}

template <class T, cublasStatus_t (*kDestroy)(T)>
struct Owned {
  T value = nullptr;
  Owned() = default;
  Owned(const Owned&) = delete;
  Owned& operator=(const Owned&) = delete;
  ~Owned() {
    if (value != nullptr) kDestroy(value);
  }
};
using Operation = Owned<cublasLtMatmulDesc_t, cublasLtMatmulDescDestroy>;
using Layout = Owned<cublasLtMatrixLayout_t, cublasLtMatrixLayoutDestroy>;
using Preference = Owned<cublasLtMatmulPreference_t, cublasLtMatmulPreferenceDestroy>;

// cuBLAS thinks in columns: our row-major c [m][n] is its n x m matrix, the product of the
// transposed weights (k x n, stored as [n][k]) and of a (k x m, stored as [m][k]). That is also the
// only arrangement in which it multiplies E4M3; without scales of its own, to floats.
struct Product {
  Operation operation;
  Layout weights, input, output;

  // `p` is of halves, or (p.b_scales) of dense codes on both sides, p.c then being float.
  absl::Status Describe(const GemmParams& p) {
    cudaDataType_t half = p.half == HalfType::kBf16 ? CUDA_R_16BF : CUDA_R_16F;
    if (p.b_scales != nullptr) half = CUDA_R_8F_E4M3;
    const auto m = static_cast<uint64_t>(p.m);
    const auto n = static_cast<uint64_t>(p.n);
    const auto k = static_cast<uint64_t>(p.k);
    SLUICE_RETURN_IF_ERROR(ToStatus(
        cublasLtMatmulDescCreate(&operation.value, CUBLAS_COMPUTE_32F, CUDA_R_32F), "operation"));
    SLUICE_RETURN_IF_ERROR(Set(CUBLASLT_MATMUL_DESC_TRANSA, CUBLAS_OP_T));
    if (p.bias != nullptr) {
      SLUICE_RETURN_IF_ERROR(Set(CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_EPILOGUE_BIAS));
      SLUICE_RETURN_IF_ERROR(Set(CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, half));
      SLUICE_RETURN_IF_ERROR(Set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, p.bias));
    }
    SLUICE_RETURN_IF_ERROR(ToStatus(cublasLtMatrixLayoutCreate(&weights.value, half, k, n, p.k),
                                    "layout of the weights"));
    SLUICE_RETURN_IF_ERROR(ToStatus(
        cublasLtMatrixLayoutCreate(&input.value, half, k, m, p.a_stride), "layout of the input"));
    return ToStatus(
        cublasLtMatrixLayoutCreate(&output.value, p.float_out ? CUDA_R_32F : half, n, m, p.n),
        "layout of the output");
  }

 private:
  template <class T>
  absl::Status Set(cublasLtMatmulDescAttributes_t attribute, const T& value) {
    return ToStatus(
        cublasLtMatmulDescSetAttribute(operation.value, attribute, &value, sizeof(value)),
        "attribute of the operation");
  }
};

class CublasLtGemmEngine : public GemmEngine {
 public:
  ~CublasLtGemmEngine() override {
    if (workspace_ != nullptr) static_cast<void>(cudaFree(workspace_));
    if (handle_ != nullptr) cublasLtDestroy(handle_);
  }

  absl::Status Start(Bytes workspace) {
    SLUICE_RETURN_IF_ERROR(ToStatus(cublasLtCreate(&handle_), "start"));
    const cudaError_t error = cudaMalloc(&workspace_, workspace.size());
    if (error != cudaSuccess) {
      workspace_ = nullptr;
      return CudaStatus(error,
                        absl::StrCat("cublaslt: want ", workspace.value(), " bytes of workspace"));
    }
    workspace_bytes_ = workspace.size();
    return absl::OkStatus();
  }

  std::string_view name() const override { return "cublaslt"; }

  absl::Status Run(const GemmParams& params, cudaStream_t stream) override {
    if (params.m == 0 || params.n == 0) return absl::OkStatus();
    if (params.k == 0) return plain_->Run(params, stream);
    if (params.b_scales != nullptr) return RunFp8(params, stream);
    Product product;
    SLUICE_RETURN_IF_ERROR(product.Describe(params));
    SLUICE_ASSIGN_OR_RETURN(const cublasLtMatmulAlgo_t* algorithm, Algorithm(params, product));
    if (algorithm == nullptr) return plain_->Run(params, stream);
    return Multiply(params, product, algorithm, stream);
  }

  absl::Status ReserveFp8(int32_t rows, int32_t k, int32_t n) override {
    int device = 0;
    int major = 0;
    int minor = 0;
    SLUICE_RETURN_IF_ERROR(CudaStatus(cudaGetDevice(&device), "cudaGetDevice"));
    for (const auto& [attribute, value] : {std::pair{cudaDevAttrComputeCapabilityMajor, &major},
                                           std::pair{cudaDevAttrComputeCapabilityMinor, &minor}}) {
      SLUICE_RETURN_IF_ERROR(
          CudaStatus(cudaDeviceGetAttribute(value, attribute, device), "compute capability"));
    }
    // Without tensor cores for fp8 nothing is reserved, and so nothing taken: see RunFp8().
    if (10 * major + minor < kLeastFp8Capability) return absl::OkStatus();
    return fp8_.Reserve(rows, k, n);
  }

 private:
  // In 8 bits on both sides where the device and the library can (sm_89 and later, sizes that are
  // multiples of 16); elsewhere our own kernel widens the weights.
  absl::Status RunFp8(const GemmParams& params, cudaStream_t stream) {
    if (!fp8_.Takes(params)) return plain_->Run(params, stream);
    GemmParams codes = params;
    codes.a = fp8_.codes();
    codes.a_stride = params.k;
    codes.bias = nullptr;
    codes.c = fp8_.raw();
    codes.float_out = true;
    Product product;
    SLUICE_RETURN_IF_ERROR(product.Describe(codes));
    SLUICE_ASSIGN_OR_RETURN(const cublasLtMatmulAlgo_t* algorithm, Algorithm(codes, product));
    if (algorithm == nullptr) return plain_->Run(params, stream);
    return fp8_.Run(
        params, [&] { return Multiply(codes, product, algorithm, stream); }, stream);
  }

  absl::Status Multiply(const GemmParams& params, const Product& product,
                        const cublasLtMatmulAlgo_t* algorithm, cudaStream_t stream) {
    const float one = 1.0F;
    const float zero = 0.0F;
    return ToStatus(cublasLtMatmul(handle_, product.operation.value, &one, params.b,
                                   product.weights.value, params.a, product.input.value, &zero,
                                   params.c, product.output.value, params.c, product.output.value,
                                   algorithm, workspace_, workspace_bytes_, stream),
                    "product");
  }

  // What the choice of an algorithm depends on; alignments are those of the three pointers.
  using Shape =
      std::tuple<int32_t, int32_t, int32_t, int64_t, HalfType, bool, bool, bool, uint32_t>;

  static uint32_t AlignmentOf(const void* p) {
    const auto address = reinterpret_cast<uintptr_t>(p);
    uint32_t alignment = 256;
    while (address % alignment != 0) alignment /= 2;
    return alignment;
  }

  // The algorithm for that shape; null if the library has none.
  absl::StatusOr<const cublasLtMatmulAlgo_t*> Algorithm(const GemmParams& p,
                                                        const Product& product) {
    const uint32_t a = AlignmentOf(p.a);
    const uint32_t b = AlignmentOf(p.b);
    const uint32_t c = AlignmentOf(p.c);
    const Shape shape{p.m,
                      p.n,
                      p.k,
                      p.a_stride,
                      p.half,
                      p.float_out,
                      p.bias != nullptr,
                      p.b_scales != nullptr,
                      a << 20 | b << 10 | c};
    auto it = algorithms_.find(shape);
    if (it == algorithms_.end()) {
      if (algorithms_.size() >= kMostShapes) algorithms_.clear();
      SLUICE_ASSIGN_OR_RETURN(std::optional<cublasLtMatmulAlgo_t> chosen, Choose(product, a, b, c));
      it = algorithms_.emplace(shape, chosen).first;
    }
    return it->second.has_value() ? &*it->second : nullptr;
  }

  absl::StatusOr<std::optional<cublasLtMatmulAlgo_t>> Choose(const Product& product, uint32_t input,
                                                             uint32_t weights, uint32_t output) {
    Preference preference;
    SLUICE_RETURN_IF_ERROR(
        ToStatus(cublasLtMatmulPreferenceCreate(&preference.value), "preference"));
    const auto set = [&](cublasLtMatmulPreferenceAttributes_t attribute, const auto& value) {
      return ToStatus(
          cublasLtMatmulPreferenceSetAttribute(preference.value, attribute, &value, sizeof(value)),
          "attribute of the preference");
    };
    SLUICE_RETURN_IF_ERROR(set(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, workspace_bytes_));
    // Its A is our weights, its B our input.
    SLUICE_RETURN_IF_ERROR(set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, weights));
    SLUICE_RETURN_IF_ERROR(set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, input));
    SLUICE_RETURN_IF_ERROR(set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, output));
    SLUICE_RETURN_IF_ERROR(set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, output));
    cublasLtMatmulHeuristicResult_t result{};
    int found = 0;
    const cublasStatus_t status = cublasLtMatmulAlgoGetHeuristic(
        handle_, product.operation.value, product.weights.value, product.input.value,
        product.output.value, product.output.value, preference.value, 1, &result, &found);
    if (status == CUBLAS_STATUS_NOT_SUPPORTED || (status == CUBLAS_STATUS_SUCCESS && found == 0)) {
      return std::nullopt;
    }
    SLUICE_RETURN_IF_ERROR(ToStatus(status, "choice of an algorithm"));
    return result.algo;
  }

  cublasLtHandle_t handle_ = nullptr;
  void* workspace_ = nullptr;
  size_t workspace_bytes_ = 0;
  std::map<Shape, std::optional<cublasLtMatmulAlgo_t>> algorithms_;
  const std::unique_ptr<GemmEngine> plain_ = MakePlainGemmEngine();
  Fp8Product fp8_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<GemmEngine>> MakeCublasLtGemmEngine(Bytes workspace) {
  auto engine = std::make_unique<CublasLtGemmEngine>();
  SLUICE_RETURN_IF_ERROR(engine->Start(workspace));
  return absl::StatusOr<std::unique_ptr<GemmEngine>>(std::move(engine));
}

}  // namespace sluice::cuda
