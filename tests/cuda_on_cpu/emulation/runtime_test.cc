// The runtime API's contracts: memory, copies, devices, launches, errors.
#include <gtest/gtest.h>

#include <array>
#include <memory>
#include <string>
#include <vector>

#include "tests/cuda_on_cpu/emulated_test.h"
#include "tests/cuda_on_cpu/emulation/toy_kernels.h"

namespace sluice {
namespace {

using cuda_emu::Config;

class RuntimeTest : public EmulatedTest {
 protected:
  static bool Diagnosed(const std::string& text) {
    const std::string all = TakeDiagnostics();
    EXPECT_NE(all.find(text), std::string::npos) << "have: " << all << " want: " << text;
    return all.find(text) != std::string::npos;
  }
};

TEST_F(RuntimeTest, DeviceMemoryIsLimitedAndCounted) {
  Config config;
  config.device_bytes = 1 << 20;
  cuda_emu::Reset(config);
  void* p = nullptr;
  ASSERT_CUDA_OK(cudaMalloc(&p, 700 << 10));
  EXPECT_EQ(reinterpret_cast<uintptr_t>(p) % 256, 0u);
  size_t free = 0;
  size_t total = 0;
  ASSERT_CUDA_OK(cudaMemGetInfo(&free, &total));
  EXPECT_EQ(total, 1u << 20);
  EXPECT_EQ(free, (1u << 20) - (700u << 10));
  void* q = &free;
  EXPECT_EQ(cudaMalloc(&q, 400 << 10), cudaErrorMemoryAllocation);
  EXPECT_EQ(q, nullptr);
  EXPECT_EQ(cudaGetLastError(), cudaErrorMemoryAllocation);
  EXPECT_EQ(cudaGetLastError(), cudaSuccess);
  EXPECT_CUDA_OK(cudaFree(p));
  EXPECT_CUDA_OK(cudaFree(nullptr));
}

TEST_F(RuntimeTest, PinnedMemoryIsLimitedAndKnowsWhatItIs) {
  Config config;
  config.pinned_bytes = 1 << 20;
  cuda_emu::Reset(config);
  void* p = nullptr;
  void* q = nullptr;
  ASSERT_CUDA_OK(cudaHostAlloc(&p, 600 << 10, cudaHostAllocPortable));
  EXPECT_EQ(cudaHostAlloc(&q, 600 << 10, cudaHostAllocDefault), cudaErrorMemoryAllocation);
  std::vector<char> pageable(64 << 10);
  EXPECT_CUDA_OK(cudaHostRegister(pageable.data(), pageable.size(), cudaHostRegisterDefault));
  EXPECT_EQ(cudaHostRegister(pageable.data() + 100, 10, 0), cudaErrorHostMemoryAlreadyRegistered);
  EXPECT_EQ(cudaHostRegister(pageable.data() - 4, 100, 0), cudaErrorHostMemoryAlreadyRegistered);
  cudaPointerAttributes attributes{};
  EXPECT_CUDA_OK(cudaPointerGetAttributes(&attributes, pageable.data() + 7));
  EXPECT_EQ(attributes.type, cudaMemoryTypeHost);
  void* device = nullptr;
  EXPECT_CUDA_OK(cudaHostGetDevicePointer(&device, pageable.data(), 0));
  EXPECT_EQ(device, pageable.data());
  EXPECT_CUDA_OK(cudaHostUnregister(pageable.data()));
  EXPECT_CUDA_OK(cudaPointerGetAttributes(&attributes, pageable.data()));
  EXPECT_EQ(attributes.type, cudaMemoryTypeUnregistered);
  EXPECT_EQ(cudaHostUnregister(pageable.data()), cudaErrorHostMemoryNotRegistered);
  EXPECT_EQ(cudaFree(p), cudaErrorInvalidValue);
  EXPECT_TRUE(Diagnosed("free: release of a pointer"));
  EXPECT_CUDA_OK(cudaFreeHost(p));
}

TEST_F(RuntimeTest, CopiesAreCheckedWhenTheyAreIssued) {
  const DeviceArray<int> device(16);
  const PinnedArray<int> pinned(16);
  std::array<int, 16> pageable{};
  const TestStream stream;
  EXPECT_EQ(cudaMemcpyAsync(device.data(), pinned.data(), 65, cudaMemcpyHostToDevice, stream),
            cudaErrorInvalidValue);
  EXPECT_TRUE(Diagnosed("copy of 65 bytes runs past the end"));
  EXPECT_EQ(cudaMemcpyAsync(device.data(), pinned.data(), 64, cudaMemcpyDeviceToHost, stream),
            cudaErrorInvalidMemcpyDirection);
  EXPECT_TRUE(Diagnosed("does not match its pointers"));
  EXPECT_CUDA_OK(
      cudaMemcpyAsync(device.data(), pageable.data(), 64, cudaMemcpyHostToDevice, stream));
  EXPECT_TRUE(Diagnosed("pageable host memory"));
  EXPECT_CUDA_OK(stream.Synchronize());
  EXPECT_CUDA_OK(
      cudaMemcpyAsync(device.data(), pinned.data(), 64, cudaMemcpyHostToDevice, nullptr));
  EXPECT_TRUE(Diagnosed("memcpy on the legacy default stream"));
  EXPECT_CUDA_OK(cudaDeviceSynchronize());
}

TEST_F(RuntimeTest, ASynchronousCopyWaitsForBlockingStreams) {
  const DeviceArray<float> values(std::vector<float>(1, 0.0f));
  cudaStream_t blocking = nullptr;
  ASSERT_CUDA_OK(cudaStreamCreateWithFlags(&blocking, cudaStreamDefault));
  ASSERT_CUDA_OK(toy::AddOne(values.data(), 1, blocking));
  EXPECT_EQ(values.Get()[0], 1);
  EXPECT_CUDA_OK(cudaStreamDestroy(blocking));
}

TEST_F(RuntimeTest, ASynchronousCopyDoesNotWaitForNonBlockingStreams) {
  Config config;
  config.stream_order = cuda_emu::StreamOrder::kCopiesFirst;
  cuda_emu::Reset(config);
  const DeviceArray<float> written(std::vector<float>(1, 0.0f));
  const DeviceArray<float> other(std::vector<float>(1, 7.0f));
  const TestStream stream;
  ASSERT_CUDA_OK(toy::AddOne(written.data(), 1, stream));
  EXPECT_EQ(other.Get()[0], 7);
  EXPECT_EQ(cuda_emu::Trace().back().name, "memcpy");
  EXPECT_EQ(cuda_emu::CurrentCounts().blocks, 0u);  // the kernel has not run
  EXPECT_CUDA_OK(stream.Synchronize());
}

TEST_F(RuntimeTest, RowsAreCopiedByTheirPitches) {
  const PinnedArray<int> from(40);
  const PinnedArray<int> back(40, -1);
  for (size_t i = 0; i < 40; ++i) from[i] = static_cast<int>(i);
  const DeviceArray<int> device(std::vector<int>(40, -1));
  const TestStream stream;
  constexpr size_t kRow = 3 * sizeof(int);
  ASSERT_CUDA_OK(cudaMemcpy2DAsync(device.data(), 5 * sizeof(int), from.data(), 8 * sizeof(int),
                                   kRow, 4, cudaMemcpyHostToDevice, stream));
  ASSERT_CUDA_OK(cudaMemcpyAsync(back.data(), device.data(), 160, cudaMemcpyDeviceToHost, stream));
  ASSERT_CUDA_OK(stream.Synchronize());
  for (int i = 0; i < 40; ++i) {
    const bool copied = i < 20 && i % 5 < 3;
    EXPECT_EQ(back[static_cast<size_t>(i)], copied ? i / 5 * 8 + i % 5 : -1) << i;
  }
}

class BatchTest : public RuntimeTest {
 protected:
  static constexpr size_t kCopies = 10;
  static constexpr size_t kBytes = 64;

  cudaError_t Issue(cudaMemcpySrcAccessOrder order, cudaStream_t stream) {
    std::vector<void*> dsts;
    std::vector<const void*> srcs;
    for (size_t i = 0; i < kCopies; ++i) {
      dsts.push_back(device_->data() + (kCopies - 1 - i) * kBytes);
      srcs.push_back(pinned_->data() + i * kBytes);
    }
    const std::vector<size_t> sizes(kCopies, kBytes);
    cudaMemcpyAttributes attributes{};
    attributes.srcAccessOrder = order;
    size_t index = 0;
    return cudaMemcpyBatchAsync(dsts.data(), srcs.data(), sizes.data(), kCopies, &attributes,
                                &index, 1, stream);
  }
  void Fill(unsigned char first) {
    for (size_t i = 0; i < kCopies * kBytes; ++i) {
      (*pinned_)[i] = static_cast<unsigned char>(first + i / kBytes);
    }
  }
  void ExpectArrived(unsigned char first) {
    const std::vector<unsigned char> got = device_->Get();
    for (size_t i = 0; i < kCopies * kBytes; ++i) {
      ASSERT_EQ(got[i], first + (kCopies - 1 - i / kBytes)) << i;
    }
  }

  void SetUp() override {
    RuntimeTest::SetUp();
    device_ = std::make_unique<DeviceArray<unsigned char>>(kCopies * kBytes);
    pinned_ = std::make_unique<PinnedArray<unsigned char>>(kCopies * kBytes);
  }
  void TearDown() override {
    device_.reset();
    pinned_.reset();
    RuntimeTest::TearDown();
  }

  std::unique_ptr<DeviceArray<unsigned char>> device_;
  std::unique_ptr<PinnedArray<unsigned char>> pinned_;
};

TEST_F(BatchTest, EveryCopyOfABatchArrives) {
  Fill(1);
  const TestStream stream;
  ASSERT_CUDA_OK(Issue(cudaMemcpySrcAccessOrderStream, stream));
  ASSERT_CUDA_OK(stream.Synchronize());
  EXPECT_EQ(cuda_emu::Trace().back().name, "batch[10]");
  EXPECT_EQ(cuda_emu::Trace().back().bytes, kCopies * kBytes);
  ExpectArrived(1);
}

TEST_F(BatchTest, SourceReadDuringTheCallMayChangeAfterwards) {
  Fill(1);
  const TestStream stream;
  ASSERT_CUDA_OK(Issue(cudaMemcpySrcAccessOrderDuringApiCall, stream));
  Fill(100);
  ASSERT_CUDA_OK(stream.Synchronize());
  ExpectArrived(1);
  // In stream order the copy sees what is there when the stream gets to it.
  ASSERT_CUDA_OK(Issue(cudaMemcpySrcAccessOrderStream, stream));
  ASSERT_CUDA_OK(stream.Synchronize());
  ExpectArrived(100);
}

TEST_F(BatchTest, WrongArgumentsAreRefused) {
  const TestStream stream;
  EXPECT_EQ(Issue(cudaMemcpySrcAccessOrderInvalid, stream), cudaErrorInvalidValue);
  EXPECT_EQ(Issue(cudaMemcpySrcAccessOrderStream, nullptr), cudaErrorInvalidValue);
  EXPECT_EQ(cudaMemcpyBatchAsync(nullptr, nullptr, nullptr, 0, nullptr, nullptr, 0, stream),
            cudaErrorInvalidValue);
}

TEST_F(BatchTest, CopiesThatDependOnEachOtherAreDiagnosed) {
  const TestStream stream;
  void* dsts[2] = {device_->data(), device_->data() + 32};
  const void* srcs[2] = {pinned_->data(), pinned_->data() + 64};
  const size_t sizes[2] = {64, 64};
  cudaMemcpyAttributes attributes{};
  attributes.srcAccessOrder = cudaMemcpySrcAccessOrderStream;
  size_t index = 0;
  ASSERT_CUDA_OK(cudaMemcpyBatchAsync(dsts, srcs, sizes, 2, &attributes, &index, 1, stream));
  EXPECT_TRUE(Diagnosed("depend on each other"));
  EXPECT_CUDA_OK(stream.Synchronize());
}

TEST_F(RuntimeTest, LaunchesAreChecked) {
  const TestStream stream;
  EXPECT_EQ(toy::LaunchShape(1, 1025, stream), cudaErrorInvalidConfiguration);
  EXPECT_EQ(toy::LaunchShape(1, 0, stream), cudaErrorInvalidConfiguration);
  EXPECT_EQ(toy::LaunchShape(0, 32, stream), cudaErrorInvalidConfiguration);
  EXPECT_EQ(toy::LaunchShape({1, 65536, 1}, 32, stream), cudaErrorInvalidConfiguration);
  EXPECT_EQ(toy::LaunchShape(1, {1, 1, 65}, stream), cudaErrorInvalidConfiguration);
  EXPECT_CUDA_OK(toy::LaunchShape({3, 2, 2}, {8, 8, 2}, stream));
  EXPECT_CUDA_OK(stream.Synchronize());
  EXPECT_EQ(cuda_emu::CurrentCounts().blocks, 12u);
}

TEST_F(RuntimeTest, SharedMemoryAbove48KNeedsPermission) {
  const TestStream stream;
  constexpr size_t kMuch = 100 << 10;
  EXPECT_EQ(toy::UseShared(kMuch, stream), cudaErrorInvalidValue);
  EXPECT_TRUE(Diagnosed("102400 bytes of shared memory"));
  EXPECT_EQ(toy::AllowUseShared(300 << 10), cudaErrorInvalidValue);
  EXPECT_CUDA_OK(toy::AllowUseShared(kMuch));
  EXPECT_CUDA_OK(toy::UseShared(kMuch, stream));
  EXPECT_CUDA_OK(stream.Synchronize());
  int blocks = 0;
  EXPECT_CUDA_OK(toy::UseSharedOccupancy(128, kMuch, &blocks));
  EXPECT_EQ(blocks, 2);
  EXPECT_CUDA_OK(toy::UseSharedOccupancy(1024, 0, &blocks));
  EXPECT_EQ(blocks, 2);
  EXPECT_CUDA_OK(toy::UseSharedOccupancy(32, 0, &blocks));
  EXPECT_EQ(blocks, 32);
}

TEST_F(RuntimeTest, PropertiesAgreeWithAttributes) {
  cudaDeviceProp properties{};
  ASSERT_CUDA_OK(cudaGetDeviceProperties(&properties, 0));
  int value = 0;
  EXPECT_CUDA_OK(cudaDeviceGetAttribute(&value, cudaDevAttrComputeCapabilityMajor, 0));
  EXPECT_EQ(value, properties.major);
  EXPECT_CUDA_OK(cudaDeviceGetAttribute(&value, cudaDevAttrMaxSharedMemoryPerBlockOptin, 0));
  EXPECT_EQ(static_cast<size_t>(value), properties.sharedMemPerBlockOptin);
  EXPECT_EQ(cudaDeviceGetAttribute(&value, cudaDevAttrWarpSize, 1), cudaErrorInvalidDevice);
  char bus[32] = {};
  EXPECT_CUDA_OK(cudaDeviceGetPCIBusId(bus, sizeof(bus), 0));
  EXPECT_EQ(std::string(bus), "0000:3B:00.0");
  EXPECT_EQ(cudaDeviceGetPCIBusId(bus, 4, 0), cudaErrorInvalidValue);
  int device = -1;
  EXPECT_CUDA_OK(cudaDeviceGetByPCIBusId(&device, "0000:3B:00.0"));
  EXPECT_EQ(device, 0);
}

TEST_F(RuntimeTest, AMachineWithoutDeviceOrWithAnOldDriverSaysSo) {
  Config config;
  config.devices = 0;
  cuda_emu::Reset(config);
  int count = -1;
  EXPECT_EQ(cudaGetDeviceCount(&count), cudaErrorNoDevice);
  EXPECT_EQ(count, 0);
  config.devices = 1;
  config.driver_version = 12040;
  cuda_emu::Reset(config);
  EXPECT_EQ(cudaGetDeviceCount(&count), cudaErrorInsufficientDriver);
  EXPECT_STREQ(cudaGetErrorString(cudaErrorInsufficientDriver),
               "CUDA driver version is insufficient for CUDA runtime version");
  int version = 0;
  EXPECT_CUDA_OK(cudaDriverGetVersion(&version));
  EXPECT_EQ(version, 12040);
}

TEST_F(RuntimeTest, AFailedOperationSticks) {
  const cuda_emu::LeakCounts before = cuda_emu::Leaks();
  float* values = nullptr;
  cudaStream_t stream = nullptr;
  ASSERT_CUDA_OK(cudaMalloc(&values, 128));
  ASSERT_CUDA_OK(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  cuda_emu::FailStreamOperation(1, cudaErrorIllegalAddress);
  EXPECT_CUDA_OK(toy::AddOne(values, 32, stream));  // the launch itself is fine
  EXPECT_EQ(cudaStreamSynchronize(stream), cudaErrorIllegalAddress);
  void* p = nullptr;
  EXPECT_EQ(cudaMalloc(&p, 64), cudaErrorIllegalAddress);
  EXPECT_EQ(cudaGetLastError(), cudaErrorIllegalAddress);
  EXPECT_EQ(cudaGetLastError(), cudaErrorIllegalAddress);
  // Releases report it too, and still release.
  EXPECT_EQ(cudaFree(values), cudaErrorIllegalAddress);
  EXPECT_EQ(cudaStreamDestroy(stream), cudaErrorIllegalAddress);
  EXPECT_EQ(cuda_emu::Leaks(), before);
  Abandon();
}

TEST_F(RuntimeTest, HandlesThatDoNotExistAreRefused) {
  auto* const nothing = reinterpret_cast<cudaStream_t>(this);
  auto* const no_event = reinterpret_cast<cudaEvent_t>(this);
  EXPECT_EQ(cudaStreamSynchronize(nothing), cudaErrorInvalidResourceHandle);
  EXPECT_EQ(cudaStreamDestroy(nothing), cudaErrorInvalidResourceHandle);
  EXPECT_EQ(cudaEventRecord(no_event, nullptr), cudaErrorInvalidResourceHandle);
  EXPECT_EQ(cudaEventDestroy(no_event), cudaErrorInvalidResourceHandle);
}

}  // namespace
}  // namespace sluice
