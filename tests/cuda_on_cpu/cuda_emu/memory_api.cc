// Allocation of device and pinned memory.
#include <memory>

#include "cuda_emu/diagnostic.h"
#include "cuda_emu/execution.h"
#include "cuda_emu/machine.h"
#include "cuda_emu/sanitizer.h"

namespace cuda_emu {
namespace {

cudaError_t Allocate(Api api, MemoryKind kind, void** pointer, size_t bytes) {
  const TsanQuiet quiet;
  if (const int error = EnterCall(api)) return Returned(error);
  Machine& m = TheMachine();
  const std::lock_guard<std::mutex> lock(m.mutex);
  return Returned(m.memory.Allocate(bytes, kind, current_device, pointer));
}

void CheckIdle() {
  Machine& m = TheMachine();
  const std::lock_guard<std::mutex> lock(m.mutex);
  for (const auto& stream : m.streams) {
    if (!stream->has_work()) continue;
    AddDiagnostic("free", "pinned memory is released while work is under way in stream " +
                              stream->Name() + ": synchronize first");
    return;
  }
}

// Frees even after an error: see EnterRelease.
cudaError_t Release(MemoryKind kind, void* pointer) {
  const TsanQuiet quiet;
  int error = EnterRelease(Api::kFree);
  if (error == cudaErrorNotPermitted) return Returned(error);
  if (CurrentConfig().idle_releases && kind != MemoryKind::kDevice) CheckIdle();
  if (const int waited = WaitForAllStreams(); error == cudaSuccess) error = waited;
  Machine& m = TheMachine();
  const std::lock_guard<std::mutex> lock(m.mutex);
  const int freed =
      kind == MemoryKind::kRegistered ? m.memory.Unregister(pointer) : m.memory.Free(pointer, kind);
  if (freed != cudaSuccess) {
    AddDiagnostic("free", "release of a pointer that was not given out, or by the wrong function");
    return Returned(freed);
  }
  return Returned(error);
}

}  // namespace
}  // namespace cuda_emu

// NOLINTNEXTLINE(google-build-using-namespace): the definitions below are CUDA's, with C linkage.
using namespace cuda_emu;

extern "C" {

cudaError_t cudaMalloc(void** pointer, size_t bytes) {
  return Allocate(Api::kMalloc, MemoryKind::kDevice, pointer, bytes);
}
cudaError_t cudaFree(void* pointer) { return Release(MemoryKind::kDevice, pointer); }

cudaError_t cudaMallocAsync(void** pointer, size_t bytes, cudaStream_t) {
  return cudaMalloc(pointer, bytes);
}

cudaError_t cudaFreeAsync(void* pointer, cudaStream_t stream) {
  const TsanQuiet quiet;
  if (const int error = EnterRelease(Api::kFree)) return Returned(error);
  auto operation = std::make_shared<Operation>();
  operation->kind = OperationKind::kFree;
  operation->name = "free";
  operation->run = [pointer] {
    const TsanQuiet inner;
    const std::lock_guard<std::mutex> lock(TheMachine().mutex);
    TheMachine().memory.Free(pointer, MemoryKind::kDevice);
  };
  return Returned(Enqueue(stream, std::move(operation)));
}

cudaError_t cudaHostAlloc(void** pointer, size_t bytes, unsigned int) {
  return Allocate(Api::kHostAlloc, MemoryKind::kPinned, pointer, bytes);
}
cudaError_t cudaMallocHost(void** pointer, size_t bytes) {
  return cudaHostAlloc(pointer, bytes, cudaHostAllocDefault);
}
cudaError_t cudaFreeHost(void* pointer) { return Release(MemoryKind::kPinned, pointer); }

cudaError_t cudaHostRegister(void* pointer, size_t bytes, unsigned int) {
  const TsanQuiet quiet;
  if (const int error = EnterCall(Api::kHostRegister)) return Returned(error);
  Machine& m = TheMachine();
  const std::lock_guard<std::mutex> lock(m.mutex);
  return Returned(m.memory.Register(pointer, bytes));
}
cudaError_t cudaHostUnregister(void* pointer) { return Release(MemoryKind::kRegistered, pointer); }

// Unified addressing: the device sees pinned memory at the host's address.
cudaError_t cudaHostGetDevicePointer(void** device, void* host, unsigned int) {
  const TsanQuiet quiet;
  if (const int error = EnterCall(Api::kAny)) return Returned(error);
  Machine& m = TheMachine();
  const std::lock_guard<std::mutex> lock(m.mutex);
  const Allocation* const allocation = m.memory.Find(host);
  if (allocation == nullptr || allocation->kind == MemoryKind::kDevice) {
    return Returned(cudaErrorInvalidValue);
  }
  *device = host;
  return cudaSuccess;
}

cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* attributes, const void* pointer) {
  const TsanQuiet quiet;
  Machine& m = TheMachine();
  const std::lock_guard<std::mutex> lock(m.mutex);
  const Allocation* const allocation = m.memory.Find(pointer);
  *attributes = cudaPointerAttributes{};
  attributes->device = allocation == nullptr ? -2 : allocation->device;
  if (allocation == nullptr) return cudaSuccess;
  const bool on_device = allocation->kind == MemoryKind::kDevice;
  attributes->type = on_device ? cudaMemoryTypeDevice : cudaMemoryTypeHost;
  attributes->devicePointer = const_cast<void*>(pointer);
  attributes->hostPointer = on_device ? nullptr : const_cast<void*>(pointer);
  return cudaSuccess;
}

}  // extern "C"
