// Memory accesses: sizes, alignment, asynchronous copies, accounting, protection.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <numeric>

#include "cuda_emu/memory.h"
#include "tests/cuda_on_cpu/emulated_test.h"
#include "tests/cuda_on_cpu/emulation/toy_kernels.h"

namespace sluice {
namespace {

using cuda_emu::AccessSite;
using cuda_emu::AsyncCopies;
using cuda_emu::Config;
using toy::Path;

class AccessTest : public EmulatedTest {
 protected:
  // The cost of the only line that was counted with this kind.
  static AccessSite Counted(const std::string& kind) {
    AccessSite found;
    int matches = 0;
    for (const AccessSite& site : cuda_emu::AccessReport()) {
      if (site.kind != kind) continue;
      found = site;
      ++matches;
    }
    EXPECT_EQ(matches, 1) << kind;
    return found;
  }
};

TEST_F(AccessTest, LoadsAndStoresMoveTheirBytes) {
  std::vector<unsigned char> bytes(32 * 16 + 16);
  std::iota(bytes.begin(), bytes.end(), static_cast<unsigned char>(1));
  const DeviceArray<unsigned char> in(bytes);
  const TestStream stream;
  for (const Path path :
       {Path::kGlobal, Path::kReadOnly, Path::kStreaming, Path::kShared, Path::kVector}) {
    for (const int size : {1, 2, 4, 8, 16}) {
      if (path == Path::kVector && size != 16) continue;
      const DeviceArray<unsigned char> out(static_cast<size_t>(32 * size));
      ASSERT_CUDA_OK(toy::CopyElements(path, in.data(), out.data(), size, 16, stream));
      ASSERT_CUDA_OK(stream.Synchronize());
      const std::vector<unsigned char> expected(bytes.begin() + 16, bytes.begin() + 16 + 32 * size);
      EXPECT_EQ(out.Get(), expected) << static_cast<int>(path);
    }
  }
}

TEST_F(AccessTest, SmallAsyncCopiesMoveTheirBytesOrZeros) {
  constexpr int kCount = 50;
  std::vector<unsigned char> bytes(kCount * 8);
  std::iota(bytes.begin(), bytes.end(), static_cast<unsigned char>(1));
  const DeviceArray<unsigned char> in(bytes);
  const TestStream stream;
  for (const int size : {4, 8}) {
    const DeviceArray<unsigned char> out(static_cast<size_t>(kCount * size));
    ASSERT_CUDA_OK(toy::AsyncSmall(in.data(), out.data(), size, kCount, stream));
    ASSERT_CUDA_OK(stream.Synchronize());
    const std::vector<unsigned char> got = out.Get();
    for (int i = 0; i < kCount * size; ++i) {
      const auto at = static_cast<size_t>(i);
      EXPECT_EQ(got[at], i / size % 4 == 3 ? 0 : bytes[at]) << i;
    }
  }
}

TEST_F(AccessTest, AMisalignedAccessIsDiagnosedAndFailsTheLaunch) {
  for (const int size : {2, 4, 8, 16}) {
    void* memory = nullptr;
    cudaStream_t stream = nullptr;
    ASSERT_CUDA_OK(cudaMalloc(&memory, 1024));
    ASSERT_CUDA_OK(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    auto* const bytes = static_cast<unsigned char*>(memory);
    ASSERT_CUDA_OK(toy::CopyElements(Path::kGlobal, bytes, bytes + 512, size, size / 2, stream));
    EXPECT_EQ(cudaStreamSynchronize(stream), cudaErrorMisalignedAddress);
    const std::string text = TakeDiagnostics();
    EXPECT_NE(text.find("misaligned address: " + std::to_string(size / 2) +
                        " bytes past a multiple of " + std::to_string(size)),
              std::string::npos)
        << text;
    Abandon();
  }
}

TEST_F(AccessTest, AsyncCopiesArriveByTheWaitWhenEarlyLateOrMixed) {
  constexpr int kVectors = 100;
  for (const AsyncCopies when : {AsyncCopies::kEarly, AsyncCopies::kLate, AsyncCopies::kRandom}) {
    Config config;
    config.async_copies = when;
    cuda_emu::Reset(config);
    std::vector<uint4> values(kVectors);
    std::vector<int> valid(kVectors);
    for (unsigned i = 0; i < kVectors; ++i) {
      values[i] = make_uint4(i + 1, i + 2, i + 3, i + 4);
      valid[i] = i % 3 != 0;
    }
    const DeviceArray<uint4> in(values);
    const DeviceArray<uint4> out(kVectors);
    const DeviceArray<int> flags(valid);
    const TestStream stream;
    ASSERT_CUDA_OK(toy::AsyncThroughShared(in.data(), flags.data(), out.data(), kVectors, stream));
    ASSERT_CUDA_OK(stream.Synchronize());
    const std::vector<uint4> got = out.Get();
    for (size_t i = 0; i < kVectors; ++i) {
      EXPECT_EQ(got[i].x, valid[i] != 0 ? values[i].x : 0u) << i;
      EXPECT_EQ(got[i].w, valid[i] != 0 ? values[i].w : 0u) << i;
    }
  }
}

TEST_F(AccessTest, CountsTheSectorsOfGlobalReads) {
  const DeviceArray<float> in(std::vector<float>(32 * 32, 1.0f));
  const DeviceArray<float> out(32);
  const TestStream stream;
  // 32 lanes of 4 bytes need 4 sectors of 32 bytes; apart by 8 words, every lane needs its own.
  for (const auto& [stride, sectors] : {std::pair<int, uint64_t>{1, 4}, {2, 8}, {8, 32}, {0, 1}}) {
    cuda_emu::CountAccesses(true);
    ASSERT_CUDA_OK(toy::StridedGlobalRead(in.data(), out.data(), stride, stream));
    ASSERT_CUDA_OK(stream.Synchronize());
    const AccessSite site = Counted("global read");
    EXPECT_EQ(site.requests, 1u);
    EXPECT_EQ(site.cost, sectors) << stride;
    EXPECT_EQ(site.ideal, stride == 0 ? 1u : 4u);
    EXPECT_EQ(site.where.substr(0, 15), "toy_kernels.cu:");
    cuda_emu::CountAccesses(false);
  }
}

TEST_F(AccessTest, CountsBankConflicts) {
  const DeviceArray<float> out(32);
  const TestStream stream;
  // Passes of 32 lanes reading words `stride` apart: the greatest common divisor with 32 banks.
  for (const auto& [stride, passes] :
       {std::pair<int, uint64_t>{1, 1}, {2, 2}, {3, 1}, {16, 16}, {32, 32}, {33, 1}, {0, 1}}) {
    cuda_emu::CountAccesses(true);
    ASSERT_CUDA_OK(toy::StridedSharedRead(out.data(), stride, stream));
    ASSERT_CUDA_OK(stream.Synchronize());
    const AccessSite site = Counted("shared read");
    EXPECT_EQ(site.cost, passes) << stride;
    EXPECT_EQ(site.ideal, 1u);
    cuda_emu::CountAccesses(false);
  }
}

TEST_F(AccessTest, CountsConflictsOfRowsForLdmatrixAndVectorLoads) {
  const DeviceArray<uint32_t> out(32);
  const TestStream stream;
  // Eight rows a pass: rows of 128 bytes share their banks, padded to 144 they do not.
  for (const auto& [row_bytes, passes] : {std::pair<int, uint64_t>{128, 32}, {144, 4}}) {
    cuda_emu::CountAccesses(true);
    ASSERT_CUDA_OK(toy::RowReads(out.data(), row_bytes, stream));
    ASSERT_CUDA_OK(stream.Synchronize());
    EXPECT_EQ(Counted("ldmatrix").cost, passes);
    EXPECT_EQ(Counted("ldmatrix").ideal, 4u);
    EXPECT_EQ(Counted("shared read").cost, passes);
    EXPECT_EQ(Counted("shared write").cost, passes);
    cuda_emu::CountAccesses(false);
  }
}

TEST_F(AccessTest, FreshMemoryIsNan) {
  const DeviceArray<float> fresh(8);
  for (const float v : fresh.Get()) EXPECT_TRUE(std::isnan(v));
}

TEST_F(AccessTest, ApproximationsAreExactOrOffByTheConfiguredUnits) {
  const std::vector<float> values = {0.5f, 1.0f, 3.0f, 10.0f, 0.001f};
  const auto n = static_cast<int>(values.size());
  for (const int ulps : {0, 4}) {
    Config config;
    config.approximation_ulps = ulps;
    cuda_emu::Reset(config);
    const DeviceArray<float> in(values);
    const DeviceArray<float> out(3 * values.size());
    const TestStream stream;
    ASSERT_CUDA_OK(toy::Approximations(in.data(), out.data(), n, stream));
    ASSERT_CUDA_OK(stream.Synchronize());
    const std::vector<float> got = out.Get();
    int off = 0;
    for (size_t i = 0; i < values.size(); ++i) {
      const float exact[3] = {std::exp2(values[i]), std::log2(values[i]), 1 / values[i]};
      for (size_t f = 0; f < 3; ++f) {
        const float is = got[f * values.size() + i];
        EXPECT_LE(std::fabs(is - exact[f]),
                  std::fabs(exact[f]) * 1.2e-7f * static_cast<float>(ulps));
        off += is != exact[f];
      }
    }
    EXPECT_EQ(off > 0, ulps > 0);
  }
}

#if !defined(SLUICE_TEST_TSAN)
TEST_F(AccessTest, HostCodeThatTouchesDeviceMemoryFaults) {
  if (!cuda_emu::CanProtectDevice()) GTEST_SKIP() << "this CPU has no protection keys";
  const DeviceArray<float> values(std::vector<float>(4, 1.0f));
  const float* const p = values.data();
  EXPECT_DEATH(std::printf("%f", static_cast<double>(*p)), "");
}

TEST_F(AccessTest, AKernelThatLeavesAnAllocationFaults) {
  const DeviceArray<int> values(64);
  const TestStream stream;
  int* const p = values.data();
  EXPECT_DEATH(
      {
        static_cast<void>(toy::StoreAt(p, 64, stream));
        static_cast<void>(stream.Synchronize());
      },
      "");
}
#endif

#if defined(SLUICE_TEST_ASAN)
TEST_F(AccessTest, AddressSanitizerSeesTheLastBytesOfAnAllocation) {
  const DeviceArray<int> values(10);
  const TestStream stream;
  EXPECT_DEATH(
      {
        static_cast<void>(toy::StoreAt(values.data(), 10, stream));
        static_cast<void>(stream.Synchronize());
      },
      "use-after-poison");
}

TEST_F(AccessTest, AddressSanitizerSeesTheEndOfAStaticSharedArray) {
  const DeviceArray<int> out(1);
  const TestStream stream;
  EXPECT_DEATH(
      {
        static_cast<void>(toy::StoreShared(16, out.data(), stream));
        static_cast<void>(stream.Synchronize());
      },
      "heap-buffer-overflow");
}
#endif

}  // namespace
}  // namespace sluice
