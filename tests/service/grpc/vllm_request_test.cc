#include "service/grpc/vllm_request.h"

#include <functional>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace sluice {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using VllmRequest = vllm::grpc::engine::GenerateRequest;

VllmRequest Minimal() {
  VllmRequest request;
  for (const uint32_t id : {5, 6, 7}) request.mutable_tokenized()->add_input_ids(id);
  return request;
}

TEST(VllmRequestTest, UnsetFieldsMeanTheProtocolsDefaults) {
  const v1::GenerateRequest out = *TranslateVllmRequest(Minimal());
  EXPECT_THAT(out.token_ids().ids(), ElementsAre(5, 6, 7));
  // Set, so that the model's generation_config does not apply.
  EXPECT_TRUE(out.sampling().has_temperature());
  EXPECT_EQ(out.sampling().temperature(), 1);
  EXPECT_EQ(out.sampling().top_p(), 1);
  EXPECT_TRUE(out.sampling().has_top_k());
  EXPECT_EQ(out.sampling().top_k(), 0U);
  EXPECT_EQ(out.sampling().repetition_penalty(), 1);
  EXPECT_FALSE(out.sampling().has_seed());
  EXPECT_FALSE(out.stopping().has_max_tokens());
  EXPECT_FALSE(out.has_logprobs());
}

TEST(VllmRequestTest, EveryFieldArrives) {
  VllmRequest in = Minimal();
  in.set_request_id("chat-1");
  auto& p = *in.mutable_sampling_params();
  p.set_temperature(0);
  p.set_top_p(0.5F);
  p.set_top_k(7);
  p.set_min_p(0.25F);
  p.set_frequency_penalty(0.5F);
  p.set_presence_penalty(-0.5F);
  p.set_repetition_penalty(1.5F);
  p.set_max_tokens(9);
  p.set_min_tokens(2);
  p.add_stop("END");
  p.add_stop_token_ids(3);
  p.set_ignore_eos(true);
  p.set_n(4);
  p.set_logprobs(2);
  p.set_seed(-2);
  p.set_include_stop_str_in_output(true);
  const v1::GenerateRequest out = *TranslateVllmRequest(in);
  EXPECT_EQ(out.request_id(), "chat-1");
  EXPECT_EQ(out.sampling().temperature(), 0);
  EXPECT_EQ(out.sampling().top_p(), 0.5F);
  EXPECT_EQ(out.sampling().top_k(), 7U);
  EXPECT_EQ(out.sampling().min_p(), 0.25F);
  EXPECT_EQ(out.sampling().frequency_penalty(), 0.5F);
  EXPECT_EQ(out.sampling().presence_penalty(), -0.5F);
  EXPECT_EQ(out.sampling().repetition_penalty(), 1.5F);
  EXPECT_EQ(out.sampling().seed(), ~uint64_t{1});
  EXPECT_EQ(out.stopping().max_tokens(), 9U);
  EXPECT_EQ(out.stopping().min_tokens(), 2U);
  EXPECT_THAT(out.stopping().stop(), ElementsAre("END"));
  EXPECT_THAT(out.stopping().stop_token_ids(), ElementsAre(3));
  EXPECT_TRUE(out.stopping().ignore_eos());
  EXPECT_TRUE(out.stopping().include_stop());
  EXPECT_EQ(out.n(), 4U);
  EXPECT_EQ(out.logprobs(), 2U);
}

TEST(VllmRequestTest, TextAndTheEndOfALongPromptAreTaken) {
  VllmRequest text;
  text.set_text("hello");
  EXPECT_EQ(TranslateVllmRequest(text)->text(), "hello");
  VllmRequest cut = Minimal();
  cut.mutable_sampling_params()->set_truncate_prompt_tokens(2);
  EXPECT_THAT(TranslateVllmRequest(cut)->token_ids().ids(), ElementsAre(6, 7));
  cut.mutable_sampling_params()->set_truncate_prompt_tokens(9);
  EXPECT_THAT(TranslateVllmRequest(cut)->token_ids().ids(), ElementsAre(5, 6, 7));
}

TEST(VllmRequestTest, SeedMinusOneMeansNone) {
  VllmRequest in = Minimal();
  in.mutable_sampling_params()->set_seed(-1);
  EXPECT_FALSE(TranslateVllmRequest(in)->sampling().has_seed());
}

TEST(VllmRequestTest, WhatCannotBeDoneIsRefusedByName) {
  struct Case {
    const char* message;
    std::function<void(VllmRequest*)> spoil;
  };
  const Case cases[] = {
      {"input: not set", [](VllmRequest* r) { r->clear_input(); }},
      {"tokenized.input_ids: holds 0 ids",
       [](VllmRequest* r) { r->mutable_tokenized()->clear_input_ids(); }},
      {"sampling_params.json_schema: output cannot be constrained",
       [](VllmRequest* r) { r->mutable_sampling_params()->set_json_schema("{}"); }},
      {"sampling_params.regex: ",
       [](VllmRequest* r) { r->mutable_sampling_params()->set_regex("a*"); }},
      {"sampling_params.choice: ",
       [](VllmRequest* r) { r->mutable_sampling_params()->mutable_choice()->add_choices("x"); }},
      {"prompt_logprobs: 0: this server gives log-probabilities of the output only",
       [](VllmRequest* r) { r->mutable_sampling_params()->set_prompt_logprobs(0); }},
      {"logprobs: -1 is not at least 0",
       [](VllmRequest* r) { r->mutable_sampling_params()->set_logprobs(-1); }},
      {"logit_bias: 1 entries",
       [](VllmRequest* r) { (*r->mutable_sampling_params()->mutable_logit_bias())[3] = 1; }},
      {"truncate_prompt_tokens: 0 is not at least 1",
       [](VllmRequest* r) { r->mutable_sampling_params()->set_truncate_prompt_tokens(0); }},
      {"mm_inputs: ", [](VllmRequest* r) { r->mutable_mm_inputs(); }},
      {"kv_transfer_params: ", [](VllmRequest* r) { r->mutable_kv_transfer_params(); }},
      {"kv_transfer_params: ", [](VllmRequest* r) { r->set_kv_transfer_params_json("{}"); }},
      {"data_parallel_rank: 1 is not 0", [](VllmRequest* r) { r->set_data_parallel_rank(1); }},
  };
  for (const Case& c : cases) {
    VllmRequest request = Minimal();
    c.spoil(&request);
    const auto out = TranslateVllmRequest(request);
    EXPECT_EQ(out.status().code(), absl::StatusCode::kInvalidArgument) << c.message;
    EXPECT_THAT(std::string(out.status().message()), HasSubstr(c.message));
  }
}

}  // namespace
}  // namespace sluice
