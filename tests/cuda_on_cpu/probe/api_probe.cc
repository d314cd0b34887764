// Prints the type of every API function, and the value, size or offset of everything else that the
// project relies on. Compiled against the emulation and, where a toolkit is installed, against
// CUDA's own headers; both must print expected.txt.
#include "tests/cuda_on_cpu/probe/probe.h"

#include <cstddef>
#include <cstdio>
#include <typeinfo>

namespace sluice::probe {
namespace {

template <class Function>
void PrintFunction(const char* name) {
  std::printf("%-48s %s\n", name, typeid(Function).name());
}
void PrintNumber(const char* name, long long value) { std::printf("%-48s %lld\n", name, value); }

// The overload of C linkage, by its parameter types. Unevaluated: nothing is linked.
#define FUNCTION(name, ...) \
  PrintFunction<decltype(static_cast<cudaError_t (*)(__VA_ARGS__)>(&name))>(#name)
#define VALUE(name) PrintNumber(#name, static_cast<long long>(name))
#define SIZE(type)                                                    \
  PrintNumber("sizeof " #type, static_cast<long long>(sizeof(type))); \
  PrintNumber("alignof " #type, static_cast<long long>(alignof(type)))
#define OFFSET(type, member) \
  PrintNumber("offsetof " #type "." #member, static_cast<long long>(offsetof(type, member)))
#define FIELD(type, member) PrintFunction<decltype(type::member)>(#type "." #member)

void DeviceFunctions() {
  FUNCTION(cudaGetDeviceCount, int*);
  FUNCTION(cudaSetDevice, int);
  FUNCTION(cudaGetDevice, int*);
  FUNCTION(cudaSetDeviceFlags, unsigned);
  FUNCTION(cudaGetDeviceProperties, cudaDeviceProp*, int);
  FUNCTION(cudaDeviceGetAttribute, int*, cudaDeviceAttr, int);
  FUNCTION(cudaDeviceGetPCIBusId, char*, int, int);
  FUNCTION(cudaDeviceGetByPCIBusId, int*, const char*);
  FUNCTION(cudaDeviceGetStreamPriorityRange, int*, int*);
  FUNCTION(cudaDriverGetVersion, int*);
  FUNCTION(cudaRuntimeGetVersion, int*);
  FUNCTION(cudaDeviceSynchronize, void);
  FUNCTION(cudaMemGetInfo, size_t*, size_t*);
  FUNCTION(cudaGetLastError, void);
  FUNCTION(cudaPeekAtLastError, void);
}

void MemoryFunctions() {
  FUNCTION(cudaMalloc, void**, size_t);
  FUNCTION(cudaFree, void*);
  FUNCTION(cudaMallocAsync, void**, size_t, cudaStream_t);
  FUNCTION(cudaFreeAsync, void*, cudaStream_t);
  FUNCTION(cudaMallocHost, void**, size_t);
  FUNCTION(cudaHostAlloc, void**, size_t, unsigned);
  FUNCTION(cudaFreeHost, void*);
  FUNCTION(cudaHostRegister, void*, size_t, unsigned);
  FUNCTION(cudaHostUnregister, void*);
  FUNCTION(cudaHostGetDevicePointer, void**, void*, unsigned);
  FUNCTION(cudaPointerGetAttributes, cudaPointerAttributes*, const void*);
  FUNCTION(cudaMemcpy, void*, const void*, size_t, cudaMemcpyKind);
  FUNCTION(cudaMemcpyAsync, void*, const void*, size_t, cudaMemcpyKind, cudaStream_t);
  FUNCTION(cudaMemcpy2DAsync, void*, size_t, const void*, size_t, size_t, size_t, cudaMemcpyKind,
           cudaStream_t);
  FUNCTION(cudaMemcpyBatchAsync, void* const*, const void* const*, const size_t*, size_t,
           cudaMemcpyAttributes*, size_t*, size_t, cudaStream_t);
  FUNCTION(cudaMemset, void*, int, size_t);
  FUNCTION(cudaMemsetAsync, void*, int, size_t, cudaStream_t);
}

void StreamFunctions() {
  FUNCTION(cudaStreamCreate, cudaStream_t*);
  FUNCTION(cudaStreamCreateWithFlags, cudaStream_t*, unsigned);
  FUNCTION(cudaStreamCreateWithPriority, cudaStream_t*, unsigned, int);
  FUNCTION(cudaStreamGetPriority, cudaStream_t, int*);
  FUNCTION(cudaStreamDestroy, cudaStream_t);
  FUNCTION(cudaStreamSynchronize, cudaStream_t);
  FUNCTION(cudaStreamQuery, cudaStream_t);
  FUNCTION(cudaStreamWaitEvent, cudaStream_t, cudaEvent_t, unsigned);
  FUNCTION(cudaEventCreate, cudaEvent_t*);
  FUNCTION(cudaEventCreateWithFlags, cudaEvent_t*, unsigned);
  FUNCTION(cudaEventRecord, cudaEvent_t, cudaStream_t);
  FUNCTION(cudaEventQuery, cudaEvent_t);
  FUNCTION(cudaEventSynchronize, cudaEvent_t);
  FUNCTION(cudaEventElapsedTime, float*, cudaEvent_t, cudaEvent_t);
  FUNCTION(cudaEventDestroy, cudaEvent_t);
  FUNCTION(cudaLaunchHostFunc, cudaStream_t, cudaHostFn_t, void*);
  FUNCTION(cudaFuncSetAttribute, const void*, cudaFuncAttribute, int);
  FUNCTION(cudaFuncGetAttributes, cudaFuncAttributes*, const void*);
  FUNCTION(cudaOccupancyMaxActiveBlocksPerMultiprocessor, int*, const void*, int, size_t);
  FUNCTION(cudaLaunchKernelExC, const cudaLaunchConfig_t*, const void*, void**);
}

void Errors() {
  VALUE(cudaSuccess);
  VALUE(cudaErrorInvalidValue);
  VALUE(cudaErrorMemoryAllocation);
  VALUE(cudaErrorInitializationError);
  VALUE(cudaErrorInvalidConfiguration);
  VALUE(cudaErrorInvalidDevicePointer);
  VALUE(cudaErrorInvalidMemcpyDirection);
  VALUE(cudaErrorInsufficientDriver);
  VALUE(cudaErrorDevicesUnavailable);
  VALUE(cudaErrorInvalidDeviceFunction);
  VALUE(cudaErrorNoDevice);
  VALUE(cudaErrorInvalidDevice);
  VALUE(cudaErrorNoKernelImageForDevice);
  VALUE(cudaErrorECCUncorrectable);
  VALUE(cudaErrorInvalidResourceHandle);
  VALUE(cudaErrorNotReady);
  VALUE(cudaErrorIllegalAddress);
  VALUE(cudaErrorLaunchOutOfResources);
  VALUE(cudaErrorLaunchTimeout);
  VALUE(cudaErrorAssert);
  VALUE(cudaErrorHostMemoryAlreadyRegistered);
  VALUE(cudaErrorHostMemoryNotRegistered);
  VALUE(cudaErrorIllegalInstruction);
  VALUE(cudaErrorMisalignedAddress);
  VALUE(cudaErrorLaunchFailure);
  VALUE(cudaErrorNotPermitted);
  VALUE(cudaErrorNotSupported);
  VALUE(cudaErrorSystemDriverMismatch);
  VALUE(cudaErrorUnknown);
}

void Enumerators() {
  VALUE(cudaMemcpyHostToHost);
  VALUE(cudaMemcpyHostToDevice);
  VALUE(cudaMemcpyDeviceToHost);
  VALUE(cudaMemcpyDeviceToDevice);
  VALUE(cudaMemcpyDefault);
  VALUE(cudaMemoryTypeUnregistered);
  VALUE(cudaMemoryTypeHost);
  VALUE(cudaMemoryTypeDevice);
  VALUE(cudaMemoryTypeManaged);
  VALUE(cudaMemLocationTypeNone);
  VALUE(cudaMemLocationTypeDevice);
  VALUE(cudaMemLocationTypeHost);
  VALUE(cudaMemLocationTypeHostNuma);
  VALUE(cudaMemcpySrcAccessOrderInvalid);
  VALUE(cudaMemcpySrcAccessOrderStream);
  VALUE(cudaMemcpySrcAccessOrderDuringApiCall);
  VALUE(cudaMemcpySrcAccessOrderAny);
  VALUE(cudaMemcpyFlagDefault);
  VALUE(cudaMemcpyFlagPreferOverlapWithCompute);
  VALUE(cudaFuncAttributeMaxDynamicSharedMemorySize);
  VALUE(cudaFuncAttributePreferredSharedMemoryCarveout);
  VALUE(cudaHostAllocPortable);
  VALUE(cudaHostAllocMapped);
  VALUE(cudaHostAllocWriteCombined);
  VALUE(cudaHostRegisterPortable);
  VALUE(cudaHostRegisterMapped);
  VALUE(cudaHostRegisterReadOnly);
  VALUE(cudaStreamNonBlocking);
  VALUE(cudaEventBlockingSync);
  VALUE(cudaEventDisableTiming);
  VALUE(cudaDeviceScheduleAuto);
  VALUE(cudaDeviceScheduleSpin);
  VALUE(cudaDeviceScheduleYield);
  VALUE(cudaDeviceScheduleBlockingSync);
}

void DeviceAttributes() {
  VALUE(cudaDevAttrMaxThreadsPerBlock);
  VALUE(cudaDevAttrMaxSharedMemoryPerBlock);
  VALUE(cudaDevAttrWarpSize);
  VALUE(cudaDevAttrMultiProcessorCount);
  VALUE(cudaDevAttrIntegrated);
  VALUE(cudaDevAttrCanMapHostMemory);
  VALUE(cudaDevAttrComputeMode);
  VALUE(cudaDevAttrConcurrentKernels);
  VALUE(cudaDevAttrEccEnabled);
  VALUE(cudaDevAttrPciBusId);
  VALUE(cudaDevAttrPciDeviceId);
  VALUE(cudaDevAttrL2CacheSize);
  VALUE(cudaDevAttrMaxThreadsPerMultiProcessor);
  VALUE(cudaDevAttrAsyncEngineCount);
  VALUE(cudaDevAttrUnifiedAddressing);
  VALUE(cudaDevAttrPciDomainId);
  VALUE(cudaDevAttrComputeCapabilityMajor);
  VALUE(cudaDevAttrComputeCapabilityMinor);
  VALUE(cudaDevAttrStreamPrioritiesSupported);
  VALUE(cudaDevAttrMaxSharedMemoryPerMultiprocessor);
  VALUE(cudaDevAttrMaxRegistersPerMultiprocessor);
  VALUE(cudaDevAttrPageableMemoryAccess);
  VALUE(cudaDevAttrCanUseHostPointerForRegisteredMem);
  VALUE(cudaDevAttrMaxSharedMemoryPerBlockOptin);
  VALUE(cudaDevAttrHostRegisterSupported);
  VALUE(cudaDevAttrMaxBlocksPerMultiprocessor);
  VALUE(cudaDevAttrReservedSharedMemoryPerBlock);
  VALUE(cudaDevAttrMemoryPoolsSupported);
  VALUE(cudaDevAttrHostNumaId);
}

void Structures() {
  SIZE(cudaMemLocation);
  SIZE(cudaMemcpyAttributes);
  OFFSET(cudaMemcpyAttributes, srcLocHint);
  OFFSET(cudaMemcpyAttributes, dstLocHint);
  OFFSET(cudaMemcpyAttributes, flags);
  SIZE(cudaPointerAttributes);
  OFFSET(cudaPointerAttributes, hostPointer);
  SIZE(cudaFuncAttributes);
  OFFSET(cudaFuncAttributes, numRegs);
  OFFSET(cudaFuncAttributes, maxDynamicSharedSizeBytes);
  SIZE(cudaLaunchConfig_t);
  OFFSET(cudaLaunchConfig_t, dynamicSmemBytes);
  OFFSET(cudaLaunchConfig_t, stream);
  OFFSET(cudaLaunchConfig_t, numAttrs);
  // The emulation's cudaDeviceProp has fewer fields, of the same types.
  FIELD(cudaDeviceProp, name);
  FIELD(cudaDeviceProp, totalGlobalMem);
  FIELD(cudaDeviceProp, sharedMemPerBlock);
  FIELD(cudaDeviceProp, maxThreadsDim);
  FIELD(cudaDeviceProp, major);
  FIELD(cudaDeviceProp, multiProcessorCount);
  FIELD(cudaDeviceProp, asyncEngineCount);
  FIELD(cudaDeviceProp, pciBusID);
  FIELD(cudaDeviceProp, memoryBusWidth);
  FIELD(cudaDeviceProp, l2CacheSize);
  FIELD(cudaDeviceProp, sharedMemPerMultiprocessor);
  FIELD(cudaDeviceProp, sharedMemPerBlockOptin);
  FIELD(cudaDeviceProp, reservedSharedMemPerBlock);
  FIELD(cudaDeviceProp, hostRegisterSupported);
  FIELD(cudaDeviceProp, hostNumaId);
}

void VectorTypes() {
  SIZE(dim3);
  SIZE(char3);
  SIZE(uchar4);
  SIZE(short2);
  SIZE(ushort4);
  SIZE(int2);
  SIZE(int4);
  SIZE(uint2);
  SIZE(uint3);
  SIZE(uint4);
  SIZE(float2);
  SIZE(float3);
  SIZE(float4);
  SIZE(double2);
  SIZE(longlong2);
  SIZE(ulonglong2);
  SIZE(__nv_bfloat16);
  SIZE(__nv_bfloat162);
  SIZE(__half);
  SIZE(__half2);
  SIZE(__nv_fp8_e4m3);
  SIZE(__nv_fp8_e5m2);
  SIZE(__nv_fp8x2_storage_t);
}

}  // namespace

void PrintApi() {
  DeviceFunctions();
  MemoryFunctions();
  StreamFunctions();
  Errors();
  Enumerators();
  DeviceAttributes();
  Structures();
  VectorTypes();
}

}  // namespace sluice::probe

int main() {
  sluice::probe::PrintApi();
  sluice::probe::PrintFloats();
  return 0;
}
