// Launches and function attributes.
#include <algorithm>
#include <memory>

#include "cuda_emu/diagnostic.h"
#include "cuda_emu/execution.h"
#include "cuda_emu/grid.h"
#include "cuda_emu/machine.h"
#include "cuda_emu/sanitizer.h"

namespace cuda_emu {
namespace {

constexpr uint64_t kMaxThreads = 1024;
constexpr unsigned kMaxThreadsZ = 64;
constexpr unsigned kMaxGridYZ = 65535;
constexpr size_t kMaxParameterBytes = 4096;
// Under ASan a SharedCarver puts a gap behind each array, which must not count against the limit.
constexpr size_t kGapAllowance = kAsan ? 16 << 10 : 0;

// Kernels stay known over Reset: RegisterKernel belongs to the program, not to a test.
struct KernelTable {
  std::mutex mutex;
  std::unordered_map<const void*, Kernel> kernels;
};
KernelTable& Kernels() {
  static auto& table = *new KernelTable;
  return table;
}

bool FindKernel(const void* function, Kernel* kernel) {
  const std::lock_guard<std::mutex> lock(Kernels().mutex);
  const auto it = Kernels().kernels.find(function);
  if (it == Kernels().kernels.end()) return false;
  *kernel = it->second;
  return true;
}

uint64_t Product(const dim3& d) { return uint64_t{d.x} * d.y * d.z; }

bool ValidShape(const cudaLaunchConfig_t& c) {
  const uint64_t threads = Product(c.blockDim);
  return threads != 0 && threads <= kMaxThreads && c.blockDim.z <= kMaxThreadsZ &&
         Product(c.gridDim) != 0 && c.gridDim.x <= 0x7fffffffu && c.gridDim.y <= kMaxGridYZ &&
         c.gridDim.z <= kMaxGridYZ;
}

// REQUIRES: m.mutex held.
size_t SharedLimit(const Machine& m, const void* function) {
  const auto it = m.shared_limit.find(function);
  const size_t asked = it == m.shared_limit.end() ? 0 : it->second;
  return std::max(m.config.shared_bytes, asked) + kGapAllowance;
}

int CheckLaunch(Machine* m, const cudaLaunchConfig_t& c, const void* function,
                const Kernel& kernel) {
  if (!ValidShape(c)) return cudaErrorInvalidConfiguration;
  if (c.numAttrs != 0) return cudaErrorNotSupported;
  const std::lock_guard<std::mutex> lock(m->mutex);
  if (c.dynamicSmemBytes > SharedLimit(*m, function)) {
    AddDiagnostic("launch", kernel.name + ": " + std::to_string(c.dynamicSmemBytes) +
                                " bytes of shared memory, " +
                                std::to_string(SharedLimit(*m, function)) +
                                " allowed (cudaFuncSetAttribute raises it)");
    return cudaErrorInvalidValue;
  }
  if (kernel.parameter_bytes > kMaxParameterBytes && m->config.strict) {
    AddDiagnostic("launch", kernel.name + ": more than 4096 bytes of parameters");
  }
  ++m->counts.launches;
  return cudaSuccess;
}

double KernelCost(const Machine& m, const Kernel& kernel, const cudaLaunchConfig_t& c) {
  if (!m.kernel_cost) return m.config.kernel_us;
  return m.kernel_cost({kernel.name.c_str(), Product(c.gridDim),
                        static_cast<unsigned>(Product(c.blockDim)), c.dynamicSmemBytes});
}

void Run(Grid* grid) {
  RunGrid(grid);
  if (grid->error == cudaSuccess) return;
  const TsanQuiet quiet;
  Machine& m = TheMachine();
  const std::lock_guard<std::mutex> lock(m.mutex);
  if (m.sticky_error == 0) m.sticky_error = grid->error;
}

}  // namespace

void AddKernel(const char* name, const void* kernel, BindKernel bind, size_t parameter_bytes) {
  const TsanQuiet quiet;
  const std::lock_guard<std::mutex> lock(Kernels().mutex);
  Kernels().kernels[kernel] = {name, bind, parameter_bytes};
}

}  // namespace cuda_emu

// NOLINTNEXTLINE(google-build-using-namespace): the definitions below are CUDA's, with C linkage.
using namespace cuda_emu;

extern "C" {

cudaError_t cudaLaunchKernelExC(const cudaLaunchConfig_t* config, const void* function,
                                void** arguments) {
  const TsanQuiet quiet;
  if (const int error = EnterCall(Api::kLaunch)) return Returned(error);
  Kernel kernel;
  if (!FindKernel(function, &kernel)) return Returned(cudaErrorInvalidDeviceFunction);
  Machine& m = TheMachine();
  if (const int error = CheckLaunch(&m, *config, function, kernel)) return Returned(error);
  auto grid = std::make_shared<Grid>();
  grid->name = kernel.name;
  grid->blocks = config->gridDim;
  grid->threads = config->blockDim;
  grid->shared_bytes = config->dynamicSmemBytes;
  grid->stream = config->stream;
  grid->body = kernel.bind(function, arguments);
  auto operation = std::make_shared<Operation>();
  operation->kind = OperationKind::kKernel;
  operation->name = kernel.name;
  operation->on_engine = true;
  operation->engine = Engine::kCompute;
  operation->cost_us = KernelCost(m, kernel, *config);
  operation->run = [grid] { Run(grid.get()); };
  grid.reset();
  return Returned(Enqueue(config->stream, std::move(operation)));
}

cudaError_t cudaFuncSetAttribute(const void* function, cudaFuncAttribute attribute, int value) {
  const TsanQuiet quiet;
  if (const int error = EnterCall(Api::kFunctionAttribute)) return Returned(error);
  if (attribute != cudaFuncAttributeMaxDynamicSharedMemorySize) return cudaSuccess;
  Machine& m = TheMachine();
  const std::lock_guard<std::mutex> lock(m.mutex);
  const auto bytes = static_cast<size_t>(value);
  if (value < 0 || bytes > m.config.shared_optin_bytes + kGapAllowance) {
    return Returned(cudaErrorInvalidValue);
  }
  m.shared_limit[function] = bytes;
  return cudaSuccess;
}

// Registers are the compiler's: zero here.
cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, const void* function) {
  const TsanQuiet quiet;
  if (const int error = EnterCall(Api::kFunctionAttribute)) return Returned(error);
  Machine& m = TheMachine();
  const std::lock_guard<std::mutex> lock(m.mutex);
  *attributes = cudaFuncAttributes{};
  attributes->maxThreadsPerBlock = static_cast<int>(kMaxThreads);
  attributes->binaryVersion = attributes->ptxVersion =
      m.config.compute_major * 10 + m.config.compute_minor;
  attributes->maxDynamicSharedSizeBytes = static_cast<int>(SharedLimit(m, function));
  return cudaSuccess;
}

cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, const void* function,
                                                          int threads, size_t shared_bytes) {
  const TsanQuiet quiet;
  if (const int error = EnterCall(Api::kFunctionAttribute)) return Returned(error);
  Machine& m = TheMachine();
  const std::lock_guard<std::mutex> lock(m.mutex);
  if (threads <= 0 || threads > static_cast<int>(kMaxThreads)) {
    return Returned(cudaErrorInvalidValue);
  }
  constexpr int kResidentThreads = 2048;
  constexpr int kResidentBlocks = 32;
  constexpr size_t kReserved = 1024;  // per block
  const int warps = (threads + 31) / 32;
  const bool fits = shared_bytes <= SharedLimit(m, function);
  const auto by_shared =
      static_cast<int>(m.config.shared_multiprocessor_bytes / (shared_bytes + kReserved));
  *blocks = fits ? std::min({kResidentThreads / (warps * 32), kResidentBlocks, by_shared}) : 0;
  return cudaSuccess;
}

}  // extern "C"
