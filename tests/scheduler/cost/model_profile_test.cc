// Bytes and FLOP of models, by hand.
#include "scheduler/cost/model_profile.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "gtest/gtest.h"
#include "scheduler/cost/coefficients.h"
#include "tests/scheduler/cost/profiles.h"
#include "tests/support/status_matchers.h"

namespace sluice {
namespace {

using ::testing::HasSubstr;
using testing::IsOk;
using testing::LatentModel;
using testing::Llama70b;
using testing::StatusIs;
using testing::WindowedModel;

constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;

TEST(ModelProfileTest, GroupedHeadsCacheKeysAndValuesOfEachKvHead) {
  const ModelProfile m = Llama70b();
  EXPECT_EQ(KvBytesPerToken(m, NumberFormat::kBf16), 2 * 80 * 8 * 128 * 2);
  EXPECT_EQ(KvBytesPerToken(m, NumberFormat::kInt8), 2 * 80 * 8 * 128);
  EXPECT_EQ(KvBytesPerToken(m, NumberFormat::kFp4), 80 * 8 * 128);
  EXPECT_EQ(KvBytes(m, NumberFormat::kBf16, Tokens(1000)), Bytes(327'680'000));
}

TEST(ModelProfileTest, LatentAttentionCachesOneLatentPerLayer) {
  const ModelProfile m = LatentModel();
  EXPECT_EQ(KvBytesPerToken(m, NumberFormat::kBf16), 61 * 576 * 2);
  EXPECT_EQ(AttentionFlopPerPair(m), Flop(2.0 * 128 * (576 + 512)));
}

TEST(ModelProfileTest, WindowedLayersStopGrowing) {
  const ModelProfile m = WindowedModel();
  const int64_t per_layer = 2 * 8 * 64 * 2;
  EXPECT_EQ(KvBytes(m, NumberFormat::kBf16, Tokens(100)), Bytes(24 * 100 * per_layer));
  EXPECT_EQ(KvBytes(m, NumberFormat::kBf16, Tokens(128)), Bytes(24 * 128 * per_layer));
  EXPECT_EQ(KvBytes(m, NumberFormat::kBf16, Tokens(1000)),
            Bytes((12 * 128 + 12 * 1000) * per_layer));
  EXPECT_EQ(KvBytesPerToken(m, NumberFormat::kBf16), 12 * per_layer);
}

TEST(ModelProfileTest, KappaModelIsFlopOverBytes) {
  EXPECT_DOUBLE_EQ(KappaModel(Llama70b(), NumberFormat::kBf16), 140e9 / 327680);
  EXPECT_DOUBLE_EQ(KappaModel(Llama70b(), NumberFormat::kInt8), 2 * 140e9 / 327680);
  ModelProfile all_windows = WindowedModel();
  all_windows.windowed_layers = all_windows.layers;
  EXPECT_TRUE(std::isinf(KappaModel(all_windows, NumberFormat::kBf16)));
}

TEST(ModelProfileTest, PrefillFlopCountsPairsAndLeavesOutTheTables) {
  ModelProfile m = Llama70b();
  m.prefill_parameters = 68e9;
  // One token after 999: 1,000 pairs in each of 80 layers, 2 x 64 x 256 FLOP each.
  EXPECT_DOUBLE_EQ(PrefillFlopPerToken(m, Tokens(999), Tokens(1)).value(),
                   136e9 + 80.0 * 1000 * 32768);
  EXPECT_DOUBLE_EQ(LinearFlopPerToken(m).value(), 140e9);
}

// Pairs counted one by one.
double SlowPairs(int64_t first, int64_t count, int64_t window) {
  double pairs = 0;
  for (int64_t token = first; token < first + count; ++token) {
    pairs += static_cast<double>(std::min(token + 1, window));
  }
  return pairs;
}

TEST(ModelProfileTest, PairsAreThoseOfASlowCount) {
  for (const int64_t first : {0, 1, 5, 63, 64, 65, 200}) {
    for (const int64_t count : {0, 1, 2, 17, 64, 130}) {
      EXPECT_EQ(AttentionPairs(Tokens(first), Tokens(count)), SlowPairs(first, count, 1 << 20));
      for (const int64_t window : {1, 2, 64, 100}) {
        EXPECT_EQ(WindowedAttentionPairs(Tokens(first), Tokens(count), Tokens(window)),
                  SlowPairs(first, count, window))
            << first << " + " << count << ", window " << window;
      }
    }
  }
}

TEST(ModelProfileTest, FormatsHaveNamesAndSizes) {
  for (int i = 0; i < kNumberFormatCount; ++i) {
    const auto format = static_cast<NumberFormat>(i);
    EXPECT_EQ(*ParseNumberFormat(NumberFormatName(format)), format);
  }
  EXPECT_EQ(BytesOf(NumberFormat::kF32), 4);
  EXPECT_EQ(BytesOf(NumberFormat::kInt4), 0.5);
  EXPECT_THAT(
      ParseNumberFormat("fp16"),
      StatusIs(kInvalid, HasSubstr("\"fp16\" is not a number format; want one of f32, bf16, "
                                   "fp8, int8, int4, fp4")));
}

TEST(ModelProfileTest, ValidateNamesTheFirstBadField) {
  struct Case {
    void (*change)(ModelProfile&);
    const char* message;
  };
  const Case cases[] = {
      {[](ModelProfile& m) { m.name = ""; }, "name: is missing"},
      {[](ModelProfile& m) { m.layers = 0; }, "layers: is missing"},
      {[](ModelProfile& m) { m.layers = -1; }, "layers: -1 is not in [1, 10000]"},
      {[](ModelProfile& m) { m.kv_heads = 7; }, "kv_heads: 7 does not divide heads, 64"},
      {[](ModelProfile& m) { m.head_dim = 1'000'000; }, "head_dim: makes a token's KV"},
      {[](ModelProfile& m) { m.value_head_dim = 0; }, "value_head_dim: is missing"},
      {[](ModelProfile& m) { m.latent_dim = 576; }, "latent_value_dim: is missing"},
      {[](ModelProfile& m) { m.windowed_layers = 81; }, "windowed_layers: 81 is not in [0, 80]"},
      {[](ModelProfile& m) { m.windowed_layers = 8; }, "window: is missing"},
      {[](ModelProfile& m) { m.window = 8; }, "window: 8 is not in [0, 0]"},
      {[](ModelProfile& m) { m.max_context = 0; }, "max_context: is missing"},
      {[](ModelProfile& m) { m.total_parameters = 0; }, "total_parameters: is missing"},
      {[](ModelProfile& m) { m.total_parameters = std::nan(""); }, "total_parameters: nan is not"},
      {[](ModelProfile& m) { m.active_parameters = 71e9; }, "active_parameters: 7.1e+10 is not"},
      {[](ModelProfile& m) { m.prefill_parameters = -1; }, "prefill_parameters: -1 is not in"},
  };
  EXPECT_THAT(Llama70b().Validate(), IsOk());
  for (const Case& bad : cases) {
    ModelProfile m = Llama70b();
    bad.change(m);
    EXPECT_THAT(m.Validate(), StatusIs(kInvalid, HasSubstr(bad.message)));
  }
}

}  // namespace
}  // namespace sluice
