#include "tests/gpu/bench_device.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>

namespace sluice::cuda {
namespace {

// bf16 numbers of about one unit, also fine as bytes of codes and as small floats.
std::vector<uint16_t> Pattern() {
  std::vector<uint16_t> pattern(1 << 19);
  uint64_t state = 1;
  for (uint16_t& x : pattern) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    x = static_cast<uint16_t>(0x3e00 + (state >> 40) % 0x180 + ((state >> 33) % 2 << 15));
  }
  return pattern;
}

class BenchEvent {
 public:
  BenchEvent() { Must(cudaEventCreate(&event_), "create an event"); }
  ~BenchEvent() { Must(cudaEventDestroy(event_), "destroy an event"); }
  BenchEvent(const BenchEvent&) = delete;
  BenchEvent& operator=(const BenchEvent&) = delete;
  cudaEvent_t get() const { return event_; }

 private:
  cudaEvent_t event_ = nullptr;
};

// Seconds of `calls` calls together.
double TimeCalls(const BenchStream& stream, int calls, const std::function<void()>& enqueue) {
  const BenchEvent start;
  const BenchEvent end;
  Must(cudaEventRecord(start.get(), stream.get()), "record an event");
  for (int i = 0; i < calls; ++i) enqueue();
  Must(cudaEventRecord(end.get(), stream.get()), "record an event");
  Must(cudaEventSynchronize(end.get()), "wait for the device");
  float milliseconds = 0;
  Must(cudaEventElapsedTime(&milliseconds, start.get(), end.get()), "time between events");
  return static_cast<double>(milliseconds) * 1e-3;
}

}  // namespace

void Must(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return;
  std::fprintf(stderr, "gpu_bench: %s: %s: %s\n", what, cudaGetErrorName(error),
               cudaGetErrorString(error));
  std::exit(1);
}

BenchMemory::BenchMemory(Where where, size_t bytes) : where_(where), bytes_(bytes) {
  static const std::vector<uint16_t> pattern = Pattern();
  const size_t size = pattern.size() * sizeof(uint16_t);
  if (where == Where::kPinned) {
    Must(cudaMallocHost(&data_, bytes), "pinned memory");
  } else {
    Must(cudaMalloc(&data_, bytes), "device memory");
  }
  const cudaMemcpyKind kind =
      where == Where::kPinned ? cudaMemcpyHostToHost : cudaMemcpyHostToDevice;
  for (size_t at = 0; at < bytes; at += size) {
    Must(cudaMemcpy(data<char>() + at, pattern.data(), std::min(size, bytes - at), kind), "fill");
  }
}

BenchMemory::~BenchMemory() {
  Must(where_ == Where::kPinned ? cudaFreeHost(data_) : cudaFree(data_), "free memory");
}

void BenchMemory::Set(const void* from, size_t bytes) {
  Must(cudaMemcpy(data_, from, bytes, cudaMemcpyHostToDevice), "upload");
}

BenchStream::BenchStream() {
  Must(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "create a stream");
}
BenchStream::~BenchStream() { Must(cudaStreamDestroy(stream_), "destroy a stream"); }

double TimeOf(const BenchStream& stream, int rounds, const std::function<void()>& enqueue) {
  const double once = std::min(TimeCalls(stream, 1, enqueue), TimeCalls(stream, 1, enqueue));
  const int calls =
      static_cast<int>(std::clamp(std::ceil(1e-3 / std::max(once, 1e-6)), 1.0, 100.0));
  std::vector<double> times;
  for (int i = 0; i < rounds; ++i) times.push_back(TimeCalls(stream, calls, enqueue) / calls);
  std::nth_element(times.begin(), times.begin() + rounds / 2, times.end());
  return times[static_cast<size_t>(rounds / 2)];
}

}  // namespace sluice::cuda
