#include "service/http/openai_request.h"

#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "service/http/api_error.h"
#include "service/http/body_fields.h"
#include "tests/support/status_matchers.h"

namespace sluice {
namespace {

using ::sluice::testing::IsOk;
using ::sluice::testing::StatusIs;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::StartsWith;

absl::StatusOr<ApiRequest> ParseChat(nlohmann::json more) {
  nlohmann::json body = {{"messages", {{{"role", "user"}, {"content", "Hi"}}}}};
  body.update(more);
  return ParseApiRequest(ApiKind::kChat, body.dump());
}

absl::StatusOr<ApiRequest> ParseCompletion(nlohmann::json more) {
  nlohmann::json body = {{"prompt", "Hi"}};
  body.update(more);
  return ParseApiRequest(ApiKind::kCompletion, body.dump());
}

TEST(OpenAiRequest, ACompletionTakesTextOrIds) {
  EXPECT_EQ(ParseCompletion({{"prompt", "a b"}})->generate.text(), "a b");
  EXPECT_EQ(ParseCompletion({{"prompt", {"a b"}}})->generate.text(), "a b");
  EXPECT_THAT(ParseCompletion({{"prompt", {5, 6}}})->generate.token_ids().ids(), ElementsAre(5, 6));
  const nlohmann::json nested = nlohmann::json::array({nlohmann::json::array({5, 6})});
  EXPECT_THAT(ParseCompletion({{"prompt", nested}})->generate.token_ids().ids(), ElementsAre(5, 6));
}

TEST(OpenAiRequest, EveryParameterArrives) {
  const absl::StatusOr<ApiRequest> parsed =
      ParseChat({{"model", "m"},
                 {"stream", true},
                 {"stream_options", {{"include_usage", true}}},
                 {"temperature", 0.5},
                 {"top_p", 0.25},
                 {"top_k", 7},
                 {"min_p", 0.125},
                 {"presence_penalty", 1},
                 {"frequency_penalty", -1},
                 {"repetition_penalty", 1.5},
                 {"seed", -3},
                 {"max_tokens", 9},
                 {"max_completion_tokens", 8},
                 {"min_tokens", 2},
                 {"stop", {"a", "b"}},
                 {"stop_token_ids", {4}},
                 {"ignore_eos", true},
                 {"include_stop_str_in_output", true},
                 {"n", 3},
                 {"logprobs", true},
                 {"top_logprobs", 5},
                 {"cache_salt", "s"},
                 {"priority", 4},
                 {"chat_template_kwargs", {{"k", 1}}}});
  ASSERT_THAT(parsed, IsOk());
  EXPECT_EQ(parsed->model, "m");
  EXPECT_TRUE(parsed->stream);
  EXPECT_TRUE(parsed->include_usage);
  EXPECT_EQ(parsed->template_variables, nlohmann::json({{"k", 1}}));
  const v1::GenerateRequest& generate = parsed->generate;
  EXPECT_EQ(generate.sampling().temperature(), 0.5F);
  EXPECT_EQ(generate.sampling().top_p(), 0.25F);
  EXPECT_EQ(generate.sampling().top_k(), 7U);
  EXPECT_EQ(generate.sampling().min_p(), 0.125F);
  EXPECT_EQ(generate.sampling().presence_penalty(), 1.0F);
  EXPECT_EQ(generate.sampling().frequency_penalty(), -1.0F);
  EXPECT_EQ(generate.sampling().repetition_penalty(), 1.5F);
  EXPECT_EQ(generate.sampling().seed(), static_cast<uint64_t>(-3));
  EXPECT_EQ(generate.stopping().max_tokens(), 8U);
  EXPECT_EQ(generate.stopping().min_tokens(), 2U);
  EXPECT_THAT(generate.stopping().stop(), ElementsAre("a", "b"));
  EXPECT_THAT(generate.stopping().stop_token_ids(), ElementsAre(4));
  EXPECT_TRUE(generate.stopping().ignore_eos());
  EXPECT_TRUE(generate.stopping().include_stop());
  EXPECT_EQ(generate.n(), 3U);
  EXPECT_EQ(generate.logprobs(), 5U);
  EXPECT_EQ(generate.scheduling().cache_salt(), "s");
  EXPECT_EQ(generate.scheduling().priority(), -4);  // vLLM: lower goes first
}

TEST(OpenAiRequest, DefaultsAreThoseOfTheApis) {
  const absl::StatusOr<ApiRequest> chat = ParseChat({{"temperature", nullptr}, {"stop", nullptr}});
  ASSERT_THAT(chat, IsOk());
  EXPECT_FALSE(chat->stream);
  EXPECT_FALSE(chat->generate.sampling().has_temperature());
  EXPECT_FALSE(chat->generate.stopping().has_max_tokens());
  EXPECT_FALSE(chat->generate.has_logprobs());
  EXPECT_EQ(chat->generate.n(), 1U);
  EXPECT_EQ(ParseCompletion(nlohmann::json::object())->generate.stopping().max_tokens(), 16U);
  EXPECT_EQ(ParseChat({{"top_k", -1}})->generate.sampling().top_k(), 0U);
  EXPECT_EQ(ParseChat({{"max_tokens", 5.0}})->generate.stopping().max_tokens(), 5U);
  EXPECT_EQ(ParseCompletion({{"logprobs", 0}})->generate.logprobs(), 0U);
  EXPECT_TRUE(ParseCompletion({{"logprobs", 0}})->generate.has_logprobs());
}

TEST(OpenAiRequest, MessagesTakeTextAndTextParts) {
  const nlohmann::json parts = {{{"type", "text"}, {"text", "a"}},
                                {{"type", "text"}, {"text", "b"}}};
  const absl::StatusOr<ApiRequest> parsed = ParseChat(
      {{"messages",
        {{{"role", "system"}, {"content", "s"}, {"name", "n"}},
         {{"role", "user"}, {"content", parts}},
         {{"role", "assistant"}, {"content", ""}, {"tool_calls", nlohmann::json::array()}}}}});
  ASSERT_THAT(parsed, IsOk());
  ASSERT_EQ(parsed->messages.size(), 3U);
  EXPECT_EQ(parsed->messages[0].name, "n");
  EXPECT_EQ(parsed->messages[1].content, "a\nb");
  EXPECT_EQ(parsed->messages[2].role, "assistant");
}

TEST(OpenAiRequest, UnknownFieldsAndSwitchedOffFeaturesAreIgnored) {
  EXPECT_THAT(ParseChat({{"user", "u"},
                         {"metadata", {{"a", 1}}},
                         {"store", true},
                         {"from_the_future", {1, 2}},
                         {"tools", nlohmann::json::array()},
                         {"tool_choice", "none"},
                         {"logit_bias", nlohmann::json::object()},
                         {"response_format", {{"type", "text"}}},
                         {"modalities", {"text"}},
                         {"parallel_tool_calls", true},
                         {"echo", false},
                         {"best_of", 1}}),
              IsOk());
}

TEST(OpenAiRequest, WhatWouldChangeTheAnswerIsRefusedByName) {
  const std::vector<std::pair<std::string, nlohmann::json>> unsupported = {
      {"tools", {{{"type", "function"}}}},
      {"tool_choice", "required"},
      {"response_format", {{"type", "json_object"}}},
      {"logit_bias", {{"5", 1}}},
      {"modalities", {"text", "audio"}},
      {"echo", true},
      {"suffix", "x"},
      {"best_of", 2},
      {"guided_json", {{"type", "object"}}},
      {"reasoning_effort", "high"},
      {"skip_special_tokens", false},
      {"prompt_logprobs", 1},
      {"continue_final_message", true}};
  for (const auto& [name, value] : unsupported) {
    EXPECT_THAT(ParseChat({{name, value}}),
                StatusIs(absl::StatusCode::kInvalidArgument, StartsWith(name + ": ")));
  }
}

TEST(OpenAiRequest, ImagesAndToolMessagesAreRefusedWithTheirPlace) {
  const nlohmann::json image = {{{"type", "image_url"}, {"image_url", {{"url", "x"}}}}};
  EXPECT_THAT(ParseChat({{"messages", {{{"role", "user"}, {"content", image}}}}}),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       "messages[0].content[0].type: \"image_url\" is not supported; this model "
                       "reads text only"));
  EXPECT_THAT(
      ParseChat({{"messages",
                  {{{"role", "assistant"}, {"content", ""}, {"tool_calls", {{{"id", "x"}}}}}}}}),
      StatusIs(absl::StatusCode::kInvalidArgument, "messages[0].tool_calls: is not supported"));
}

TEST(OpenAiRequest, WrongTypesAreNamed) {
  const std::vector<std::pair<nlohmann::json, std::string>> cases = {
      {{{"temperature", "hot"}}, "temperature: is a string, not a number"},
      {{{"stream", 1}}, "stream: is a number, not a boolean"},
      {{{"max_tokens", 1.5}}, "max_tokens: 1.5 is not an integer"},
      {{{"max_tokens", -1}}, "max_tokens: -1 is not in [0, 4294967295]"},
      {{{"seed", 1e30}}, "seed: 1e+30 is not an integer"},
      {{{"n", 0}}, "n: 0 is not in [1, 4294967295]"},
      {{{"stop", 5}}, "stop: is a number, not a string or an array of strings"},
      {{{"stop", {"a", 5}}}, "stop[1]: is a number, not a string"},
      {{{"stop_token_ids", {-1}}}, "stop_token_ids[0]: is -1, not a token id"},
      {{{"model", 5}}, "model: is a number, not a string"},
      {{{"stream_options", 5}}, "stream_options: is not an object"},
      {{{"top_logprobs", 2}}, "top_logprobs: needs \"logprobs\": true"},
      {{{"messages", "hi"}}, "messages: is not an array with at least one message"},
      {{{"messages", nlohmann::json::array()}},
       "messages: is not an array with at least one message"},
      {{{"messages", {5}}}, "messages[0]: is not an object"},
      {{{"messages", {{{"content", "x"}}}}}, "messages[0].role: is missing"},
      {{{"messages", {{{"role", "user"}}}}}, "messages[0].content: is missing"},
      {{{"messages", {{{"role", "user"}, {"content", 5}}}}},
       "messages[0].content: is a number, not a string or an array of text parts"},
      {{{"chat_template_kwargs", 5}}, "chat_template_kwargs: is not an object"},
  };
  for (const auto& [fields, message] : cases) {
    EXPECT_THAT(ParseChat(fields), StatusIs(absl::StatusCode::kInvalidArgument, message));
  }
  EXPECT_THAT(ParseApiRequest(ApiKind::kCompletion, "{}"),
              StatusIs(absl::StatusCode::kInvalidArgument, StartsWith("prompt: is missing")));
  EXPECT_THAT(ParseCompletion({{"prompt", {"a", "b"}}}),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       "prompt: holds 2 prompts; send one request for each"));
  EXPECT_THAT(
      ParseCompletion({{"prompt", {1, "b"}}}),
      StatusIs(absl::StatusCode::kInvalidArgument, "prompt[1]: is a string, not a token id"));
}

TEST(OpenAiRequest, BodiesThatAreNoJsonObject) {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"", "the body is empty"},
      {"{\"a\": ", "the body is not JSON: parse error at line 1"},
      {"[1]", "the body is an array, not a JSON object"},
      {"{\"a\": \"\xff\"}", "the body is not JSON"},
      {"{\"a\": 1e999}", "the body is not JSON"},
      {std::string(100, '['), "nested more than 64 deep"},
      {"{\"a\": " + std::string(70, '[') + std::string(70, ']') + "}", "nested more than 64 deep"}};
  for (const auto& [body, message] : cases) {
    EXPECT_THAT(ParseJsonBody(body),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(message)));
  }
  EXPECT_THAT(ParseJsonBody(R"({"a": "[[[[ \" [[["})"), IsOk());
}

TEST(ApiError, NamesTheFieldAsTheJsonApiDoes) {
  const ApiError error =
      ToApiError(absl::InvalidArgumentError("sampling.top_p: 2 is not in (0, 1]; 1 turns it off"));
  EXPECT_EQ(error.status, 400);
  EXPECT_EQ(error.param, "top_p");
  EXPECT_EQ(error.message, "top_p: 2 is not in (0, 1]; 1 turns it off");
  EXPECT_EQ(ToApiError(absl::InvalidArgumentError("prompt.token_ids[3]: 9")).param, "prompt[3]");
  EXPECT_EQ(ToApiError(absl::InvalidArgumentError("scheduling.tenant: x")).param,
            "x-sluice-tenant");
  EXPECT_EQ(ToApiError(absl::InvalidArgumentError("no field here: x")).param, "");
  EXPECT_EQ(ToApiError(absl::InvalidArgumentError("prompt: 9 tokens; max_model_len is 5")).code,
            "context_length_exceeded");
}

TEST(ApiError, EveryCodeHasItsStatus) {
  const std::vector<std::pair<absl::StatusCode, int>> codes = {
      {absl::StatusCode::kInvalidArgument, 400},
      {absl::StatusCode::kFailedPrecondition, 400},
      {absl::StatusCode::kUnimplemented, 400},
      {absl::StatusCode::kUnauthenticated, 401},
      {absl::StatusCode::kPermissionDenied, 403},
      {absl::StatusCode::kNotFound, 404},
      {absl::StatusCode::kResourceExhausted, 429},
      {absl::StatusCode::kUnavailable, 503},
      {absl::StatusCode::kDeadlineExceeded, 504},
      {absl::StatusCode::kInternal, 500},
      {absl::StatusCode::kUnknown, 500}};
  for (const auto& [code, status] : codes) {
    EXPECT_EQ(ToApiError(absl::Status(code, "x")).status, status) << static_cast<int>(code);
  }
}

TEST(ApiError, TooManyRequestsSayWhenToTryAgain) {
  const HttpResponse response =
      ErrorResponse(ToApiError(absl::ResourceExhaustedError("full"), absl::Milliseconds(2500)));
  EXPECT_EQ(response.status, 429);
  EXPECT_THAT(response.headers, ElementsAre(std::pair("Retry-After", "3")));
  EXPECT_EQ(nlohmann::json::parse(response.body),
            nlohmann::json({{"error",
                             {{"message", "full"},
                              {"type", "rate_limit_error"},
                              {"param", nullptr},
                              {"code", "rate_limit_exceeded"}}}}));
}

}  // namespace
}  // namespace sluice
