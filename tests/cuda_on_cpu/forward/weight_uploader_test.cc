#include "backend/cuda/weights/weight_uploader.h"

#include <algorithm>
#include <random>

#include "backend/cuda/device/stream.h"
#include "tests/cuda_on_cpu/emulated_test.h"
#include "tests/support/status_matchers.h"

namespace sluice::cuda {
namespace {

using testing::IsOk;

constexpr int64_t kPiece = 64;

class WeightUploaderTest : public EmulatedTest {
 protected:
  static void Use(uint64_t seed) {
    cuda_emu::Config config;
    config.seed = seed;
    config.idle_releases = true;
    cuda_emu::Reset(config);
  }
  void SetUp() override { Use(1); }

  // What is on the device once `bytes` have been uploaded and awaited, on another stream.
  static std::vector<unsigned char> UploadAndRead(const std::vector<unsigned char>& bytes) {
    MemoryAccount account;
    const Stream stream = *Stream::Create();
    const auto size = Bytes(static_cast<int64_t>(bytes.size()));
    const DeviceBuffer to = *DeviceBuffer::Allocate(size, "weights", account);
    const auto uploader = *WeightUploader::Create(stream.get(), Bytes(kPiece), account, nullptr);
    EXPECT_THAT(uploader->Upload(size, to.data(),
                                 [&](int64_t offset, std::span<std::byte> out) {
                                   std::copy_n(std::as_bytes(std::span(bytes)).begin() + offset,
                                               out.size(), out.begin());
                                 }),
                IsOk());
    EXPECT_THAT(uploader->Finish(), IsOk());
    std::vector<unsigned char> got(bytes.size());
    EXPECT_CUDA_OK(cudaMemcpy(got.data(), to.data(), got.size(), cudaMemcpyDeviceToHost));
    return got;
  }
};

// Less than the ring, where no piece is used twice and only Finish() waits; and many rings.
TEST_F(WeightUploaderTest, EverythingIsInPlaceWhenItHasFinished) {
  for (const size_t size : {16U, 64U, 176U, 256U, 1040U}) {
    for (uint64_t seed = 1; seed <= 10; ++seed) {
      SCOPED_TRACE(::testing::Message() << size << " bytes, seed " << seed);
      Use(seed);
      std::mt19937_64 rng(seed);
      std::vector<unsigned char> bytes(size);
      for (unsigned char& b : bytes) b = static_cast<unsigned char>(rng());
      EXPECT_EQ(UploadAndRead(bytes), bytes);
    }
  }
}

// The ring goes with the uploader: whatever is copied from it must be done by then.
TEST_F(WeightUploaderTest, DestructionWaitsForTheCopies) {
  MemoryAccount account;
  const Stream stream = *Stream::Create();
  const DeviceBuffer to = *DeviceBuffer::Allocate(Bytes(kPiece), "weights", account);
  auto uploader = *WeightUploader::Create(stream.get(), Bytes(kPiece), account, nullptr);
  const auto zeros = [](int64_t, std::span<std::byte> out) {
    std::fill(out.begin(), out.end(), std::byte{0});
  };
  EXPECT_THAT(uploader->Upload(Bytes(kPiece), to.data(), zeros), IsOk());
  uploader = nullptr;
  EXPECT_EQ(TakeDiagnostics(), "");
}

}  // namespace
}  // namespace sluice::cuda
