// Control.GetActivity and Control.Trace.

#include <memory>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "service/grpc/trace_call.h"
#include "service/trace/engine_trace.h"
#include "tests/service/grpc/test_server.h"

namespace sluice {
namespace {

using ::testing::HasSubstr;
using testing::TestServer;
using testing::TestServerOptions;

v1::GenerateRequest Request(const std::string& tenant) {
  v1::GenerateRequest request = testing::PlainRequest("some prompt", 5);
  request.mutable_scheduling()->set_tenant(tenant);
  return request;
}

// The whole of a Trace rpc: its document, and how it ended.
struct TraceAnswer {
  std::string json;
  grpc::Status status;
};
TraceAnswer ReadTrace(v1::Control::Stub& stub, double seconds) {
  grpc::ClientContext context;
  v1::TraceRequest request;
  request.set_seconds(seconds);
  TraceAnswer answer;
  auto reader = stub.Trace(&context, request);
  v1::TraceChunk chunk;
  while (reader->Read(&chunk)) answer.json += chunk.json();
  answer.status = reader->Finish();
  return answer;
}

TEST(ActivityTest, SaysWhoUsedWhat) {
  TestServer server;
  ASSERT_TRUE(server.Generate(Request("acme")).status.ok());
  ASSERT_TRUE(server.Generate(Request("acme")).status.ok());
  ASSERT_TRUE(server.WaitUntilFree());
  grpc::ClientContext context;
  v1::Activity activity;
  ASSERT_TRUE(server.control().GetActivity(&context, {}, &activity).ok());
  EXPECT_EQ(activity.output_tokens(), 10U);
  EXPECT_EQ(activity.requests_finished(), 2U);
  EXPECT_EQ(activity.first_token().count(), 2U);
  EXPECT_EQ(activity.inter_token().count(), 8U);
  ASSERT_EQ(activity.tenants_size(), 1);
  EXPECT_EQ(activity.tenants(0).tenant(), "acme");
  EXPECT_EQ(activity.tenants(0).finished(), 2U);
  EXPECT_EQ(activity.tenants(0).live(), 0U);
  EXPECT_EQ(activity.decisions().at("admit_resident"), 2U);
  EXPECT_EQ(activity.links_size(), kLinkDirectionCount);
  EXPECT_EQ(activity.tiers(0).tier(), "device");
  EXPECT_EQ(activity.tiers(0).blocks().capacity(), 2048U);
  EXPECT_EQ(activity.power_size(), 0);
}

// A second gRPC server around the same engine, one that keeps a trace.
class TraceRpcTest : public ::testing::Test {
 protected:
  TraceRpcTest() {
    TestServerOptions options;
    options.engine.tracer = &trace_;
    inner_ = std::make_unique<TestServer>(options);
    ServiceContext context = inner_->MakeContext();
    context.trace = &trace_;
    GrpcServerOptions grpc;
    grpc.port = 0;
    auto started = GrpcServer::Start(grpc, std::move(context));
    SLUICE_CHECK(started.ok());
    server_ = *std::move(started);
    channel_ = grpc::CreateChannel(server_->endpoint(), grpc::InsecureChannelCredentials());
    stub_ = v1::Control::NewStub(channel_);
  }

  void AddSteps(int count) {
    StepPlan plan;
    plan.sequences.resize(1);
    StepResult result;
    result.started = result.finished = testing::MonotonicNow();
    for (int i = 0; i < count; ++i) trace_.OnStep(plan, result);
  }

  EngineTrace trace_{100000};
  std::unique_ptr<TestServer> inner_;
  std::unique_ptr<GrpcServer> server_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<v1::Control::Stub> stub_;
};

TEST_F(TraceRpcTest, SendsWhatTheEngineDidInPieces) {
  ASSERT_TRUE(inner_->Generate(Request("acme")).status.ok());
  ASSERT_TRUE(inner_->WaitUntilFree());
  AddSteps(5000);
  const TraceAnswer all = ReadTrace(*stub_, 0);
  ASSERT_TRUE(all.status.ok()) << all.status.error_message();
  EXPECT_THAT(all.json, HasSubstr("\"request 1\""));
  EXPECT_THAT(all.json, HasSubstr("\"plan\":\"resident\""));
  EXPECT_GT(all.json.size(), 500000U);
  EXPECT_EQ(all.json.substr(all.json.size() - 3), "]}\n");
}

TEST_F(TraceRpcTest, ASecondsThatIsNoTimeIsRefused) {
  const TraceAnswer answer = ReadTrace(*stub_, -1);
  EXPECT_EQ(answer.status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(answer.status.error_message(), HasSubstr("seconds: -1"));
}

TEST_F(TraceRpcTest, OnlyAFewAreSentAtOnceAndOneThatEndsMakesRoom) {
  AddSteps(60000);  // far more than a connection buffers
  struct Call {
    grpc::ClientContext context;
    std::unique_ptr<grpc::ClientReader<v1::TraceChunk>> reader;
  };
  std::vector<std::unique_ptr<Call>> calls;
  v1::TraceChunk chunk;
  for (int i = 0; i < TraceCall::kMostAtOnce; ++i) {
    calls.push_back(std::make_unique<Call>());
    calls.back()->reader = stub_->Trace(&calls.back()->context, {});
    ASSERT_TRUE(calls.back()->reader->Read(&chunk));
  }
  const TraceAnswer refused = ReadTrace(*stub_, 0);
  EXPECT_EQ(refused.status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  for (const auto& call : calls) {
    call->context.TryCancel();
    call->reader->Finish();
  }
  // The server hears of it a moment later.
  const absl::Time deadline = absl::Now() + absl::Seconds(30);
  grpc::Status status;
  do {
    status = ReadTrace(*stub_, 0.001).status;
  } while (!status.ok() && absl::Now() < deadline);
  EXPECT_TRUE(status.ok()) << status.error_message();
}

TEST(TraceRpcOffTest, AServerWithoutATraceSaysHowToGetOne) {
  TestServer server;
  const TraceAnswer answer = ReadTrace(server.control(), 0);
  EXPECT_EQ(answer.status.error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_THAT(answer.status.error_message(), HasSubstr("--trace-events above 0"));
}

}  // namespace
}  // namespace sluice
