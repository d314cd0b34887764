// CudaBackend with 8-bit KV on the device: sizes, names, copies that change no bit, refusals.
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "backend/cuda/cuda_backend.h"
#include "backend/kv/kv_codec.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/cuda_on_cpu/emulated_test.h"
#include "tests/cuda_on_cpu/forward/backend_harness.h"
#include "tests/support/backend_sequence.h"
#include "tests/support/random_checkpoint.h"
#include "tests/support/status_matchers.h"

namespace sluice {
namespace {

using testing::BackendHarness;
using testing::BlocksFrom;
using testing::Generate;
using ::testing::HasSubstr;
using testing::IsOk;
using testing::RandomModel;
using testing::RandomModelSpec;
using testing::RandomTokens;
using testing::Sequence;
using testing::StatusIs;

constexpr KvCodecKind kEightBit[] = {KvCodecKind::kFp8, KvCodecKind::kInt8};

CudaBackendOptions Options(KvCodecKind device) {
  CudaBackendOptions options = testing::SmallCudaOptions();
  options.device_codec = device;
  return options;
}

RandomModelSpec Spec() { return testing::SmallCudaSpec(); }

class KvTypeBackendTest : public EmulatedTest {
 protected:
  void SetUp() override {
    cuda_emu::Config config;
    config.streams = cuda_emu::Streams::kThreads;
    cuda_emu::Reset(config);
  }
  void TearDown() override {
    harness_ = nullptr;
    EmulatedTest::TearDown();
  }

  void Make(const CudaBackendOptions& options) {
    harness_ = nullptr;
    harness_ = std::make_unique<BackendHarness>(model_, options);
  }
  Backend& backend() { return harness_->backend(); }

  const RandomModel model_{Spec()};
  std::unique_ptr<BackendHarness> harness_;
};

// What was drawn, and how likely it was: equal only if every bit that was read is.
std::vector<std::pair<TokenId, float>> Draws(Backend& backend, Sequence& s, int outputs) {
  std::vector<std::pair<TokenId, float>> draws;
  for (const SampledToken& token : Generate(backend, s, outputs, 64)) {
    draws.emplace_back(token.token, token.logprob);
  }
  return draws;
}

TEST_F(KvTypeBackendTest, BlocksTakeTheirCodesAndScalesOnBothSides) {
  for (const KvCodecKind codec : kEightBit) {
    SCOPED_TRACE(CudaBackend::KvDType(codec));
    Make(Options(codec));
    const BackendInfo& info = backend().info();
    // Layers, K and V, tokens, heads, 64 codes and a scale.
    const Bytes block(2 * 2 * 16 * 2 * (64 + 2));
    EXPECT_EQ(info.device_block_bytes, block);
    EXPECT_EQ(info.geometry.bytes_per_block, block);
    EXPECT_EQ(CudaBackend::Geometry(model_.config(), Tokens(16), codec).bytes_per_block, block);
    EXPECT_EQ(info.dtype, absl::StrCat("bf16, ", CudaBackend::KvDType(codec), " KV"));
    EXPECT_THAT(info.host_codec, HasSubstr(std::string(KvCodecKindName(codec))));
    EXPECT_TRUE(info.attends_in_place);
    EXPECT_EQ(CudaBackend::KvDType(codec), std::string(KvCodecKindName(codec)));
  }
  EXPECT_EQ(CudaBackend::KvDType(KvCodecKind::kRaw), "bf16");
}

TEST_F(KvTypeBackendTest, ThePoolHoldsNearlyTwiceTheBlocks) {
  cuda_emu::Config config = cuda_emu::CurrentConfig();
  config.device_bytes = 16 << 20;
  config.multiprocessors = 4;  // buffers for split attention are sized by them
  cuda_emu::Reset(config);
  std::vector<double> blocks;
  for (const KvCodecKind codec : {KvCodecKind::kRaw, KvCodecKind::kFp8}) {
    CudaBackendOptions options = Options(codec);
    options.device_blocks.reset();
    Make(options);
    blocks.push_back(AsDouble(backend().info().device_blocks));
  }
  EXPECT_NEAR(blocks[1] / blocks[0], 128.0 / 66.0, 0.01);
}

// Nothing is rounded on the link: what comes back is bit for bit what went.
TEST_F(KvTypeBackendTest, BlocksThatWentToTheHostAndBackChangeNothing) {
  for (const KvCodecKind codec : kEightBit) {
    SCOPED_TRACE(CudaBackend::KvDType(codec));
    Make(Options(codec));
    const std::vector<TokenId> prompt = RandomTokens(40, Spec().vocab, 2);
    Sequence stays = testing::MakeSequence(prompt, 0, 6);
    const auto start = Draws(backend(), stays, 3);
    const auto want = Draws(backend(), stays, 5);

    Make(Options(codec));
    Sequence moves = testing::MakeSequence(prompt, 0, 6);
    EXPECT_EQ(Draws(backend(), moves, 3), start);
    std::vector<Copy::Pair> out;
    std::vector<Copy::Pair> back;
    const std::vector<BlockId> moved = BlocksFrom(12, 6);
    for (size_t b = 0; b < 3; ++b) {
      const BlockId host(static_cast<int32_t>(9 - 2 * b));
      out.push_back({moves.blocks[b], host});
      back.push_back({host, moved[b]});
    }
    const CopyResult stored = harness_->Memory(LinkDirection::kDeviceToHost, out);
    ASSERT_THAT(stored.status, IsOk());
    EXPECT_EQ(stored.bytes.value(), 3 * backend().info().device_block_bytes.value());
    ASSERT_THAT(harness_->Memory(LinkDirection::kHostToDevice, back).status, IsOk());
    moves.blocks = moved;
    EXPECT_EQ(Draws(backend(), moves, 5), want);
  }
}

TEST_F(KvTypeBackendTest, ItsOwnCodecIsTheSameAsRawAndAnotherIsRefused) {
  CudaBackendOptions options = Options(KvCodecKind::kFp8);
  options.host_codec = KvCodecKind::kFp8;
  Make(options);
  EXPECT_EQ(backend().info().geometry.bytes_per_block, backend().info().device_block_bytes);
  EXPECT_TRUE(backend().info().attends_in_place);

  const auto create = [&] {
    return CudaBackend::Create(model_.config(), model_.checkpoint(), options).status();
  };
  options.host_codec = KvCodecKind::kInt8;
  EXPECT_THAT(create(), StatusIs(absl::StatusCode::kInvalidArgument,
                                 HasSubstr("fp8 on the device and cannot become int8")));
  options.device_codec = KvCodecKind::kInt4;
  EXPECT_THAT(create(), StatusIs(absl::StatusCode::kUnimplemented,
                                 HasSubstr("use --kv-cache-dtype=auto, fp8 or int8")));
}

}  // namespace
}  // namespace sluice
