// What the GPU bench needs of a device: memory, streams, and the time of what is put into one.
// Errors end the program with the call's name: a bench has nothing to clean up.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "backend/cuda/gpu/gpu.h"

namespace sluice::cuda {

// Ends the program with a message unless `error` is a success.
void Must(cudaError_t error, const char* what);

// Device or pinned host memory, filled with a fixed pseudo-random pattern of small numbers.
class BenchMemory {
 public:
  enum class Where { kDevice, kPinned };
  BenchMemory(Where where, size_t bytes);
  ~BenchMemory();
  BenchMemory(const BenchMemory&) = delete;
  BenchMemory& operator=(const BenchMemory&) = delete;

  template <class T = void>
  T* data() const {
    return static_cast<T*>(data_);
  }
  size_t bytes() const { return bytes_; }
  void Set(const void* from, size_t bytes);  // device memory only

 private:
  const Where where_;
  const size_t bytes_;
  void* data_ = nullptr;
};

template <class T>
class BenchArray : public BenchMemory {
 public:
  explicit BenchArray(const std::vector<T>& values)
      : BenchMemory(Where::kDevice, values.size() * sizeof(T) + 16) {
    Set(values.data(), values.size() * sizeof(T));
  }
  T* get() const { return data<T>(); }
};

class BenchStream {
 public:
  BenchStream();
  ~BenchStream();
  BenchStream(const BenchStream&) = delete;
  BenchStream& operator=(const BenchStream&) = delete;
  cudaStream_t get() const { return stream_; }

 private:
  cudaStream_t stream_ = nullptr;
};

// Seconds that one `enqueue` takes on the device: the median of `rounds` rounds, each of as many
// calls as last about a millisecond, after a warm-up.
double TimeOf(const BenchStream& stream, int rounds, const std::function<void()>& enqueue);

// One line of the report.
struct BenchRow {
  std::string section;  // "copy", "kernel", "crossover"
  std::string name;
  double seconds = 0;
  double bytes = 0;   // moved, 0: not meant
  double flops = 0;   // done, 0: not meant
  double ratio = 0;   // of what `limit` says is possible, 0: none
  std::string limit;  // "of the device's copy rate"
};

// What limits the kernels, as measured on this device.
struct DeviceLimits {
  double memory_rate = 0;   // bytes per second, read plus written by one large copy
  double product_rate = 0;  // FLOPs per second of one large matrix product
};

}  // namespace sluice::cuda
