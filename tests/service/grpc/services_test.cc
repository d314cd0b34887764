// Everything but Generate: tokenizer rpcs, control, health, reflection, the port, bytes that are no
// requests.
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "grpcpp/generic/generic_stub.h"
#include "gtest/gtest.h"
#include "prometheus/collectable.h"
#include "prometheus/registry.h"
#include "prometheus/text_serializer.h"
#include "tests/service/grpc/test_server.h"
#include "tests/support/status_matchers.h"

namespace sluice {
namespace {

using grpc::health::v1::HealthCheckRequest;
using grpc::health::v1::HealthCheckResponse;
using ::testing::AllOf;
using testing::FakeTokenizer;
using ::testing::HasSubstr;
using testing::PlainRequest;
using testing::StatusIs;
using testing::TestServer;
using testing::TestServerOptions;

// Sends bytes as the request of any method, and half-closes.
struct RawAnswer {
  grpc::Status status;
  std::string messages;  // all of them, one after the other
};
RawAnswer CallRaw(const std::shared_ptr<grpc::Channel>& channel, const std::string& method,
                  const std::string* bytes) {
  grpc::GenericStub stub(channel);
  grpc::ClientContext context;
  grpc::CompletionQueue queue;
  auto call = stub.PrepareCall(&context, method, &queue);
  void* tag = nullptr;
  bool ok = false;
  const auto wait = [&] { return queue.Next(&tag, &ok) && ok; };
  RawAnswer answer;
  call->StartCall(nullptr);
  bool alive = wait();
  if (alive && bytes != nullptr) {
    grpc::Slice slice(*bytes);
    call->Write(grpc::ByteBuffer(&slice, 1), nullptr);
    alive = wait();
  }
  if (alive) {
    call->WritesDone(nullptr);
    wait();
  }
  grpc::ByteBuffer response;
  for (;;) {
    call->Read(&response, nullptr);
    if (!wait()) break;
    std::vector<grpc::Slice> slices;
    if (!response.Dump(&slices).ok()) break;
    for (const grpc::Slice& slice : slices) {
      answer.messages.append(reinterpret_cast<const char*>(slice.begin()), slice.size());
    }
  }
  call->Finish(&answer.status, nullptr);
  wait();
  return answer;
}

TEST(ServicesTest, TokenizeAndDetokenizeAreInverse) {
  TestServer server;
  v1::TokenizeRequest request;
  request.set_text("hello caf\xC3\xA9<sep>");
  request.set_add_special_tokens(true);
  request.set_parse_special_tokens(true);
  v1::TokenizeResponse tokens;
  grpc::ClientContext context;
  ASSERT_TRUE(server.inference().Tokenize(&context, request, &tokens).ok());
  ASSERT_EQ(tokens.ids_size(), tokens.tokens_size());
  EXPECT_EQ(tokens.ids(0), static_cast<uint32_t>(FakeTokenizer::kBos));
  EXPECT_EQ(tokens.tokens(0), "<bos>");
  EXPECT_EQ(tokens.tokens(1), "hello");
  EXPECT_EQ(tokens.ids(tokens.ids_size() - 1), static_cast<uint32_t>(FakeTokenizer::kSeparator));

  v1::DetokenizeRequest back;
  *back.mutable_ids() = tokens.ids();
  back.set_skip_special_tokens(true);
  v1::DetokenizeResponse text;
  grpc::ClientContext back_context;
  ASSERT_TRUE(server.inference().Detokenize(&back_context, back, &text).ok());
  EXPECT_EQ(text.text(), "hello caf\xC3\xA9");
}

TEST(ServicesTest, DetokenizeNamesTheBadId) {
  TestServer server;
  v1::DetokenizeRequest request;
  request.add_ids(1);
  request.add_ids(4'000'000'000U);
  v1::DetokenizeResponse response;
  grpc::ClientContext context;
  const grpc::Status status = server.inference().Detokenize(&context, request, &response);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(status.error_message(), HasSubstr("ids[1]: 4000000000"));
}

TEST(ServicesTest, ServerInfoIsWhatTheServerWasGiven) {
  TestServer server;
  grpc::ClientContext context;
  v1::ServerInfo info;
  ASSERT_TRUE(server.control().GetServerInfo(&context, {}, &info).ok());
  EXPECT_EQ(info.model(), "fake");
  EXPECT_EQ(info.max_model_len(), 4096U);
  EXPECT_GE(info.uptime_s(), 0);
}

TEST(ServicesTest, LoadAddsUpAndShowsWork) {
  TestServer server;
  server.backend().HoldSteps();
  grpc::ClientContext context;
  auto call = server.inference().Generate(&context, PlainRequest("some prompt", 100));
  server.backend().WaitUntilHeld();
  server.backend().AllowSteps(5);
  server.backend().WaitUntilHeld();
  EXPECT_TRUE(server.WaitForLoad([](const v1::Load& load) { return load.running() == 1; }));
  const v1::Load load = server.Load();
  EXPECT_EQ(load.device().capacity(), 2048U);
  EXPECT_EQ(load.device().free() + load.device().referenced() + load.device().cached() +
                load.device().in_transit(),
            load.device().capacity());
  EXPECT_GT(load.device().referenced(), 0U);
  EXPECT_FALSE(load.draining());
  server.backend().ReleaseSteps();
  v1::GenerateResponse response;
  while (call->Read(&response)) {
  }
  EXPECT_TRUE(call->Finish().ok());
}

TEST(ServicesTest, HealthTellsLivenessFromReadiness) {
  TestServer server;
  const auto check = [&](const std::string& service) {
    grpc::ClientContext context;
    HealthCheckRequest request;
    request.set_service(service);
    HealthCheckResponse response;
    const grpc::Status status = server.health().Check(&context, request, &response);
    return std::make_pair(status.error_code(), response.status());
  };
  const auto serving = std::make_pair(grpc::StatusCode::OK, HealthCheckResponse::SERVING);
  EXPECT_EQ(check(""), serving);
  EXPECT_EQ(check("sluice.v1.Inference"), serving);
  EXPECT_EQ(check("sluice.v1.Control"), serving);
  EXPECT_EQ(check("no.such.Service").first, grpc::StatusCode::NOT_FOUND);
  server.server().BeginDrain();
  EXPECT_EQ(check(""), serving);
  EXPECT_EQ(check("sluice.v1.Inference"),
            std::make_pair(grpc::StatusCode::OK, HealthCheckResponse::NOT_SERVING));
}

TEST(ServicesTest, HealthWatchTellsOfTheChange) {
  TestServer server;
  grpc::ClientContext context;
  HealthCheckRequest request;
  request.set_service("sluice.v1.Inference");
  auto watch = server.health().Watch(&context, request);
  HealthCheckResponse response;
  ASSERT_TRUE(watch->Read(&response));
  EXPECT_EQ(response.status(), HealthCheckResponse::SERVING);
  server.server().BeginDrain();
  ASSERT_TRUE(watch->Read(&response));
  EXPECT_EQ(response.status(), HealthCheckResponse::NOT_SERVING);
  server.server().Shutdown(absl::Seconds(10));
  EXPECT_FALSE(watch->Read(&response));
  EXPECT_EQ(watch->Finish().error_code(), grpc::StatusCode::UNAVAILABLE);
}

TEST(ServicesTest, HealthWatchOfAnUnknownServiceStaysOpen) {
  TestServer server;
  grpc::ClientContext context;
  HealthCheckRequest request;
  request.set_service("no.such.Service");
  auto watch = server.health().Watch(&context, request);
  HealthCheckResponse response;
  ASSERT_TRUE(watch->Read(&response));
  EXPECT_EQ(response.status(), HealthCheckResponse::SERVICE_UNKNOWN);
  context.TryCancel();
  EXPECT_FALSE(watch->Read(&response));
  EXPECT_EQ(watch->Finish().error_code(), grpc::StatusCode::CANCELLED);
}

TEST(ServicesTest, SecondServerOnThePortIsRefused) {
  TestServer server;
  GrpcServerOptions options;
  options.port = server.server().port();
  const auto second = GrpcServer::Start(options, server.MakeContext());
  EXPECT_THAT(second, StatusIs(absl::StatusCode::kUnavailable,
                               HasSubstr("127.0.0.1:" + std::to_string(options.port))));
}

TEST(ServicesTest, BadOptionsAreNamed) {
  TestServer server;
  GrpcServerOptions port;
  port.port = 70000;
  EXPECT_THAT(GrpcServer::Start(port, server.MakeContext()),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("port: 70000")));
  GrpcServerOptions key;
  key.tls.certificate = "/nonexistent/cert.pem";
  EXPECT_THAT(GrpcServer::Start(key, server.MakeContext()),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("tls")));
  key.tls.key = "/nonexistent/key.pem";
  EXPECT_THAT(GrpcServer::Start(key, server.MakeContext()),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("/nonexistent/cert.pem")));
}

TEST(ServicesTest, RandomBytesAreInvalidArgumentForEveryMethod) {
  TestServer server;
  const std::string garbage = "\xFF\xFF\xFF\xFF not a message";
  for (const std::string method :
       {"/sluice.v1.Inference/Generate", "/sluice.v1.Inference/Tokenize",
        "/sluice.v1.Inference/Detokenize", "/sluice.v1.Inference/Explain",
        "/sluice.v1.Control/GetServerInfo", "/sluice.v1.Control/GetLoad",
        "/sluice.v1.Control/Drain", "/grpc.health.v1.Health/Check",
        "/grpc.health.v1.Health/Watch"}) {
    SCOPED_TRACE(method);
    const RawAnswer answer = CallRaw(server.channel(), method, &garbage);
    EXPECT_EQ(answer.status.error_code(), grpc::StatusCode::INVALID_ARGUMENT)
        << answer.status.error_message();
  }
  EXPECT_TRUE(server.Generate(PlainRequest("x", 3)).status.ok());
}

TEST(ServicesTest, InvalidUtf8IsInvalidArgumentAndNamesTheField) {
  TestServer server;
  // Written by hand: the client library would refuse to.
  const std::string text = std::string("\x12\x04") +
                           "ab\xFF"
                           "c";
  const RawAnswer prompt = CallRaw(server.channel(), "/sluice.v1.Inference/Generate", &text);
  EXPECT_EQ(prompt.status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(prompt.status.error_message(), HasSubstr("text: byte 2 of 4 is not valid UTF-8"));

  const std::string stopping = std::string("\x2A\x04\x1A\x02") + "a\xC3";
  const RawAnswer stop = CallRaw(server.channel(), "/sluice.v1.Inference/Generate", &stopping);
  EXPECT_EQ(stop.status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(stop.status.error_message(), HasSubstr("stopping.stop: byte 1 of 2"));
}

TEST(ServicesTest, UnknownMethodsAndServicesAreUnimplemented) {
  TestServer server;
  const std::string empty;
  for (const std::string method :
       {"/sluice.v1.Inference/Nothing", "/sluice.v2.Inference/Generate", "/x/y"}) {
    EXPECT_EQ(CallRaw(server.channel(), method, &empty).status.error_code(),
              grpc::StatusCode::UNIMPLEMENTED)
        << method;
  }
}

TEST(ServicesTest, OversizedMessageIsResourceExhausted) {
  TestServerOptions options;
  options.grpc.max_receive_bytes = 1 << 16;
  TestServer server(options);
  v1::GenerateRequest request = PlainRequest(std::string(1 << 17, 'x'), 3);
  EXPECT_EQ(server.Generate(request).status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_TRUE(server.Generate(PlainRequest("x", 3)).status.ok());
}

TEST(ServicesTest, ReflectionListsEveryService) {
  TestServer server;
  const std::string list_services = std::string("\x3A\x00", 2);  // field 7, ""
  const RawAnswer answer =
      CallRaw(server.channel(), "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
              &list_services);
  ASSERT_TRUE(answer.status.ok()) << answer.status.error_message();
  EXPECT_THAT(answer.messages,
              AllOf(HasSubstr("sluice.v1.Inference"), HasSubstr("sluice.v1.Control"),
                    HasSubstr("grpc.health.v1.Health")));
  // Field 4, "the file that has this symbol": its descriptor names its messages.
  const std::string symbol = "grpc.health.v1.Health";
  const std::string file = "\x22" + std::string(1, static_cast<char>(symbol.size())) + symbol;
  EXPECT_THAT(CallRaw(server.channel(),
                      "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", &file)
                  .messages,
              HasSubstr("HealthCheckRequest"));
}

TEST(ServicesTest, CallWithoutAnyMessageIsInvalidArgument) {
  TestServer server;
  const RawAnswer unary = CallRaw(server.channel(), "/sluice.v1.Control/GetLoad", nullptr);
  EXPECT_EQ(unary.status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  const RawAnswer stream = CallRaw(server.channel(), "/sluice.v1.Inference/Generate", nullptr);
  EXPECT_EQ(stream.status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
}

TEST(ServicesTest, EveryRpcIsCounted) {
  TestServer server;
  v1::GenerateRequest bad = PlainRequest("x", 3);
  bad.set_n(99);
  server.Generate(bad);
  server.Generate(PlainRequest("x", 3));
  server.Load();
  const auto text = [&] {
    return prometheus::TextSerializer().Serialize(server.metrics().native()->Collect());
  };
  // A call is counted when gRPC has let go of it, a moment after the client has its status.
  const std::string bad_count =
      "code=\"INVALID_ARGUMENT\",method=\"Generate\",service=\"Inference\"} 1\n";
  const std::string good_count = "code=\"OK\",method=\"Generate\",service=\"Inference\"} 1\n";
  EXPECT_TRUE(server.WaitForLoad([&](const v1::Load&) {
    const std::string now = text();
    return now.find(bad_count) != std::string::npos && now.find(good_count) != std::string::npos;
  })) << text();
}

}  // namespace
}  // namespace sluice
