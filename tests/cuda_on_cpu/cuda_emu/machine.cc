#include "cuda_emu/machine.h"

#include <algorithm>
#include <cstdlib>
#include <utility>

#include "cuda_emu/diagnostic.h"
#include "cuda_emu/fiber.h"
#include "cuda_emu/intrinsic.h"
#include "cuda_emu/sanitizer.h"

namespace cuda_emu {
namespace {

constexpr uint64_t kStreamSalt = 0x57e4;
constexpr uint64_t kSeedStride = 0x9e3779b97f4a7c15;

Machine* machine = nullptr;
thread_local int last_error = 0;

std::unique_ptr<CUstream_st> DefaultStream() {
  auto stream = std::make_unique<CUstream_st>();
  stream->context = NewContext();
  return stream;
}

void Start(const Config& config) {
  machine = new Machine;
  machine->config = config;
  machine->config.seed += SeedShift() * kSeedStride;
  machine->random = machine->config.seed ^ kStreamSalt;
  machine->streams.push_back(DefaultStream());
  approximation_ulps = config.approximation_ulps;
}

void Stop() {
  {
    const std::lock_guard<std::mutex> lock(machine->mutex);
    for (auto& stream : machine->streams) {
      stream->queue.clear();
      stream->closing = true;
    }
    machine->changed.notify_all();
  }
  for (auto& stream : machine->streams) {
    if (stream->worker.joinable()) stream->worker.join();
    DropContext(stream->context);
  }
  machine->memory.FreeAll();
  DropFibers();
  delete machine;
  machine = nullptr;
}

// The planned failure of this call, or 0. Releases are not reached by kAny.
int PlannedError(Machine* m, Api api, bool release) {
  for (auto it = m->failures.begin(); it != m->failures.end(); ++it) {
    if (it->api != api && (it->api != Api::kAny || release)) continue;
    if (--it->calls_left != 0) continue;
    const int error = it->error;
    m->failed_call = api;
    if (it->sticks) m->sticky_error = error;
    m->failures.erase(it);
    return error;
  }
  return cudaSuccess;
}

int Enter(Api api, bool release) {
  Machine& m = TheMachine();
  const std::lock_guard<std::mutex> lock(m.mutex);
  ++m.counts.calls;
  m.host_us += m.config.api_us;
  if (in_host_function) {
    AddDiagnostic("host-function", "CUDA API call inside a cudaLaunchHostFunc callback");
    return cudaErrorNotPermitted;
  }
  if (m.config.driver_version < CUDART_VERSION / 1000 * 1000) return cudaErrorInsufficientDriver;
  if (m.config.devices == 0) return cudaErrorNoDevice;
  if (m.sticky_error != 0) return m.sticky_error;
  return PlannedError(&m, api, release);
}

}  // namespace

Machine& TheMachine() {
  if (machine == nullptr) Start(Config{});
  return *machine;
}

uint64_t SeedShift() {
  static const uint64_t shift = [] {
    const char* text = std::getenv("CUDA_EMU_SEED");
    return text == nullptr ? 0 : std::strtoull(text, nullptr, 10);
  }();
  return shift;
}

const Config& CurrentConfig() { return TheMachine().config; }

void Reset(const Config& config) {
  const TsanQuiet quiet;
  if (machine != nullptr) Stop();
  ClearDiagnostics();
  last_error = 0;
  current_device = 0;
  Start(config);
}

int EnterCall(Api api) { return Enter(api, false); }
int EnterRelease(Api api) { return Enter(api, true); }

cudaError_t Returned(int error) {
  if (error != cudaSuccess && error != cudaErrorNotReady) last_error = error;
  return static_cast<cudaError_t>(error);
}

void AddCounts(const Counts& counts) {
  Machine& m = TheMachine();
  const std::lock_guard<std::mutex> lock(m.mutex);
  m.counts.blocks += counts.blocks;
  m.counts.switches += counts.switches;
  m.counts.block_barriers += counts.block_barriers;
  m.counts.warp_operations += counts.warp_operations;
  m.counts.async_copies += counts.async_copies;
}

// ---- control.h ---------------------------------------------------------------------------------

void SetKernelCost(std::function<double(const KernelLaunch&)> cost) {
  TheMachine().kernel_cost = std::move(cost);
}

void FailCall(Api api, int nth, int error) {
  const std::lock_guard<std::mutex> lock(TheMachine().mutex);
  TheMachine().failures.push_back({api, nth, error, false});
}

void FailCallForGood(Api api, int nth, int error) {
  const std::lock_guard<std::mutex> lock(TheMachine().mutex);
  TheMachine().failures.push_back({api, nth, error, true});
}

std::optional<Api> EndFailures() {
  const std::lock_guard<std::mutex> lock(TheMachine().mutex);
  TheMachine().failures.clear();
  return std::exchange(TheMachine().failed_call, std::nullopt);
}

void FailStreamOperation(int nth, int error) {
  const std::lock_guard<std::mutex> lock(TheMachine().mutex);
  TheMachine().operations_to_failure = nth;
  TheMachine().operation_error = error;
}

LeakCounts Leaks() {
  const TsanQuiet quiet;
  Machine& m = TheMachine();
  const std::lock_guard<std::mutex> lock(m.mutex);
  return {m.memory.Count(MemoryKind::kDevice), m.memory.Count(MemoryKind::kPinned),
          m.memory.Count(MemoryKind::kRegistered), m.streams.size() - 1, m.events.size()};
}

std::vector<TraceEntry> Trace() {
  const TsanQuiet quiet;
  const std::lock_guard<std::mutex> lock(TheMachine().mutex);
  return TheMachine().trace;
}

double HostMicroseconds() {
  const TsanQuiet quiet;
  const std::lock_guard<std::mutex> lock(TheMachine().mutex);
  return TheMachine().host_us;
}

void SpendHostMicroseconds(double microseconds) {
  const TsanQuiet quiet;
  const std::lock_guard<std::mutex> lock(TheMachine().mutex);
  TheMachine().host_us += microseconds;
}

Counts CurrentCounts() {
  const TsanQuiet quiet;
  const std::lock_guard<std::mutex> lock(TheMachine().mutex);
  return TheMachine().counts;
}

}  // namespace cuda_emu

// ---- Errors of the API -------------------------------------------------------------------------

extern "C" {

cudaError_t cudaGetLastError() {
  const cudaError_t error = cudaPeekAtLastError();
  cuda_emu::last_error = cudaSuccess;
  return error;
}

cudaError_t cudaPeekAtLastError() {
  const int sticky = cuda_emu::TheMachine().sticky_error;
  return static_cast<cudaError_t>(sticky != 0 ? sticky : cuda_emu::last_error);
}

const char* cudaGetErrorName(cudaError_t error) {
  switch (error) {
#define CUDA_EMU_NAME(name) \
  case name:                \
    return #name;
    CUDA_EMU_NAME(cudaSuccess)
    CUDA_EMU_NAME(cudaErrorInvalidValue)
    CUDA_EMU_NAME(cudaErrorMemoryAllocation)
    CUDA_EMU_NAME(cudaErrorInitializationError)
    CUDA_EMU_NAME(cudaErrorInvalidConfiguration)
    CUDA_EMU_NAME(cudaErrorInvalidDevicePointer)
    CUDA_EMU_NAME(cudaErrorInvalidMemcpyDirection)
    CUDA_EMU_NAME(cudaErrorInsufficientDriver)
    CUDA_EMU_NAME(cudaErrorDevicesUnavailable)
    CUDA_EMU_NAME(cudaErrorInvalidDeviceFunction)
    CUDA_EMU_NAME(cudaErrorNoDevice)
    CUDA_EMU_NAME(cudaErrorInvalidDevice)
    CUDA_EMU_NAME(cudaErrorNoKernelImageForDevice)
    CUDA_EMU_NAME(cudaErrorECCUncorrectable)
    CUDA_EMU_NAME(cudaErrorInvalidResourceHandle)
    CUDA_EMU_NAME(cudaErrorNotReady)
    CUDA_EMU_NAME(cudaErrorIllegalAddress)
    CUDA_EMU_NAME(cudaErrorLaunchOutOfResources)
    CUDA_EMU_NAME(cudaErrorLaunchTimeout)
    CUDA_EMU_NAME(cudaErrorAssert)
    CUDA_EMU_NAME(cudaErrorHostMemoryAlreadyRegistered)
    CUDA_EMU_NAME(cudaErrorHostMemoryNotRegistered)
    CUDA_EMU_NAME(cudaErrorIllegalInstruction)
    CUDA_EMU_NAME(cudaErrorMisalignedAddress)
    CUDA_EMU_NAME(cudaErrorLaunchFailure)
    CUDA_EMU_NAME(cudaErrorNotPermitted)
    CUDA_EMU_NAME(cudaErrorNotSupported)
    CUDA_EMU_NAME(cudaErrorSystemDriverMismatch)
    CUDA_EMU_NAME(cudaErrorUnknown)
#undef CUDA_EMU_NAME
  }
  return "unrecognized error code";
}

const char* cudaGetErrorString(cudaError_t error) {
  switch (error) {
    case cudaSuccess:
      return "no error";
    case cudaErrorInvalidValue:
      return "invalid argument";
    case cudaErrorMemoryAllocation:
      return "out of memory";
    case cudaErrorNoDevice:
      return "no CUDA-capable device is detected";
    case cudaErrorInsufficientDriver:
      return "CUDA driver version is insufficient for CUDA runtime version";
    case cudaErrorIllegalAddress:
      return "an illegal memory access was encountered";
    case cudaErrorLaunchFailure:
      return "unspecified launch failure";
    default:
      return cudaGetErrorName(error);
  }
}

}  // extern "C"
