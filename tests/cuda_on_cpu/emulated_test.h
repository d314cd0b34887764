// EmulatedTest: the fixture of every test that runs CUDA code on the CPU.
//
// Each test starts with a fresh machine and ends with: no diagnostics, nothing leaked. A test that
// provokes diagnostics takes them with TakeDiagnostics().
//
// tests/gpu compiles the same tests against the real runtime; then cuda_emu/control.h is answered
// by a real device, and a test is skipped where there is none.
#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <string>
#include <vector>

#include "backend/cuda/gpu/gpu.h"
#include "cuda_emu/control.h"
#if !defined(SLUICE_CUDA_EMU)
#include "tests/gpu/real_float.h"
#endif

// gcc and clang announce sanitizers differently.
#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SLUICE_TEST_ASAN 1
#endif
#if __has_feature(thread_sanitizer)
#define SLUICE_TEST_TSAN 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__)
#define SLUICE_TEST_ASAN 1
#endif
#if defined(__SANITIZE_THREAD__)
#define SLUICE_TEST_TSAN 1
#endif

namespace sluice {

// The text of a failed call; a success is true.
inline ::testing::AssertionResult CudaOk(cudaError_t error) {
  if (error == cudaSuccess) return ::testing::AssertionSuccess();
  return ::testing::AssertionFailure() << cudaGetErrorName(error);
}
#define EXPECT_CUDA_OK(call) EXPECT_TRUE(::sluice::CudaOk(call))
#define ASSERT_CUDA_OK(call) ASSERT_TRUE(::sluice::CudaOk(call))

// An array in device memory, with copies to and from vectors that wait for everything.
template <class T>
class DeviceArray {
 public:
  explicit DeviceArray(size_t size) : size_(size) {
    EXPECT_CUDA_OK(cudaMalloc(&data_, size * sizeof(T)));
  }
  explicit DeviceArray(const std::vector<T>& values) : DeviceArray(values.size()) { Set(values); }
  ~DeviceArray() { EXPECT_CUDA_OK(cudaFree(data_)); }
  DeviceArray(const DeviceArray&) = delete;
  DeviceArray& operator=(const DeviceArray&) = delete;

  T* data() const { return data_; }
  size_t size() const { return size_; }
  void Set(const std::vector<T>& values) {
    EXPECT_CUDA_OK(
        cudaMemcpy(data_, values.data(), values.size() * sizeof(T), cudaMemcpyHostToDevice));
  }
  std::vector<T> Get() const {
    std::vector<T> values(size_);
    EXPECT_CUDA_OK(cudaMemcpy(values.data(), data_, size_ * sizeof(T), cudaMemcpyDeviceToHost));
    return values;
  }

 private:
  T* data_ = nullptr;
  size_t size_ = 0;
};

// An array in pinned host memory.
template <class T>
class PinnedArray {
 public:
  explicit PinnedArray(size_t size, T value = T{}) : size_(size) {
    EXPECT_CUDA_OK(cudaMallocHost(&data_, size * sizeof(T)));
    for (size_t i = 0; i < size; ++i) data_[i] = value;
  }
  ~PinnedArray() { EXPECT_CUDA_OK(cudaFreeHost(data_)); }
  PinnedArray(const PinnedArray&) = delete;
  PinnedArray& operator=(const PinnedArray&) = delete;

  T* data() const { return data_; }
  size_t size() const { return size_; }
  T& operator[](size_t i) const { return data_[i]; }

 private:
  T* data_ = nullptr;
  size_t size_ = 0;
};

// A non-blocking stream.
class TestStream {
 public:
  explicit TestStream(int priority = 0) {
    EXPECT_CUDA_OK(cudaStreamCreateWithPriority(&stream_, cudaStreamNonBlocking, priority));
  }
  ~TestStream() { EXPECT_CUDA_OK(cudaStreamDestroy(stream_)); }
  TestStream(const TestStream&) = delete;
  TestStream& operator=(const TestStream&) = delete;
  operator cudaStream_t() const { return stream_; }  // NOLINT(google-explicit-constructor)
  cudaError_t Synchronize() const { return cudaStreamSynchronize(stream_); }

 private:
  cudaStream_t stream_ = nullptr;
};

class TestEvent {
 public:
  explicit TestEvent(unsigned flags = cudaEventDisableTiming) {
    EXPECT_CUDA_OK(cudaEventCreateWithFlags(&event_, flags));
  }
  ~TestEvent() { EXPECT_CUDA_OK(cudaEventDestroy(event_)); }
  TestEvent(const TestEvent&) = delete;
  TestEvent& operator=(const TestEvent&) = delete;
  operator cudaEvent_t() const { return event_; }  // NOLINT(google-explicit-constructor)

 private:
  cudaEvent_t event_ = nullptr;
};

class EmulatedTest : public ::testing::Test {
 protected:
  void SetUp() override { cuda_emu::Reset(); }

  void TearDown() override {
    for (const auto& diagnostic : cuda_emu::Diagnostics()) {
      ADD_FAILURE() << diagnostic.kind << ": " << diagnostic.text;
    }
    const cuda_emu::LeakCounts leaks = cuda_emu::Leaks();
    EXPECT_EQ(leaks.device_allocations, 0u);
    EXPECT_EQ(leaks.host_allocations, 0u);
    EXPECT_EQ(leaks.registrations, 0u);
    EXPECT_EQ(leaks.streams, 0u);
    EXPECT_EQ(leaks.events, 0u);
    cuda_emu::Reset();
  }

  // All diagnostics so far, one per line as "kind: text"; forgets them.
  static std::string TakeDiagnostics() {
    std::string lines;
    for (const auto& diagnostic : cuda_emu::Diagnostics()) {
      lines += diagnostic.kind + ": " + diagnostic.text + "\n";
    }
    cuda_emu::ClearDiagnostics();
    return lines;
  }

  // After a sticky error the device answers nothing but that error; this starts a fresh machine, so
  // that nothing of the old one may be used or counted as a leak.
  static void Abandon() { cuda_emu::Reset(); }
};

}  // namespace sluice
