// Models from config.json against the built-in table and the counts their publishers print.
#include <algorithm>
#include <cctype>
#include <cmath>
#include <string>

#include "gtest/gtest.h"
#include "scheduler/cost/model_profile.h"
#include "service/profiles/catalogue.h"
#include "service/profiles/model_config_profile.h"
#include "tests/service/profiles/configs.h"
#include "tests/support/status_matchers.h"

namespace sluice {
namespace {

using testing::IsOk;
using testing::kKnownConfigs;
using testing::KnownConfig;

class KnownModelTest : public ::testing::TestWithParam<KnownConfig> {
 protected:
  void SetUp() override {
    const auto catalogue = Catalogue::Load();
    ASSERT_THAT(catalogue, IsOk());
    const auto built_in = catalogue->FindModel(GetParam().name);
    ASSERT_THAT(built_in, IsOk());
    const auto computed = ModelFromConfigJson(GetParam().json, GetParam().published);
    ASSERT_THAT(computed, IsOk());
    table_ = *built_in;
    config_ = *computed;
  }

  ModelProfile table_;
  ModelProfile config_;
};

// Within 1 %, or closer than one in the last digit that is printed.
void ExpectPublished(double count, double billions, double last_digit) {
  EXPECT_NEAR(count / 1e9, billions, std::max(0.01 * billions, last_digit));
}

TEST_P(KnownModelTest, CountsAgreeWithThePublisher) {
  ExpectPublished(config_.total_parameters, GetParam().total_billions, GetParam().total_last_digit);
  ExpectPublished(config_.active_parameters, GetParam().active_billions,
                  GetParam().active_last_digit);
}

TEST_P(KnownModelTest, ConfigJsonAgreesWithTheBuiltInTable) {
  EXPECT_EQ(config_.layers, table_.layers);
  EXPECT_EQ(config_.hidden, table_.hidden);
  EXPECT_EQ(config_.heads, table_.heads);
  EXPECT_EQ(config_.kv_heads, table_.kv_heads);
  EXPECT_EQ(config_.head_dim, table_.head_dim);
  EXPECT_EQ(config_.value_head_dim, table_.value_head_dim);
  EXPECT_EQ(config_.latent_dim, table_.latent_dim);
  EXPECT_EQ(config_.latent_value_dim, table_.latent_value_dim);
  EXPECT_EQ(config_.windowed_layers, table_.windowed_layers);
  EXPECT_EQ(config_.window, table_.window);
  EXPECT_EQ(config_.max_context, table_.max_context);
  EXPECT_EQ(config_.weights, table_.weights);
  EXPECT_EQ(config_.total_parameters, table_.total_parameters);
  EXPECT_EQ(config_.active_parameters, table_.active_parameters);
  EXPECT_EQ(config_.prefill_parameters, table_.prefill_parameters);
  EXPECT_EQ(config_.streamed_parameters, table_.streamed_parameters);
}

TEST_P(KnownModelTest, BytesAndFlopsAgreeWithTheBuiltInTable) {
  const Tokens context(20000);
  for (const NumberFormat kv : {NumberFormat::kBf16, NumberFormat::kFp8, NumberFormat::kInt4}) {
    EXPECT_EQ(KvBytesPerToken(config_, kv), KvBytesPerToken(table_, kv));
    EXPECT_EQ(KvBytes(config_, kv, context), KvBytes(table_, kv, context));
    EXPECT_EQ(KappaModel(config_, kv), KappaModel(table_, kv));
  }
  EXPECT_EQ(LinearFlopPerToken(config_), LinearFlopPerToken(table_));
  EXPECT_EQ(AttentionFlopPerPair(config_), AttentionFlopPerPair(table_));
  EXPECT_EQ(PrefillFlopPerToken(config_, context, Tokens(512)),
            PrefillFlopPerToken(table_, context, Tokens(512)));
}

std::string NameOf(const ::testing::TestParamInfo<KnownConfig>& known) {
  std::string name = known.param.name;
  std::replace_if(
      name.begin(), name.end(), [](unsigned char c) { return !std::isalnum(c); }, '_');
  return name;
}

INSTANTIATE_TEST_SUITE_P(Models, KnownModelTest, ::testing::ValuesIn(kKnownConfigs), NameOf);

TEST(ModelProfilesTest, EveryBuiltInModelHasAConfigHere) {
  const auto catalogue = Catalogue::Load();
  ASSERT_THAT(catalogue, IsOk());
  EXPECT_EQ(catalogue->models().size(), std::size(kKnownConfigs));
}

// Bytes per token as published, or by hand: 2 x layers x kv_heads x head_dim x 2 bytes.
TEST(ModelProfilesTest, KvBytesPerTokenOfKnownModels) {
  const auto catalogue = Catalogue::Load();
  ASSERT_THAT(catalogue, IsOk());
  const auto bytes = [&](const char* name) {
    return KvBytesPerToken(*catalogue->FindModel(name), NumberFormat::kBf16);
  };
  EXPECT_EQ(bytes("llama-3.1-70b"), 327680);
  EXPECT_EQ(bytes("llama-3.1-405b"), 516096);
  EXPECT_EQ(bytes("qwen3-30b-a3b"), 98304);
  EXPECT_EQ(bytes("qwen3-235b-a22b"), 192512);
  EXPECT_EQ(bytes("deepseek-v3"), 70272);      // 61 x 576 x 2
  EXPECT_EQ(bytes("gpt-oss-20b"), 24576);      // 12 full layers x 2 x 8 x 64 x 2
  EXPECT_EQ(bytes("gemma-3-27b"), 10 * 8192);  // 10 full layers x 2 x 16 x 128 x 2
}

TEST(ModelProfilesTest, NameIsThatOfTheDirectory) {
  const auto model = ModelFromConfigJson(kKnownConfigs[0].json, "/data/my-llama/config.json");
  ASSERT_THAT(model, IsOk());
  EXPECT_EQ(model->name, "my-llama");
}

TEST(ModelProfilesTest, MistralWithAWindowSlidesInEveryLayer) {
  std::string json = kKnownConfigs[11].json;
  json.replace(json.find("\"sliding_window\": null"), 22, "\"sliding_window\": 4096");
  const auto model = ModelFromConfigJson(json, "mistral/config.json");
  ASSERT_THAT(model, IsOk());
  EXPECT_EQ(model->windowed_layers, 32);
  EXPECT_EQ(model->window, 4096);
  EXPECT_TRUE(std::isinf(KappaModel(*model, NumberFormat::kBf16)));
}

TEST(ModelProfilesTest, QwenSlidesAboveMaxWindowLayersIfAsked) {
  std::string json = kKnownConfigs[5].json;
  json.replace(json.find("\"use_sliding_window\": false"), 27, "\"use_sliding_window\": true");
  json.replace(json.find("\"max_window_layers\": 28"), 23, "\"max_window_layers\": 20");
  const auto model = ModelFromConfigJson(json, "qwen/config.json");
  ASSERT_THAT(model, IsOk());
  EXPECT_EQ(model->windowed_layers, 8);
  EXPECT_EQ(model->window, 131072);
}

}  // namespace
}  // namespace sluice
