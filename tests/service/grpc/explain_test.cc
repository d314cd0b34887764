// Explain: what the answer says, that it adds up, and that it agrees with what Generate then does.
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "service/grpc/explain_report.h"
#include "tests/service/grpc/test_server.h"

namespace sluice {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::PlainRequest;
using testing::TestServer;
using testing::TestServerOptions;

v1::ExplainRequest Ids(uint32_t count) {
  v1::ExplainRequest request;
  for (uint32_t i = 0; i < count; ++i) request.mutable_token_ids()->add_ids('a' + i % 26);
  request.set_max_tokens(8);
  return request;
}

grpc::Status Explain(TestServer& server, const v1::ExplainRequest& request,
                     v1::ExplainResponse* response) {
  grpc::ClientContext context;
  return server.inference().Explain(&context, request, response);
}

TEST(ExplainTest, AnUnknownPromptIsAllNewAndAKnownOneIsOnTheDevice) {
  TestServer server;
  v1::ExplainResponse before;
  ASSERT_TRUE(Explain(server, Ids(100), &before).ok());
  EXPECT_EQ(before.prompt_tokens(), 100U);
  EXPECT_EQ(before.new_tokens(), 100U);
  EXPECT_EQ(before.plan(), "resident");
  EXPECT_EQ(before.plans_size(), kRequestPlanCount);
  EXPECT_TRUE(before.fits_now());
  EXPECT_EQ(before.waiting(), 0U);
  EXPECT_GT(before.predicted_ttft_s(), 0);
  EXPECT_THAT(before.reason(), HasSubstr("Of 100 prompt tokens, 100 new; resident adds 0.0 ms"));

  v1::GenerateRequest generate;
  *generate.mutable_token_ids() = Ids(100).token_ids();
  generate.mutable_stopping()->set_max_tokens(8);
  ASSERT_TRUE(server.Generate(generate).status.ok());
  ASSERT_TRUE(server.WaitUntilFree());

  v1::ExplainResponse after;
  ASSERT_TRUE(Explain(server, Ids(100), &after).ok());
  EXPECT_EQ(after.device_tokens(), 96U) << "whole blocks of 16";
  EXPECT_EQ(after.new_tokens(), 4U);
  EXPECT_LT(after.predicted_ttft_s(), before.predicted_ttft_s());
  const testing::Answer answer = server.Generate(generate);
  EXPECT_EQ(answer.samples[0].finished->usage().cached_device_tokens(), after.device_tokens());
  EXPECT_EQ(answer.samples[0].finished->timing().plan(), after.plan());
}

TEST(ExplainTest, ItChangesNothing) {
  TestServer server;
  v1::ExplainResponse first, second;
  ASSERT_TRUE(Explain(server, Ids(50), &first).ok());
  ASSERT_TRUE(Explain(server, Ids(50), &second).ok());
  EXPECT_EQ(first.SerializeAsString(), second.SerializeAsString());
  EXPECT_EQ(server.Load().waiting() + server.Load().running(), 0U);
}

TEST(ExplainTest, WhatGenerateRefusesIsRefusedWithTheSameWords) {
  TestServer server;
  v1::ExplainResponse response;
  grpc::Status status = Explain(server, v1::ExplainRequest(), &response);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(status.error_message(), HasSubstr("prompt: not set"));

  v1::ExplainRequest request = Ids(10);
  request.set_max_tokens(0);
  status = Explain(server, request, &response);
  EXPECT_THAT(status.error_message(), HasSubstr("max_tokens: 0 is not at least 1"));

  request = Ids(10);
  request.mutable_scheduling()->set_priority(1000);
  status = Explain(server, request, &response);
  EXPECT_THAT(status.error_message(), HasSubstr("scheduling.priority: 1000"));

  TestServerOptions options;
  options.scheduler.device_blocks = Blocks(4);
  TestServer small(options);
  status = Explain(small, Ids(1000), &response);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT) << "never fits";
}

TEST(ExplainTest, ADrainingServerSaysSo) {
  TestServer server;
  server.server().BeginDrain();
  v1::ExplainResponse response;
  EXPECT_EQ(Explain(server, Ids(10), &response).error_code(), grpc::StatusCode::UNAVAILABLE);
}

TEST(ExplainTest, ACancelledQuestionEndsThoughTheEngineIsBusy) {
  TestServer server;
  server.backend().HoldSteps();
  grpc::ClientContext busy;
  auto call = server.inference().Generate(&busy, PlainRequest("x", 5));
  server.backend().WaitUntilHeld();
  grpc::ClientContext context;
  context.set_deadline(absl::ToChronoTime(absl::Now() + absl::Milliseconds(20)));
  v1::ExplainResponse response;
  EXPECT_EQ(server.inference().Explain(&context, Ids(10), &response).error_code(),
            grpc::StatusCode::DEADLINE_EXCEEDED);
  server.backend().ReleaseSteps();
  v1::GenerateResponse message;
  while (call->Read(&message)) {
  }
  EXPECT_TRUE(call->Finish().ok());
}

Explanation Loaded() {
  Explanation e;
  e.prompt = Tokens(1000);
  e.on_device = Tokens(100);
  e.on_host = Tokens(600);
  e.on_disk = Tokens(200);
  e.pending = Tokens(50);
  e.plan = RequestPlan::kLoad;
  e.plans[1] = {true, absl::Milliseconds(12), absl::Milliseconds(3), absl::Milliseconds(14), 0.012};
  e.plans[4] = {true, absl::ZeroDuration(), absl::Milliseconds(40), absl::Milliseconds(40), 0.04};
  e.plans[2].ready = absl::InfiniteDuration();
  return e;
}

TEST(ExplainReportTest, TokensAddUpAndImpossiblePlansHaveNoNumbers) {
  const v1::ExplainResponse out = MakeExplainResponse(Loaded());
  EXPECT_EQ(out.device_tokens() + out.host_tokens() + out.disk_tokens() + out.new_tokens(),
            out.prompt_tokens());
  EXPECT_EQ(out.pending_tokens(), 50U);
  EXPECT_EQ(out.plans(2).plan(), "split");
  EXPECT_FALSE(out.plans(2).possible());
  EXPECT_EQ(out.plans(2).ready_s(), 0);
  EXPECT_DOUBLE_EQ(out.plans(1).link_s(), 0.012);
  EXPECT_DOUBLE_EQ(out.plans(4).price(), 0.04);
}

TEST(ExplainReportTest, TheReasonComparesTheChosenPlanWithTheNextBest) {
  Explanation e = Loaded();
  EXPECT_EQ(MakeExplainResponse(e).reason(),
            "Of 1000 prompt tokens, 100 on the device, 600 in host memory, 200 on disk, 100 new; "
            "load adds 12.0 ms to the link and 3.0 ms to compute, at a price of 12.0 ms, against "
            "40.0 ms of recompute, the next best.");
  EXPECT_THAT(MakeExplainResponse(e, "remote").reason(), HasSubstr("200 in the remote store, 100"));
  EXPECT_THAT(MakeExplainResponse(e, "disk+remote").reason(),
              HasSubstr("200 on disk or in the remote store, 100"));
  e.plans[4].price = 0.001;
  EXPECT_THAT(MakeExplainResponse(e).reason(),
              HasSubstr("as the policy always does, at a price of 12.0 ms although recompute has "
                        "one of 1.0 ms."));
  e.plans[4].possible = false;
  EXPECT_THAT(MakeExplainResponse(e).reason(), HasSubstr("compute, nothing else is possible."));
}

}  // namespace
}  // namespace sluice
