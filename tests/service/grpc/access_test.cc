// Tokens and limits of tenants at the gRPC door: right codes, and a healthy server afterwards.
#include <memory>
#include <string>
#include <utility>

#include "google/rpc/retry_info.pb.h"
#include "gtest/gtest.h"
#include "tests/service/grpc/test_server.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"
#include "vllm/grpc/engine/vllm_engine.grpc.pb.h"

namespace sluice {
namespace {

using ::sluice::testing::Answer;
using ::sluice::testing::PlainRequest;
using ::sluice::testing::TestServer;
using ::sluice::testing::TestServerOptions;
using ::testing::HasSubstr;

constexpr char kAnna[] = "anna-0123456789abcdef";
constexpr char kBert[] = "bert-0123456789abcdef";
constexpr char kGate[] = "gate-0123456789abcdef";

class AccessTest : public ::testing::Test {
 protected:
  void Serve(const TenantLimitOptions& limits, bool tokens = true, bool isolate = true) {
    AccessOptions options;
    if (tokens) {
      options.token_file = dir_.Write(
          "tokens", absl::StrCat(kAnna, " anna\n", kBert, " bert\n", kGate, " gate admin\n"));
    }
    options.isolate_tenants = isolate;
    options.limits = limits;
    auto access = AccessControl::Create(options, testing::MonotonicNow, nullptr);
    ASSERT_TRUE(access.ok()) << access.status();
    TestServerOptions server;
    server.access = *std::move(access);
    server_ = std::make_unique<TestServer>(std::move(server));
  }

  static void AddToken(const std::string& token, grpc::ClientContext* context) {
    if (!token.empty()) context->AddMetadata("authorization", "Bearer " + token);
  }

  Answer Generate(const std::string& token, const v1::GenerateRequest& request) {
    grpc::ClientContext context;
    AddToken(token, &context);
    return server_->Read(&context, request);
  }

  // The code of a Generate as `token`.
  grpc::StatusCode CodeOf(const std::string& token) {
    return Generate(token, PlainRequest("hello", 2)).status.error_code();
  }

  template <class Call>
  grpc::StatusCode Unary(const std::string& token, const Call& call) {
    grpc::ClientContext context;
    AddToken(token, &context);
    return call(&context).error_code();
  }

  // A call that runs until the object goes; its first sample is in the server when this returns.
  struct Running {
    grpc::ClientContext context;
    std::unique_ptr<grpc::ClientReader<v1::GenerateResponse>> reader;
    ~Running() {
      context.TryCancel();
      reader->Finish();
    }
  };
  std::unique_ptr<Running> Start(const std::string& token) {
    auto running = std::make_unique<Running>();
    AddToken(token, &running->context);
    running->reader = server_->inference().Generate(&running->context, PlainRequest("x", 3000));
    running->reader->WaitForInitialMetadata();
    return running;
  }

  testing::TempDir dir_;
  std::unique_ptr<TestServer> server_;
};

absl::Duration RetryDelayOf(const grpc::Status& status) {
  google::rpc::Status details;
  google::rpc::RetryInfo info;
  if (!details.ParseFromString(status.error_details()) || details.details_size() != 1 ||
      !details.details(0).UnpackTo(&info)) {
    return absl::ZeroDuration();
  }
  return absl::Seconds(info.retry_delay().seconds()) +
         absl::Nanoseconds(info.retry_delay().nanos());
}

TEST_F(AccessTest, AWrongTokenIsUnauthenticatedAndTheServerStaysHealthy) {
  Serve({});
  for (const std::string& token : {std::string(), std::string("wrong-wrong-wrong-wrong"),
                                   std::string("anna-0123456789abcde")}) {
    EXPECT_EQ(CodeOf(token), grpc::StatusCode::UNAUTHENTICATED) << token;
  }
  EXPECT_EQ(CodeOf(kAnna), grpc::StatusCode::OK);
  EXPECT_EQ(server_->engine().loop().load().scheduler.waiting, 0);
}

TEST_F(AccessTest, EveryQuestionNeedsAToken) {
  Serve({});
  const auto ask = [&](const std::string& token) {
    return std::vector<grpc::StatusCode>{
        Unary(token,
              [&](grpc::ClientContext* context) {
                v1::ServerInfo info;
                return server_->control().GetServerInfo(context, {}, &info);
              }),
        Unary(token,
              [&](grpc::ClientContext* context) {
                v1::TokenizeRequest request;
                v1::TokenizeResponse response;
                return server_->inference().Tokenize(context, request, &response);
              }),
        Unary(token, [&](grpc::ClientContext* context) {
          v1::ExplainRequest request;
          request.set_text("why");
          v1::ExplainResponse response;
          return server_->inference().Explain(context, request, &response);
        })};
  };
  for (const grpc::StatusCode code : ask("")) EXPECT_EQ(code, grpc::StatusCode::UNAUTHENTICATED);
  for (const grpc::StatusCode code : ask(kAnna)) EXPECT_EQ(code, grpc::StatusCode::OK);
}

TEST_F(AccessTest, ProbesNeedNone) {
  Serve({});
  EXPECT_EQ(Unary("",
                  [&](grpc::ClientContext* context) {
                    grpc::health::v1::HealthCheckResponse response;
                    return server_->health().Check(context, {}, &response);
                  }),
            grpc::StatusCode::OK);
  const auto engine = vllm::grpc::engine::VllmEngine::NewStub(server_->channel());
  EXPECT_EQ(Unary("",
                  [&](grpc::ClientContext* context) {
                    vllm::grpc::engine::HealthCheckResponse response;
                    return engine->HealthCheck(context, {}, &response);
                  }),
            grpc::StatusCode::OK);
}

TEST_F(AccessTest, WhatConcernsOthersIsForAdmins) {
  Serve({});
  const auto engine = vllm::grpc::engine::VllmEngine::NewStub(server_->channel());
  const auto events = [&](const std::string& token) {
    return Unary(token, [&](grpc::ClientContext* context) {
      const auto reader = engine->SubscribeKvEvents(context, {});
      smg::grpc::common::KvEventBatch batch;
      while (reader->Read(&batch)) {
      }
      return reader->Finish();
    });
  };
  EXPECT_EQ(events(""), grpc::StatusCode::UNAUTHENTICATED);
  EXPECT_EQ(events(kAnna), grpc::StatusCode::PERMISSION_DENIED);
  // This server keeps no events, which is what an admin is told.
  EXPECT_EQ(events(kGate), grpc::StatusCode::UNIMPLEMENTED);

  const auto abort = [&](const std::string& token) {
    return Unary(token, [&](grpc::ClientContext* context) {
      vllm::grpc::engine::AbortResponse response;
      return engine->Abort(context, {}, &response);
    });
  };
  EXPECT_EQ(abort(kAnna), grpc::StatusCode::PERMISSION_DENIED);
  EXPECT_EQ(abort(kGate), grpc::StatusCode::OK);

  const auto drain = [&](const std::string& token) {
    return Unary(token, [&](grpc::ClientContext* context) {
      v1::DrainResponse response;
      return server_->control().Drain(context, {}, &response);
    });
  };
  EXPECT_EQ(drain(kAnna), grpc::StatusCode::PERMISSION_DENIED);
  EXPECT_EQ(CodeOf(kAnna), grpc::StatusCode::OK) << "it drained nevertheless";
  EXPECT_EQ(drain(kGate), grpc::StatusCode::OK);
}

TEST_F(AccessTest, TheGatewaysRpcsTakeTheSameTokens) {
  Serve({});
  const auto engine = vllm::grpc::engine::VllmEngine::NewStub(server_->channel());
  const auto generate = [&](const std::string& token) {
    return Unary(token, [&](grpc::ClientContext* context) {
      vllm::grpc::engine::GenerateRequest request;
      request.set_request_id("one");
      request.mutable_tokenized()->add_input_ids(1);
      request.mutable_sampling_params()->set_max_tokens(1);
      const auto reader = engine->Generate(context, request);
      vllm::grpc::engine::GenerateResponse response;
      while (reader->Read(&response)) {
      }
      return reader->Finish();
    });
  };
  EXPECT_EQ(generate(""), grpc::StatusCode::UNAUTHENTICATED);
  EXPECT_EQ(generate(kAnna), grpc::StatusCode::OK);
}

TEST_F(AccessTest, NobodyPaysForAnother) {
  Serve({});
  v1::GenerateRequest request = PlainRequest("hello", 1);
  request.mutable_scheduling()->set_tenant("bert");
  const Answer refused = Generate(kAnna, request);
  EXPECT_EQ(refused.status.error_code(), grpc::StatusCode::PERMISSION_DENIED);
  EXPECT_THAT(refused.status.error_message(), HasSubstr("this token is for anna, not for bert"));
  EXPECT_TRUE(Generate(kBert, request).status.ok());
  EXPECT_TRUE(Generate(kGate, request).status.ok());
}

// The number of cached prompt tokens is what one could read; without it, the time says the same.
TEST_F(AccessTest, ATenantCannotProbeTheCacheOfAnother) {
  Serve({});
  const v1::GenerateRequest secret = PlainRequest(std::string(400, 's'), 2);
  const auto cached = [&](const std::string& token) {
    const Answer answer = Generate(token, secret);
    EXPECT_TRUE(answer.status.ok()) << answer.status.error_message();
    const v1::Usage& usage = answer.samples.at(0).finished->usage();
    return usage.cached_device_tokens() + usage.cached_host_tokens();
  };
  EXPECT_EQ(cached(kAnna), 0);
  EXPECT_GT(cached(kAnna), 300);
  EXPECT_EQ(cached(kBert), 0) << "bert learns that anna has asked this";
  EXPECT_GT(cached(kBert), 300);
}

TEST_F(AccessTest, ATenantOverItsLimitIsToldWhenToComeBackAndOthersAreServed) {
  Serve({.max_concurrent = 2});
  server_->backend().set_step_time(absl::Milliseconds(1));
  {
    const auto one = Start(kAnna);
    const auto two = Start(kAnna);
    const Answer refused = Generate(kAnna, PlainRequest("hello", 1));
    EXPECT_EQ(refused.status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
    EXPECT_THAT(refused.status.error_message(), HasSubstr("tenant anna has 2 samples under way"));
    EXPECT_EQ(RetryDelayOf(refused.status), absl::Seconds(1));
    EXPECT_EQ(CodeOf(kBert), grpc::StatusCode::OK);
  }
  // The permits go when gRPC is done with the calls, which may be a moment after the client is.
  const absl::Time deadline = absl::Now() + absl::Seconds(20);
  while (CodeOf(kAnna) != grpc::StatusCode::OK && absl::Now() < deadline) std::this_thread::yield();
  EXPECT_EQ(CodeOf(kAnna), grpc::StatusCode::OK);
}

TEST_F(AccessTest, LimitsHoldWithoutTokensToo) {
  Serve({.tokens_per_minute = 100}, /*tokens=*/false);
  v1::GenerateRequest request = PlainRequest(std::string(60, 'x'), 1);
  request.mutable_scheduling()->set_tenant("carl");
  EXPECT_TRUE(Generate("", request).status.ok());
  const Answer refused = Generate("", request);
  EXPECT_EQ(refused.status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_THAT(refused.status.error_message(), HasSubstr("100 tokens per minute"));
  EXPECT_GT(RetryDelayOf(refused.status), absl::Seconds(5));
  request.mutable_scheduling()->set_tenant("dora");
  EXPECT_TRUE(Generate("", request).status.ok());
}

TEST_F(AccessTest, AnOversizedMessageEndsNothingButItself) {
  Serve({});
  const Answer refused = Generate(kAnna, PlainRequest(std::string(65 << 20, 'x'), 1));
  EXPECT_EQ(refused.status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_EQ(CodeOf(kAnna), grpc::StatusCode::OK);
}

}  // namespace
}  // namespace sluice
