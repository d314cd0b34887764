#include <gtest/gtest.h>

#include <numeric>

#include "tests/cuda_on_cpu/emulated_test.h"
#include "tests/cuda_on_cpu/emulation/toy_kernels.h"

namespace sluice {
namespace {

using cuda_emu::Config;
using cuda_emu::ThreadOrder;

class BarrierTest : public EmulatedTest, public ::testing::WithParamInterface<ThreadOrder> {
 protected:
  void SetUp() override {
    Config config;
    config.thread_order = GetParam();
    cuda_emu::Reset(config);
  }
};

TEST_P(BarrierTest, SharedMemoryWrittenBeforeABarrierIsReadAfterIt) {
  std::vector<float> values(256);
  std::iota(values.begin(), values.end(), 1.0f);
  const DeviceArray<float> in(values);
  const DeviceArray<float> out(256);
  const TestStream stream;
  ASSERT_CUDA_OK(toy::BlockSum(in.data(), out.data(), 250, 256, stream));
  ASSERT_CUDA_OK(stream.Synchronize());
  EXPECT_EQ(out.Get(), std::vector<float>(256, 250 * 251 / 2));
}

TEST_P(BarrierTest, CountAndOrSeeEveryThreadAlsoOfAPartialWarp) {
  constexpr int kThreads = 75;
  for (const int divisor : {1, 7, 75, 1000}) {
    const DeviceArray<int> out(3 * kThreads);
    const TestStream stream;
    ASSERT_CUDA_OK(toy::Predicates(out.data(), divisor, kThreads, stream));
    ASSERT_CUDA_OK(stream.Synchronize());
    const std::vector<int> got = out.Get();
    for (size_t t = 0; t < kThreads; ++t) {
      EXPECT_EQ(got[3 * t], (kThreads + divisor - 1) / divisor);
      EXPECT_EQ(got[3 * t + 1] != 0, divisor == 1);
      EXPECT_NE(got[3 * t + 2], 0);
    }
  }
}

TEST_P(BarrierTest, NamedBarriersHandDataFromOneWarpToAnother) {
  const DeviceArray<int> out(20);
  const TestStream stream;
  ASSERT_CUDA_OK(toy::NamedBarriers(out.data(), 20, stream));
  ASSERT_CUDA_OK(stream.Synchronize());
  const std::vector<int> got = out.Get();
  for (int i = 0; i < 20; ++i) EXPECT_EQ(got[static_cast<size_t>(i)], 3 * i);
}

INSTANTIATE_TEST_SUITE_P(Orders, BarrierTest,
                         ::testing::Values(ThreadOrder::kInOrder, ThreadOrder::kReverse,
                                           ThreadOrder::kRandom, ThreadOrder::kPriority));

class StuckKernelTest : public EmulatedTest {};

TEST_F(StuckKernelTest, ADeadlockIsReportedWithWhoWaitsWhereAndFailsTheLaunch) {
  {
    cudaStream_t stream = nullptr;
    ASSERT_CUDA_OK(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    ASSERT_CUDA_OK(toy::Deadlock(40, 64, stream));
    EXPECT_EQ(cudaStreamSynchronize(stream), cudaErrorLaunchFailure);
    EXPECT_EQ(cudaGetLastError(), cudaErrorLaunchFailure);
  }
  const std::string text = TakeDiagnostics();
  EXPECT_NE(text.find("deadlock: deadlock block (0,0,0): no thread can run;"), std::string::npos)
      << text;
  EXPECT_NE(text.find("40 threads at block barrier toy_kernels.cu:"), std::string::npos) << text;
  EXPECT_NE(text.find("(first: 0)"), std::string::npos) << text;
  EXPECT_NE(text.find("24 threads at warp operation toy_kernels.cu:"), std::string::npos) << text;
  EXPECT_NE(text.find("(first: 40)"), std::string::npos) << text;
  Abandon();
  // The next kernel runs as if nothing had been.
  const DeviceArray<float> values(std::vector<float>(4, 1.0f));
  const TestStream stream;
  ASSERT_CUDA_OK(toy::AddOne(values.data(), 4, stream));
  ASSERT_CUDA_OK(stream.Synchronize());
  EXPECT_EQ(values.Get(), std::vector<float>(4, 2.0f));
}

TEST_F(StuckKernelTest, ASpinWithNanosleepLetsOthersRun) {
  const DeviceArray<int> flag(std::vector<int>{0});
  const TestStream stream;
  ASSERT_CUDA_OK(toy::SpinUntilSet(flag.data(), 96, stream));
  ASSERT_CUDA_OK(stream.Synchronize());
}

TEST_F(StuckKernelTest, ASpinThatNobodyEndsTimesOut) {
  int* flag = nullptr;
  cudaStream_t stream = nullptr;
  ASSERT_CUDA_OK(cudaMalloc(&flag, 4));
  ASSERT_CUDA_OK(cudaMemset(flag, 0, 4));
  ASSERT_CUDA_OK(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  ASSERT_CUDA_OK(toy::SpinForever(flag, stream));
  EXPECT_EQ(cudaStreamSynchronize(stream), cudaErrorLaunchTimeout);
  EXPECT_NE(TakeDiagnostics().find("spin without end"), std::string::npos);
  Abandon();
}

TEST_F(StuckKernelTest, ATrapNamesTheThread) {
  cudaStream_t stream = nullptr;
  ASSERT_CUDA_OK(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  ASSERT_CUDA_OK(toy::TrapInThread(17, stream));
  EXPECT_EQ(cudaStreamSynchronize(stream), cudaErrorLaunchFailure);
  const std::string text = TakeDiagnostics();
  EXPECT_NE(text.find("__trap() [trap block (0,0,0) thread (17,0,0)]"), std::string::npos) << text;
  Abandon();
}

class BlockTest : public EmulatedTest, public ::testing::WithParamInterface<int> {};

TEST_P(BlockTest, BlocksAddUpOverOneOrTwoThreads) {
  Config config;
  config.block_workers = GetParam();
  config.tsan_order_blocks = true;  // a literal __shared__ is one object per OS thread
  cuda_emu::Reset(config);
  const DeviceArray<float> in(std::vector<float>(1000, 1.0f));
  const DeviceArray<float> out(std::vector<float>{0});
  const TestStream stream;
  ASSERT_CUDA_OK(toy::LiteralSharedSum(in.data(), out.data(), 1000, 7, stream));
  ASSERT_CUDA_OK(stream.Synchronize());
  EXPECT_EQ(out.Get()[0], 1000.0f);
}

TEST_P(BlockTest, TheLastBlockSeesWhatTheOthersWrote) {
  constexpr int kBlocks = 64;
  Config config;
  config.block_workers = GetParam();
  cuda_emu::Reset(config);
  const DeviceArray<float> parts(kBlocks);
  const DeviceArray<float> out(1);
  const DeviceArray<unsigned> counter(std::vector<unsigned>{0});
  const TestStream stream;
  ASSERT_CUDA_OK(toy::LastBlockSum(parts.data(), counter.data(), out.data(), kBlocks, stream));
  ASSERT_CUDA_OK(stream.Synchronize());
  EXPECT_EQ(out.Get()[0], kBlocks * (kBlocks + 1) / 2);
}

INSTANTIATE_TEST_SUITE_P(Workers, BlockTest, ::testing::Values(1, 2));

}  // namespace
}  // namespace sluice
