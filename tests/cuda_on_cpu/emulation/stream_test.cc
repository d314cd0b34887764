// Streams and events: order, schedules, the modelled clock.
#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <string>
#include <vector>

#include "tests/cuda_on_cpu/emulated_test.h"
#include "tests/cuda_on_cpu/emulation/seeded_run.h"
#include "tests/cuda_on_cpu/emulation/toy_kernels.h"

namespace sluice {
namespace {

using cuda_emu::Config;
using cuda_emu::StreamOrder;
using cuda_emu::Streams;
using cuda_emu::TraceEntry;

std::string Order() {
  std::string order;
  for (const TraceEntry& entry : cuda_emu::Trace()) order += entry.stream + " ";
  return order;
}

class StreamTest : public EmulatedTest {
 protected:
  static void Use(StreamOrder order, uint64_t seed = 1) {
    Config config;
    config.stream_order = order;
    config.seed = seed;
    cuda_emu::Reset(config);
  }
};

TEST_F(StreamTest, WorkOfOneStreamRunsInOrderAndOnlyWhenWaitedFor) {
  const DeviceArray<float> values(std::vector<float>(8, 0.0f));
  const PinnedArray<float> host(8, -1);
  const TestStream stream;
  const size_t before = cuda_emu::Trace().size();
  ASSERT_CUDA_OK(toy::AddOne(values.data(), 8, stream));
  ASSERT_CUDA_OK(toy::AddOne(values.data(), 8, stream));
  ASSERT_CUDA_OK(cudaMemcpyAsync(host.data(), values.data(), 32, cudaMemcpyDeviceToHost, stream));
  ASSERT_CUDA_OK(toy::AddOne(values.data(), 8, stream));
  EXPECT_EQ(cuda_emu::Trace().size(), before);  // reading host[0] here would be a race
  ASSERT_CUDA_OK(stream.Synchronize());
  EXPECT_EQ(host[0], 2);
  EXPECT_EQ(values.Get()[0], 3);
}

TEST_F(StreamTest, RandomSchedulesDifferBySeedAndRepeatForTheSame) {
  const auto run = [](uint64_t seed) {
    Use(StreamOrder::kRandom, seed);
    const DeviceArray<float> values(std::vector<float>(8, 0.0f));
    const TestStream a;
    const TestStream b;
    const TestStream c;
    for (int i = 0; i < 6; ++i) {
      float* mine = values.data();
      for (const TestStream* s : {&a, &b, &c}) {
        EXPECT_CUDA_OK(cudaMemsetAsync(mine++, i, sizeof(float), *s));
      }
    }
    EXPECT_CUDA_OK(cudaDeviceSynchronize());
    return Order();
  };
  std::set<std::string> seen;
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    EXPECT_EQ(run(seed), run(seed));
    seen.insert(run(seed));
  }
  EXPECT_GE(seen.size(), 8u);
}

TEST_F(StreamTest, CopiesFirstAndCopiesLastAreWhatTheySay) {
  for (const StreamOrder order : {StreamOrder::kCopiesFirst, StreamOrder::kCopiesLast}) {
    Use(order);
    const DeviceArray<float> values(8);
    const PinnedArray<float> host(8);
    const TestStream compute;
    const TestStream copy;
    for (int i = 0; i < 2; ++i) {
      ASSERT_CUDA_OK(toy::LaunchShape(1, 32, compute));
      ASSERT_CUDA_OK(cudaMemcpyAsync(values.data(), host.data(), 32, cudaMemcpyHostToDevice, copy));
    }
    ASSERT_CUDA_OK(cudaDeviceSynchronize());
    EXPECT_EQ(Order(), order == StreamOrder::kCopiesFirst ? "s2 s2 s1 s1 " : "s1 s1 s2 s2 ");
  }
}

TEST_F(StreamTest, AWaitRefersToTheRecordThatWasLatestWhenItWasIssued) {
  for (uint64_t seed = 1; seed <= 10; ++seed) {
    Use(StreamOrder::kRandom, seed);
    const DeviceArray<float> values(std::vector<float>(1, 0.0f));
    const PinnedArray<float> seen(1, -1);
    const TestStream writer;
    const TestStream reader;
    const TestEvent written;
    ASSERT_CUDA_OK(toy::AddOne(values.data(), 1, writer));
    ASSERT_CUDA_OK(cudaEventRecord(written, writer));
    ASSERT_CUDA_OK(cudaStreamWaitEvent(reader, written));
    ASSERT_CUDA_OK(cudaMemcpyAsync(seen.data(), values.data(), 4, cudaMemcpyDeviceToHost, reader));
    // Recording again, later, changes nothing for the wait above.
    ASSERT_CUDA_OK(cudaEventRecord(written, reader));
    ASSERT_CUDA_OK(cudaEventSynchronize(written));
    EXPECT_EQ(seen[0], 1) << "seed " << seed;
  }
}

TEST_F(StreamTest, AQueryMakesProgressAndEndsInSuccess) {
  for (const StreamOrder order : {StreamOrder::kRandom, StreamOrder::kTimed}) {
    Use(order);
    const DeviceArray<float> values(8);
    const PinnedArray<float> host(8);
    const TestStream stream;
    const TestEvent done;
    EXPECT_EQ(cudaEventQuery(done), cudaSuccess);  // never recorded
    ASSERT_CUDA_OK(cudaMemcpyAsync(values.data(), host.data(), 32, cudaMemcpyHostToDevice, stream));
    ASSERT_CUDA_OK(toy::LaunchShape(1, 32, stream));
    ASSERT_CUDA_OK(cudaEventRecord(done, stream));
    int not_ready = 0;
    cudaError_t error = cudaErrorNotReady;
    while (error == cudaErrorNotReady && not_ready < 1000) {
      error = cudaEventQuery(done);
      not_ready += error == cudaErrorNotReady;
    }
    EXPECT_CUDA_OK(error);
    EXPECT_GE(not_ready, 1);
    EXPECT_CUDA_OK(cudaGetLastError());  // not ready is no error
    EXPECT_CUDA_OK(cudaStreamQuery(stream));
  }
}

TEST_F(StreamTest, HostFunctionsRunInStreamOrderAndMayNotCallTheApi) {
  struct State {
    float* value;
    float seen;
    cudaError_t error;
  };
  const DeviceArray<float> values(std::vector<float>(1, 4.0f));
  const PinnedArray<float> host(1);
  const TestStream stream;
  State state{host.data(), 0, cudaSuccess};
  ASSERT_CUDA_OK(cudaMemcpyAsync(host.data(), values.data(), 4, cudaMemcpyDeviceToHost, stream));
  ASSERT_CUDA_OK(cudaLaunchHostFunc(
      stream,
      [](void* p) {
        auto* const s = static_cast<State*>(p);
        s->seen = *s->value;
        s->error = cudaStreamQuery(nullptr);
      },
      &state));
  ASSERT_CUDA_OK(stream.Synchronize());
  EXPECT_EQ(state.seen, 4);
  EXPECT_EQ(state.error, cudaErrorNotPermitted);
  EXPECT_NE(TakeDiagnostics().find("inside a cudaLaunchHostFunc callback"), std::string::npos);
}

// ---- The modelled clock ------------------------------------------------------------------------

class ModelledTimeTest : public StreamTest {
 protected:
  // 1 byte per microsecond both ways, kernels of 100 us, calls that cost nothing.
  static Config Model() {
    Config config;
    config.stream_order = StreamOrder::kTimed;
    config.host_to_device = {.bytes_per_second = 1e6};
    config.device_to_host = {.bytes_per_second = 1e6};
    config.api_us = 0;
    config.kernel_us = 100;
    return config;
  }
  static void SetUpModel(const Config& config) { cuda_emu::Reset(config); }
};

TEST_F(ModelledTimeTest, DirectionsAndKernelsOverlapCopiesOfOneDirectionDoNot) {
  SetUpModel(Model());
  const DeviceArray<char> device(400);
  const PinnedArray<char> host(400);
  const TestStream a;
  const TestStream b;
  const TestStream c;
  const TestStream d;
  const double start = cuda_emu::HostMicroseconds();
  ASSERT_CUDA_OK(cudaMemcpyAsync(device.data(), host.data(), 100, cudaMemcpyHostToDevice, a));
  ASSERT_CUDA_OK(
      cudaMemcpyAsync(device.data() + 100, host.data() + 100, 100, cudaMemcpyHostToDevice, b));
  ASSERT_CUDA_OK(
      cudaMemcpyAsync(host.data() + 200, device.data() + 200, 150, cudaMemcpyDeviceToHost, c));
  ASSERT_CUDA_OK(toy::LaunchShape(1, 32, d));
  ASSERT_CUDA_OK(cudaDeviceSynchronize());
  EXPECT_DOUBLE_EQ(cuda_emu::HostMicroseconds() - start, 200);
}

TEST_F(ModelledTimeTest, CostsOfCallsCopiesAndBatchesAddUp) {
  Config config = Model();
  config.api_us = 2;
  config.host_to_device = {
      .bytes_per_second = 1e6, .per_copy_us = 10, .per_batch_us = 20, .per_batch_copy_us = 1};
  SetUpModel(config);
  const DeviceArray<char> device(100);
  const PinnedArray<char> host(100);
  const TestStream stream;
  const TestEvent begin(cudaEventDefault);
  const TestEvent end(cudaEventDefault);
  ASSERT_CUDA_OK(cudaEventRecord(begin, stream));
  ASSERT_CUDA_OK(cudaMemcpyAsync(device.data(), host.data(), 50, cudaMemcpyHostToDevice, stream));
  void* dsts[2] = {device.data(), device.data() + 10};
  const void* srcs[2] = {host.data(), host.data() + 10};
  const size_t sizes[2] = {10, 15};
  cudaMemcpyAttributes attributes{};
  attributes.srcAccessOrder = cudaMemcpySrcAccessOrderStream;
  size_t index = 0;
  ASSERT_CUDA_OK(cudaMemcpyBatchAsync(dsts, srcs, sizes, 2, &attributes, &index, 1, stream));
  ASSERT_CUDA_OK(cudaEventRecord(end, stream));
  ASSERT_CUDA_OK(cudaEventSynchronize(end));
  float milliseconds = 0;
  ASSERT_CUDA_OK(cudaEventElapsedTime(&milliseconds, begin, end));
  // 2 us until the copy is issued, 10 + 50 for it, 20 + 2 * 1 + 25 for the batch.
  EXPECT_NEAR(milliseconds * 1e3, 2 + 60 + 47, 1e-3);
}

TEST_F(ModelledTimeTest, TwoStagingBuffersHideTheShorterOfLoadAndCompute) {
  for (const double kernel_us : {300.0, 1024.0, 3000.0}) {
    Config config = Model();
    config.kernel_us = kernel_us;
    SetUpModel(config);
    const double start = cuda_emu::HostMicroseconds();
    ASSERT_CUDA_OK(seeded::RunPipelineOnce());
    const double took = cuda_emu::HostMicroseconds() - start;
    double loads = 0;
    double kernels = 0;
    double stores = 0;
    for (const TraceEntry& entry : cuda_emu::Trace()) {
      const double spent = entry.end_us - entry.start_us;
      (entry.kind == 'K' ? kernels : entry.stream == "s1" ? loads : stores) += spent;
    }
    EXPECT_LT(took, 0.97 * (loads + kernels + stores)) << kernel_us;
    EXPECT_GE(took, std::max(loads, kernels) + stores - 1e-6) << kernel_us;
  }
}

TEST_F(ModelledTimeTest, ASmallCopyOvertakesABurstOfSlicesWithinTwoOfThem) {
  SetUpModel(Model());
  const DeviceArray<char> device(1100);
  const PinnedArray<char> host(1100);
  const TestStream burst;
  const TestStream control;
  for (int slice = 0; slice < 10; ++slice) {
    ASSERT_CUDA_OK(cudaMemcpyAsync(device.data() + 100 * slice, host.data() + 100 * slice, 100,
                                   cudaMemcpyHostToDevice, burst));
  }
  ASSERT_CUDA_OK(cudaMemcpyAsync(device.data() + 1000, host.data() + 1000, 10,
                                 cudaMemcpyHostToDevice, control));
  ASSERT_CUDA_OK(control.Synchronize());
  EXPECT_LE(cuda_emu::HostMicroseconds(), 210);
  ASSERT_CUDA_OK(burst.Synchronize());
  EXPECT_DOUBLE_EQ(cuda_emu::HostMicroseconds(), 1010);
}

TEST_F(ModelledTimeTest, KernelsOfAHigherPriorityGoFirst) {
  SetUpModel(Model());
  const TestStream low(0);
  const TestStream high(-5);
  for (int i = 0; i < 3; ++i) ASSERT_CUDA_OK(toy::LaunchShape(1, 32, low));
  ASSERT_CUDA_OK(toy::LaunchShape(1, 32, high));
  ASSERT_CUDA_OK(cudaDeviceSynchronize());
  EXPECT_EQ(Order(), "s2 s1 s1 s1 ");
  int priority = 0;
  EXPECT_CUDA_OK(cudaStreamGetPriority(high, &priority));
  EXPECT_EQ(priority, -5);
}

// ---- One OS thread per stream ------------------------------------------------------------------

class ThreadedStreamTest : public EmulatedTest {};

TEST_F(ThreadedStreamTest, StreamsRunAtTheSameTimeAndKeepTheirOrder) {
  constexpr int kStreams = 4;
  constexpr int kValues = 1024;
  Config config;
  config.streams = Streams::kThreads;
  config.host_to_device = {.bytes_per_second = 2e9, .per_copy_us = 5};
  cuda_emu::Reset(config);
  const PinnedArray<float> host(kStreams * kValues);
  for (size_t i = 0; i < host.size(); ++i) host[i] = static_cast<float>(i);
  {
    std::vector<std::unique_ptr<TestStream>> streams;
    std::vector<std::unique_ptr<DeviceArray<float>>> device;
    for (int s = 0; s < kStreams; ++s) {
      streams.push_back(std::make_unique<TestStream>());
      device.push_back(std::make_unique<DeviceArray<float>>(kValues));
    }
    for (size_t s = 0; s < kStreams; ++s) {
      float* const mine = host.data() + s * kValues;
      for (int repeat = 0; repeat < 3; ++repeat) {
        ASSERT_CUDA_OK(cudaMemcpyAsync(device[s]->data(), mine, kValues * sizeof(float),
                                       cudaMemcpyHostToDevice, *streams[s]));
        ASSERT_CUDA_OK(toy::AddOne(device[s]->data(), kValues, *streams[s]));
      }
      ASSERT_CUDA_OK(cudaMemcpyAsync(mine, device[s]->data(), kValues * sizeof(float),
                                     cudaMemcpyDeviceToHost, *streams[s]));
    }
    ASSERT_CUDA_OK(cudaDeviceSynchronize());
  }
  for (size_t i = 0; i < host.size(); ++i) ASSERT_EQ(host[i], static_cast<float>(i + 1));
}

TEST_F(ThreadedStreamTest, WaitsHoldBetweenThreads) {
  Config config;
  config.streams = Streams::kThreads;
  cuda_emu::Reset(config);
  for (int repeat = 0; repeat < 20; ++repeat) {
    ASSERT_EQ(seeded::RunPipeline(seeded::StreamBug::kNone).Text(), "");
  }
}

}  // namespace
}  // namespace sluice
