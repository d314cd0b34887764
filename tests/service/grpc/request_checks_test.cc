#include "service/grpc/request_checks.h"

#include <cmath>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "google/protobuf/text_format.h"
#include "gtest/gtest.h"
#include "tests/service/grpc/fake_tokenizer.h"
#include "tests/support/status_matchers.h"

namespace sluice {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using testing::FakeTokenizer;
using ::testing::HasSubstr;
using testing::IsOk;
using testing::StatusIs;

constexpr int64_t kMaxLen = 64;

absl::StatusOr<ParsedRequest> Check(const v1::GenerateRequest& request,
                                    const SamplingDefaults& defaults = {}) {
  static const FakeTokenizer tokenizer;
  const ModelLimits limits{tokenizer.vocab_size(), Tokens(kMaxLen), {FakeTokenizer::kEos}};
  return CheckGenerateRequest(request, limits, defaults, tokenizer,
                              {absl::FromUnixSeconds(1000), 77, "made-up"});
}

v1::GenerateRequest Parse(const std::string& text) {
  v1::GenerateRequest request;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(text, &request)) << text;
  return request;
}

// `text` in protobuf text format, with a valid prompt added unless it has one.
v1::GenerateRequest Request(const std::string& text) {
  v1::GenerateRequest request = Parse(text);
  if (request.prompt_case() == v1::GenerateRequest::PROMPT_NOT_SET) request.set_text("abc");
  return request;
}

struct BadRequest {
  const char* name;
  v1::GenerateRequest request;
  std::vector<std::string> said;  // all of these are in the message
};

std::string Repeat(const std::string& piece, int times) {
  std::string all;
  for (int i = 0; i < times; ++i) all += piece;
  return all;
}

v1::GenerateRequest WithFloat(void (v1::Sampling::*setter)(float), float value) {
  v1::GenerateRequest request = Request("");
  (request.mutable_sampling()->*setter)(value);
  return request;
}

void AddFloatCases(std::vector<BadRequest>* bad) {
  using S = v1::Sampling;
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const float inf = std::numeric_limits<float>::infinity();
  const auto add = [&](const char* name, void (S::*setter)(float), float value,
                       std::vector<std::string> said) {
    bad->push_back({name, WithFloat(setter, value), std::move(said)});
  };
  add("temperature_negative", &S::set_temperature, -0.1F,
      {"sampling.temperature", "-0.1", "[0, 100]"});
  add("temperature_large", &S::set_temperature, 100.5F, {"sampling.temperature", "100.5"});
  add("temperature_just_above", &S::set_temperature, std::nextafter(100.0F, inf),
      {"sampling.temperature", "100.00000"});
  add("temperature_nan", &S::set_temperature, nan, {"sampling.temperature", "nan"});
  add("temperature_inf", &S::set_temperature, inf, {"sampling.temperature", "inf"});
  add("temperature_minus_inf", &S::set_temperature, -inf, {"sampling.temperature", "-inf"});
  add("top_p_zero", &S::set_top_p, 0, {"sampling.top_p: 0", "(0, 1]"});
  add("top_p_negative", &S::set_top_p, -1, {"sampling.top_p: -1"});
  add("top_p_large", &S::set_top_p, 1.5F, {"sampling.top_p: 1.5"});
  add("top_p_nan", &S::set_top_p, nan, {"sampling.top_p: nan"});
  add("top_p_inf", &S::set_top_p, inf, {"sampling.top_p: inf"});
  add("min_p_negative", &S::set_min_p, -0.5F, {"sampling.min_p: -0.5", "[0, 1]"});
  add("min_p_large", &S::set_min_p, 1.01F, {"sampling.min_p"});
  add("min_p_nan", &S::set_min_p, nan, {"sampling.min_p: nan"});
  add("min_p_inf", &S::set_min_p, inf, {"sampling.min_p: inf"});
  add("repetition_zero", &S::set_repetition_penalty, 0,
      {"sampling.repetition_penalty: 0", "(0, 10]"});
  add("repetition_negative", &S::set_repetition_penalty, -1, {"sampling.repetition_penalty: -1"});
  add("repetition_large", &S::set_repetition_penalty, 11, {"sampling.repetition_penalty: 11"});
  add("repetition_nan", &S::set_repetition_penalty, nan, {"sampling.repetition_penalty: nan"});
  add("repetition_inf", &S::set_repetition_penalty, inf, {"sampling.repetition_penalty: inf"});
  add("presence_low", &S::set_presence_penalty, -2.5F,
      {"sampling.presence_penalty: -2.5", "[-2, 2]"});
  add("presence_high", &S::set_presence_penalty, 2.5F, {"sampling.presence_penalty: 2.5"});
  add("presence_nan", &S::set_presence_penalty, nan, {"sampling.presence_penalty: nan"});
  add("presence_inf", &S::set_presence_penalty, inf, {"sampling.presence_penalty: inf"});
  add("frequency_low", &S::set_frequency_penalty, -3, {"sampling.frequency_penalty: -3"});
  add("frequency_high", &S::set_frequency_penalty, 3, {"sampling.frequency_penalty: 3", "2]"});
  add("frequency_nan", &S::set_frequency_penalty, nan, {"sampling.frequency_penalty: nan"});
  add("frequency_minus_inf", &S::set_frequency_penalty, -inf, {"sampling.frequency_penalty: -inf"});
}

void AddPromptCases(std::vector<BadRequest>* bad) {
  const auto add = [&](const char* name, const std::string& text, std::vector<std::string> said) {
    bad->push_back({name, Parse(text), std::move(said)});
  };
  add("no_prompt", "", {"prompt: not set", "text or token_ids"});
  add("no_ids", "token_ids {}", {"prompt: holds 0 tokens"});
  add("id_at_vocabulary", "token_ids { ids: 1 ids: 270 }",
      {"prompt.token_ids[1]: 270", "[0, 270)"});
  add("id_large", "token_ids { ids: 4294967295 }", {"prompt.token_ids[0]: 4294967295"});
  add("id_sign_bit", "token_ids { ids: 2147483648 }", {"prompt.token_ids[0]: 2147483648"});
  add("ids_fill_context", "token_ids {" + Repeat(" ids: 5", kMaxLen) + "}",
      {"64 tokens", "max_model_len is 64", "at most 63"});
  add("ids_above_context", "token_ids {" + Repeat(" ids: 5", 200) + "}", {"200 tokens"});
  add("text_fills_context", "text: \"" + Repeat("x", kMaxLen - 1) + "\"", {"64 tokens", "63"});
  add("text_above_context", "text: \"" + Repeat("x", 500) + "\"", {"501 tokens"});
  add("text_too_large_to_tokenize", "text: \"" + Repeat("x", 256 * kMaxLen + 1) + "\"",
      {"16385 bytes", "256 bytes per token"});
}

void AddOtherCases(std::vector<BadRequest>* bad) {
  const auto add = [&](const char* name, const std::string& text, std::vector<std::string> said) {
    bad->push_back({name, Request(text), std::move(said)});
  };
  add("request_id_long", "request_id: \"" + Repeat("r", 129) + "\"",
      {"request_id: 129 bytes", "128"});
  add("n_17", "n: 17", {"n: 17", "[1, 16]"});
  add("n_large", "n: 4294967295", {"n: 4294967295"});
  add("logprobs_21", "logprobs: 21", {"logprobs: 21", "[0, 20]"});
  add("logprobs_large", "logprobs: 4294967295", {"logprobs: 4294967295"});
  add("max_tokens_zero", "stopping { max_tokens: 0 }", {"stopping.max_tokens: 0", "at least 1"});
  add("min_above_max", "stopping { max_tokens: 4 min_tokens: 5 }",
      {"stopping.min_tokens: 5", "max_tokens 4"});
  add("min_above_context", "stopping { min_tokens: 62 }",
      {"stopping.min_tokens: 62", "above 61", "max_model_len 64", "prompt of 3"});
  add("min_above_context_max_set", "stopping { max_tokens: 100 min_tokens: 62 }",
      {"stopping.min_tokens: 62", "above 61"});
  add("min_large", "stopping { min_tokens: 4294967295 }", {"stopping.min_tokens: 4294967295"});
  add("stops_17", "stopping {" + Repeat(" stop: \"x\"", 17) + "}",
      {"stopping.stop: 17 strings", "16"});
  add("stop_empty", "stopping { stop: \"a\" stop: \"\" }",
      {"stopping.stop[1]: 0 bytes", "[1, 256]"});
  add("stop_long", "stopping { stop: \"" + Repeat("x", 257) + "\" }", {"stopping.stop[0]: 257"});
  add("stop_ids_65", "stopping {" + Repeat(" stop_token_ids: 1", 65) + "}",
      {"stopping.stop_token_ids: 65", "64"});
  add("stop_id_at_vocabulary", "stopping { stop_token_ids: 270 }",
      {"stopping.stop_token_ids[0]: 270", "[0, 270)"});
  add("stop_id_large", "stopping { stop_token_ids: 3 stop_token_ids: 4294967295 }",
      {"stopping.stop_token_ids[1]: 4294967295"});
  add("tenant_long", "scheduling { tenant: \"" + Repeat("t", 65) + "\" }",
      {"scheduling.tenant: 65 bytes", "64"});
  add("tenant_space", "scheduling { tenant: \"a b\" }",
      {"scheduling.tenant: byte 1 (0x20)", "[A-Za-z0-9._-]"});
  add("tenant_slash", "scheduling { tenant: \"../x\" }", {"scheduling.tenant: byte 2 (0x2f)"});
  add("tenant_newline", "scheduling { tenant: \"a\\n\" }", {"0x0a"});
  add("tenant_nul", "scheduling { tenant: \"a\\000\" }", {"0x00"});
  add("tenant_umlaut", "scheduling { tenant: \"\\303\\244\" }", {"byte 0 (0xc3)"});
  add("tenant_quote", "scheduling { tenant: \"a\\\"\" }", {"0x22"});
  add("priority_low", "scheduling { priority: -101 }",
      {"scheduling.priority: -101", "[-100, 100]"});
  add("priority_high", "scheduling { priority: 101 }", {"scheduling.priority: 101"});
  add("priority_least", "scheduling { priority: -2147483648 }", {"-2147483648"});
  add("salt_long", "scheduling { cache_salt: \"" + Repeat("s", 129) + "\" }",
      {"scheduling.cache_salt: 129 bytes", "128"});
}

std::vector<BadRequest> BadRequests() {
  std::vector<BadRequest> bad;
  AddFloatCases(&bad);
  AddPromptCases(&bad);
  AddOtherCases(&bad);
  return bad;
}

class BadRequestTest : public ::testing::TestWithParam<BadRequest> {};

TEST_P(BadRequestTest, IsInvalidArgumentAndSaysWhat) {
  const absl::StatusOr<ParsedRequest> parsed = Check(GetParam().request);
  ASSERT_FALSE(parsed.ok());
  for (const std::string& said : GetParam().said) {
    EXPECT_THAT(parsed, StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(said)));
  }
}

INSTANTIATE_TEST_SUITE_P(Table, BadRequestTest, ::testing::ValuesIn(BadRequests()),
                         [](const auto& bad) { return std::string(bad.param.name); });

TEST(RequestChecksTest, TheTableOfBadRequestsIsLong) { EXPECT_GE(BadRequests().size(), 60U); }

TEST(RequestChecksTest, EveryLimitItselfIsAllowed) {
  for (const std::string text : {
           "sampling { temperature: 0 }",
           "sampling { temperature: 100 }",
           "sampling { top_p: 1 }",
           "sampling { top_p: 1e-30 }",
           "sampling { min_p: 0 }",
           "sampling { min_p: 1 }",
           "sampling { repetition_penalty: 10 }",
           "sampling { presence_penalty: -2 }",
           "sampling { frequency_penalty: 2 }",
           "sampling { top_k: 4294967295 }",
           "n: 16",
           "logprobs: 20",
           "logprobs: 0",
           "stopping { max_tokens: 4294967295 }",
           "stopping { min_tokens: 61 }",
           "scheduling { priority: -100 }",
           "scheduling { priority: 100 }",
           "scheduling { tenant: \"aZ0._-\" }",
           "scheduling { ttft_deadline_ms: 4294967295 }",
           "token_ids { ids: 0 ids: 269 }",
       }) {
    SCOPED_TRACE(text);
    EXPECT_THAT(Check(Request(text)), IsOk());
  }
  EXPECT_THAT(Check(Request("token_ids {" + Repeat(" ids: 5", kMaxLen - 1) + "}")), IsOk());
  EXPECT_THAT(
      Check(Request("stopping {" + Repeat(" stop: \"" + Repeat("x", 256) + "\"", 16) + "}")),
      IsOk());
  EXPECT_THAT(Check(Request("request_id: \"" + Repeat("r", 128) + "\"")), IsOk());
}

TEST(RequestChecksTest, UnsetFieldsTakeTheDefaults) {
  const auto parsed = Check(Request(""));
  ASSERT_THAT(parsed, IsOk());
  ASSERT_EQ(parsed->samples.size(), 1U);
  const RequestSpec& spec = parsed->samples[0];
  EXPECT_EQ(parsed->request_id, "made-up");
  EXPECT_EQ(spec.prompt, FakeTokenizer().Encode("abc", true, true));
  EXPECT_EQ(spec.prompt.front(), FakeTokenizer::kBos);
}

TEST(RequestChecksTest, UnsetSamplingIsNeutral) {
  const auto parsed = Check(Request("token_ids { ids: 1 }"));
  ASSERT_THAT(parsed, IsOk());
  const RequestSpec& spec = parsed->samples[0];
  const SamplingParams& sampling = *spec.sampling;
  EXPECT_EQ(sampling.temperature, 1.0F);
  EXPECT_EQ(sampling.top_p, 1.0F);
  EXPECT_EQ(sampling.top_k, 0);
  EXPECT_EQ(sampling.min_p, 0.0F);
  EXPECT_FALSE(sampling.has_penalties());
  EXPECT_EQ(sampling.seed, 77U);
  EXPECT_EQ(sampling.logprobs, -1);
  EXPECT_THAT(sampling.stop_ids, ElementsAre(FakeTokenizer::kEos));
  EXPECT_EQ(spec.max_new, Tokens(kMaxLen - 1)) << "until the context is full";
  EXPECT_EQ(spec.tenant, "default");
  EXPECT_EQ(spec.cache_salt, 0U);
  EXPECT_EQ(spec.first_token_deadline, absl::InfiniteFuture());
  EXPECT_TRUE(parsed->stops->empty());
}

TEST(RequestChecksTest, TheModelsDefaultsApplyWhereTheRequestIsSilent) {
  SamplingDefaults defaults;
  defaults.temperature = 0.6F;
  defaults.top_p = 0.9F;
  defaults.top_k = 50;
  defaults.repetition_penalty = 1.1F;
  const auto silent = Check(Request(""), defaults);
  ASSERT_THAT(silent, IsOk());
  EXPECT_EQ(silent->samples[0].sampling->temperature, 0.6F);
  EXPECT_EQ(silent->samples[0].sampling->top_p, 0.9F);
  EXPECT_EQ(silent->samples[0].sampling->top_k, 50);
  EXPECT_EQ(silent->samples[0].sampling->repetition_penalty, 1.1F);
  const auto spoken = Check(
      Request("sampling { temperature: 0 top_p: 1 top_k: 0 repetition_penalty: 1 }"), defaults);
  ASSERT_THAT(spoken, IsOk());
  EXPECT_EQ(spoken->samples[0].sampling->temperature, 0.0F);
  EXPECT_EQ(spoken->samples[0].sampling->top_p, 1.0F);
  EXPECT_EQ(spoken->samples[0].sampling->top_k, 0);
  EXPECT_FALSE(spoken->samples[0].sampling->has_penalties());
}

TEST(RequestChecksTest, SamplesDifferOnlyInTheirSeeds) {
  const auto parsed = Check(Request("n: 3 sampling { seed: 18446744073709551615 }"));
  ASSERT_THAT(parsed, IsOk());
  ASSERT_EQ(parsed->samples.size(), 3U);
  EXPECT_EQ(parsed->samples[0].sampling->seed, 18446744073709551615U);
  EXPECT_EQ(parsed->samples[1].sampling->seed, 0U);
  EXPECT_EQ(parsed->samples[2].sampling->seed, 1U);
  EXPECT_EQ(parsed->samples[0].prompt, parsed->samples[2].prompt);
}

TEST(RequestChecksTest, OutputIsCappedByTheContext) {
  const auto parsed =
      Check(Request("token_ids { ids: 1 ids: 2 } stopping { max_tokens: 1000 min_tokens: 3 }"));
  ASSERT_THAT(parsed, IsOk());
  EXPECT_EQ(parsed->samples[0].max_new, Tokens(kMaxLen - 2));
  EXPECT_EQ(parsed->samples[0].sampling->min_tokens, 3);
}

TEST(RequestChecksTest, IgnoreEosLeavesOnlyTheClientsStopIds) {
  const auto parsed =
      Check(Request("stopping { ignore_eos: true stop_token_ids: 9 stop_token_ids: 3 "
                    "stop_token_ids: 9 }"));
  ASSERT_THAT(parsed, IsOk());
  EXPECT_THAT(parsed->samples[0].sampling->stop_ids, ElementsAre(3, 9));
}

TEST(RequestChecksTest, SaltsAreEqualExactlyWhenTheStringsAre) {
  const auto salt = [](const std::string& value, const std::string& tenant) {
    return Check(Request("scheduling { cache_salt: \"" + value + "\" tenant: \"" + tenant + "\" }"))
        ->samples[0]
        .cache_salt;
  };
  EXPECT_EQ(salt("x", "a"), salt("x", "b")) << "a salt is shared by whoever knows it";
  EXPECT_NE(salt("x", "a"), salt("y", "a"));
  EXPECT_EQ(salt("", "a"), salt("", "b"));
  EXPECT_NE(salt("x", "a"), salt("", "a"));
}

TEST(RequestChecksTest, FirstTokenDeadlineCountsFromArrival) {
  const auto parsed = Check(Request("scheduling { ttft_deadline_ms: 250 }"));
  ASSERT_THAT(parsed, IsOk());
  EXPECT_EQ(parsed->samples[0].first_token_deadline,
            absl::FromUnixSeconds(1000) + absl::Milliseconds(250));
}

TEST(RequestChecksTest, TextNeedsATokenizer) {
  const auto tokenizer = Tokenizer::IdsOnly(270);
  const ModelLimits limits{270, Tokens(kMaxLen), {}};
  const auto check = [&](const std::string& text) {
    return CheckGenerateRequest(Parse(text), limits, {}, *tokenizer, {});
  };
  EXPECT_THAT(check("token_ids { ids: 1 }"), IsOk());
  EXPECT_THAT(check("text: \"x\""),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("prompt.text")));
  EXPECT_THAT(check("token_ids { ids: 1 } stopping { stop: \"x\" }"),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("stopping.stop")));
}

TEST(RequestChecksTest, TokenizerThatDoesNotFitTheModelIsOurFault) {
  const FakeTokenizer tokenizer;
  const ModelLimits limits{100, Tokens(kMaxLen), {}};
  v1::GenerateRequest request;
  request.set_text("z");
  EXPECT_THAT(CheckGenerateRequest(request, limits, {}, tokenizer, {}),
              StatusIs(absl::StatusCode::kInternal, HasSubstr("vocabulary of 100")));
}

}  // namespace
}  // namespace sluice
