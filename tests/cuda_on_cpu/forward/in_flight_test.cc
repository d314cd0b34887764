// A step attends to blocks on the device, to blocks that stay on the host and to blocks that are
// still being loaded; layer by layer, and no layer waits for the bytes of a later one.
#include <string>
#include <vector>

#include "backend/reference/reference_model.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/cuda_on_cpu/emulated_test.h"
#include "tests/cuda_on_cpu/forward/backend_harness.h"
#include "tests/support/status_matchers.h"

namespace sluice {
namespace {

using testing::BackendHarness;
using testing::Generate;
using testing::IsOk;
using testing::Pairs;
using testing::RandomModel;
using testing::RandomTokens;
using testing::Sequence;
using testing::TokensOf;

constexpr int kLayers = 4;
constexpr double kSlowUs = 80e3;  // a layer of the load; far more than computing one

class InFlightTest : public EmulatedTest {
 protected:
  void SetUp() override {
    cuda_emu::Config config;
    config.streams = cuda_emu::Streams::kThreads;
    cuda_emu::Reset(config);
  }
  void TearDown() override {
    cuda_emu::SetKernelCost(nullptr);
    EmulatedTest::TearDown();
  }
};

// Where the nth kernel of that name is in the trace, in the order in which kernels ended.
size_t PlaceOf(const std::vector<cuda_emu::TraceEntry>& trace, const std::string& name, int nth) {
  for (size_t i = 0; i < trace.size(); ++i) {
    if (trace[i].name == name && nth-- == 0) return i;
  }
  ADD_FAILURE() << "no such kernel: " << name;
  return trace.size();
}

TEST_F(InFlightTest, PartsOnDeviceOnHostAndUnderWayMergeExactlyAndLayersOverlap) {
  testing::RandomModelSpec spec = testing::SmallCudaSpec();
  spec.layers = kLayers;
  const RandomModel model(spec);
  const ReferenceModel reference(model.config(), model.checkpoint());
  const std::vector<TokenId> prompt = RandomTokens(70, spec.vocab, 5);
  CudaBackendOptions options = testing::SmallCudaOptions();
  options.max_step_tokens = Tokens(128);
  BackendHarness harness(model, options);
  Sequence s = testing::MakeSequence(prompt, 0, 6);
  std::vector<TokenId> drawn = TokensOf(Generate(harness.backend(), s, 1, 128));
  ASSERT_THAT(harness.Memory(LinkDirection::kDeviceToHost, Pairs({0, 1, 3}, {4, 9, 1})).status,
              IsOk());

  // Block 0 stays on the host, blocks 1 and 3 come back to other places, block 2 never left.
  s.host_blocks = {BlockId(4), BlockId(), BlockId(), BlockId()};
  s.blocks = {BlockId(), BlockId(20), BlockId(2), BlockId(15), BlockId(4), BlockId(5)};
  cuda_emu::SetKernelCost([](const cuda_emu::KernelLaunch& launch) {
    return std::string(launch.name) == "kv_copy" ? kSlowUs : 0.0;
  });
  const size_t before = cuda_emu::Trace().size();
  const CopyId load = harness.Start(LinkDirection::kHostToDevice, Pairs({9, 1}, {20, 15}));
  s.loads = {load};
  drawn.push_back(TokensOf(Generate(harness.backend(), s, 1, 128))[0]);
  EXPECT_THAT(harness.Wait(load).status, IsOk());

  std::vector<cuda_emu::TraceEntry> trace = cuda_emu::Trace();
  trace.erase(trace.begin(), trace.begin() + static_cast<std::ptrdiff_t>(before));
  for (int layer = 0; layer < kLayers; ++layer) {
    EXPECT_GT(PlaceOf(trace, "rope_kv_write", layer), PlaceOf(trace, "kv_copy", layer))
        << "layer " << layer << " was computed before it was there";
  }
  EXPECT_LT(PlaceOf(trace, "rope_kv_write", 0), PlaceOf(trace, "kv_copy", kLayers - 1))
      << "the first layer waited for the last one's bytes";

  cuda_emu::SetKernelCost(nullptr);
  s.loads.clear();
  const std::vector<TokenId> more = TokensOf(Generate(harness.backend(), s, 4, 128));
  drawn.insert(drawn.end(), more.begin(), more.end());
  EXPECT_EQ(drawn, reference.Greedy(prompt, 6));
}

}  // namespace
}  // namespace sluice
