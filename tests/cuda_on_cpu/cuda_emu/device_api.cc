// Device queries.
#include <algorithm>
#include <cstdio>
#include <cstring>

#include "cuda_emu/execution.h"
#include "cuda_emu/machine.h"
#include "cuda_emu/sanitizer.h"

namespace cuda_emu {
namespace {

constexpr int kRegisters = 65536;
constexpr int kMaxThreads = 1024;
constexpr int kMaxGrid = 65535;
constexpr int kGreatestPriority = -5;
constexpr int kFirstBus = 0x3b;

// Threads and blocks that one multiprocessor can hold: CUDA programming guide, table of technical
// specifications per compute capability (8.x differ in the minor number; 8.0 here).
constexpr int kResidentThreads = 2048;
constexpr int kResidentBlocks = 32;
constexpr int kReservedShared = 1024;

int Int(size_t value) { return static_cast<int>(value); }

int AttributeValue(const Config& c, cudaDeviceAttr attribute, int device, int* value) {
  switch (attribute) {
    case cudaDevAttrMaxThreadsPerBlock:
      return *value = kMaxThreads, cudaSuccess;
    case cudaDevAttrMaxSharedMemoryPerBlock:
      return *value = Int(c.shared_bytes), cudaSuccess;
    case cudaDevAttrWarpSize:
      return *value = 32, cudaSuccess;
    case cudaDevAttrMultiProcessorCount:
      return *value = c.multiprocessors, cudaSuccess;
    case cudaDevAttrIntegrated:
    case cudaDevAttrComputeMode:
    case cudaDevAttrEccEnabled:
    case cudaDevAttrPciDeviceId:
    case cudaDevAttrPciDomainId:
    case cudaDevAttrPageableMemoryAccess:
    case cudaDevAttrHostNumaId:
      return *value = 0, cudaSuccess;
    case cudaDevAttrCanMapHostMemory:
    case cudaDevAttrConcurrentKernels:
    case cudaDevAttrUnifiedAddressing:
    case cudaDevAttrStreamPrioritiesSupported:
    case cudaDevAttrCanUseHostPointerForRegisteredMem:
    case cudaDevAttrHostRegisterSupported:
    case cudaDevAttrMemoryPoolsSupported:
      return *value = 1, cudaSuccess;
    case cudaDevAttrPciBusId:
      return *value = kFirstBus + device, cudaSuccess;
    case cudaDevAttrL2CacheSize:
      return *value = 50 << 20, cudaSuccess;
    case cudaDevAttrMaxThreadsPerMultiProcessor:
      return *value = kResidentThreads, cudaSuccess;
    case cudaDevAttrAsyncEngineCount:
      return *value = 3, cudaSuccess;
    case cudaDevAttrComputeCapabilityMajor:
      return *value = c.compute_major, cudaSuccess;
    case cudaDevAttrComputeCapabilityMinor:
      return *value = c.compute_minor, cudaSuccess;
    case cudaDevAttrMaxSharedMemoryPerMultiprocessor:
      return *value = Int(c.shared_multiprocessor_bytes), cudaSuccess;
    case cudaDevAttrMaxRegistersPerMultiprocessor:
      return *value = kRegisters, cudaSuccess;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
      return *value = Int(c.shared_optin_bytes), cudaSuccess;
    case cudaDevAttrMaxBlocksPerMultiprocessor:
      return *value = kResidentBlocks, cudaSuccess;
    case cudaDevAttrReservedSharedMemoryPerBlock:
      return *value = kReservedShared, cudaSuccess;
  }
  return cudaErrorInvalidValue;
}

int Attribute(cudaDeviceAttr attribute, int device) {
  int value = 0;
  AttributeValue(CurrentConfig(), attribute, device, &value);
  return value;
}

bool IsDevice(int device) { return device >= 0 && device < CurrentConfig().devices; }

cudaDeviceProp Properties(int device) {
  const Config& c = CurrentConfig();
  cudaDeviceProp p{};
  std::snprintf(p.name, sizeof(p.name), "Emulated GPU sm_%d%d", c.compute_major, c.compute_minor);
  p.totalGlobalMem = c.device_bytes;
  p.sharedMemPerBlock = c.shared_bytes;
  p.regsPerBlock = p.regsPerMultiprocessor = kRegisters;
  p.warpSize = 32;
  p.maxThreadsPerBlock = kMaxThreads;
  p.maxThreadsDim[0] = p.maxThreadsDim[1] = kMaxThreads;
  p.maxThreadsDim[2] = 64;
  p.maxGridSize[0] = 0x7fffffff;
  p.maxGridSize[1] = p.maxGridSize[2] = kMaxGrid;
  p.major = c.compute_major;
  p.minor = c.compute_minor;
  p.multiProcessorCount = c.multiprocessors;
  p.canMapHostMemory = p.concurrentKernels = p.unifiedAddressing = p.streamPrioritiesSupported = 1;
  p.pciBusID = Attribute(cudaDevAttrPciBusId, device);
  p.asyncEngineCount = Attribute(cudaDevAttrAsyncEngineCount, device);
  p.memoryBusWidth = 5120;
  p.l2CacheSize = Attribute(cudaDevAttrL2CacheSize, device);
  p.maxThreadsPerMultiProcessor = kResidentThreads;
  p.sharedMemPerMultiprocessor = c.shared_multiprocessor_bytes;
  p.canUseHostPointerForRegisteredMem = p.hostRegisterSupported = p.memoryPoolsSupported = 1;
  p.sharedMemPerBlockOptin = c.shared_optin_bytes;
  p.maxBlocksPerMultiProcessor = kResidentBlocks;
  p.reservedSharedMemPerBlock = kReservedShared;
  return p;
}

}  // namespace
}  // namespace cuda_emu

// NOLINTNEXTLINE(google-build-using-namespace): the definitions below are CUDA's, with C linkage.
using namespace cuda_emu;

extern "C" {

cudaError_t cudaGetDeviceCount(int* count) {
  *count = 0;
  if (const int error = EnterCall(Api::kDevice)) return Returned(error);
  *count = CurrentConfig().devices;
  return cudaSuccess;
}

cudaError_t cudaSetDevice(int device) {
  if (const int error = EnterCall(Api::kDevice)) return Returned(error);
  if (!IsDevice(device)) return Returned(cudaErrorInvalidDevice);
  current_device = device;
  return cudaSuccess;
}

cudaError_t cudaGetDevice(int* device) {
  *device = current_device;
  return cudaSuccess;
}

cudaError_t cudaSetDeviceFlags(unsigned int) { return Returned(EnterCall(Api::kDevice)); }

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device) {
  if (const int error = EnterCall(Api::kDevice)) return Returned(error);
  if (!IsDevice(device)) return Returned(cudaErrorInvalidDevice);
  *properties = Properties(device);
  return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device) {
  if (const int error = EnterCall(Api::kDevice)) return Returned(error);
  if (!IsDevice(device)) return Returned(cudaErrorInvalidDevice);
  return Returned(AttributeValue(CurrentConfig(), attribute, device, value));
}

cudaError_t cudaDeviceGetPCIBusId(char* pci_bus_id, int length, int device) {
  if (const int error = EnterCall(Api::kDevice)) return Returned(error);
  if (!IsDevice(device)) return Returned(cudaErrorInvalidDevice);
  const int bus = Attribute(cudaDevAttrPciBusId, device);
  const int written = std::snprintf(pci_bus_id, static_cast<size_t>(length), "0000:%02X:00.0", bus);
  return Returned(written < length ? cudaSuccess : cudaErrorInvalidValue);
}

cudaError_t cudaDeviceGetByPCIBusId(int* device, const char* pci_bus_id) {
  if (const int error = EnterCall(Api::kDevice)) return Returned(error);
  for (int i = 0; i < CurrentConfig().devices; ++i) {
    char text[32];
    std::snprintf(text, sizeof(text), "0000:%02X:00.0", Attribute(cudaDevAttrPciBusId, i));
    if (std::strcmp(text, pci_bus_id) == 0) return *device = i, cudaSuccess;
  }
  return Returned(cudaErrorInvalidDevice);
}

cudaError_t cudaDeviceGetStreamPriorityRange(int* least, int* greatest) {
  if (const int error = EnterCall(Api::kDevice)) return Returned(error);
  *least = 0;
  *greatest = kGreatestPriority;
  return cudaSuccess;
}

cudaError_t cudaDriverGetVersion(int* version) {
  *version = CurrentConfig().devices == 0 ? 0 : CurrentConfig().driver_version;
  return cudaSuccess;
}

cudaError_t cudaRuntimeGetVersion(int* version) {
  *version = CUDART_VERSION;
  return cudaSuccess;
}

cudaError_t cudaDeviceSynchronize() {
  const TsanQuiet quiet;
  if (const int error = EnterCall(Api::kSynchronize)) return Returned(error);
  return Returned(WaitForAllStreams());
}

cudaError_t cudaMemGetInfo(size_t* free, size_t* total) {
  const TsanQuiet quiet;
  if (const int error = EnterCall(Api::kDevice)) return Returned(error);
  Machine& m = TheMachine();
  const std::lock_guard<std::mutex> lock(m.mutex);
  *total = m.config.device_bytes;
  *free = m.config.device_bytes - m.memory.device_bytes(current_device);
  return cudaSuccess;
}

}  // extern "C"
