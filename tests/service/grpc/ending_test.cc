// Calls that do not run to their end: cancelled, too late, too slow, drained.
#include <future>
#include <string>
#include <thread>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/service/grpc/test_server.h"

namespace sluice {
namespace {

using testing::Answer;
using ::testing::HasSubstr;
using testing::PlainRequest;
using testing::TestServer;
using testing::TestServerOptions;

// A server with room for requests that never seem to end.
TestServerOptions Endless() {
  TestServerOptions options;
  options.scheduler.max_model_len = Tokens(1 << 20);
  options.scheduler.device_blocks = Blocks(1 << 18);
  return options;
}

TEST(EndingTest, CancelFreesEverythingTheRequestHolds) {
  TestServer server(Endless());
  server.backend().set_step_time(absl::Milliseconds(1));
  grpc::ClientContext context;
  v1::GenerateRequest request = PlainRequest("x", 1'000'000);
  request.set_n(4);
  auto reader = server.inference().Generate(&context, request);
  v1::GenerateResponse response;
  ASSERT_TRUE(reader->Read(&response));
  EXPECT_TRUE(server.WaitUntilUsed());
  context.TryCancel();
  while (reader->Read(&response)) {
  }
  EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::CANCELLED);
  EXPECT_TRUE(server.WaitUntilFree());
}

TEST(EndingTest, CancelWhileWaitingInTheQueueFreesTheQueue) {
  TestServerOptions options = Endless();
  options.scheduler.max_running = 1;
  TestServer server(options);
  server.backend().HoldSteps();
  grpc::ClientContext first_context;
  auto first = server.inference().Generate(&first_context, PlainRequest("x", 1'000'000));
  server.backend().WaitUntilHeld();
  grpc::ClientContext second_context;
  auto second = server.inference().Generate(&second_context, PlainRequest("y", 10));
  second_context.TryCancel();
  EXPECT_EQ(second->Finish().error_code(), grpc::StatusCode::CANCELLED);
  first_context.TryCancel();
  EXPECT_EQ(first->Finish().error_code(), grpc::StatusCode::CANCELLED);
  server.backend().ReleaseSteps();
  EXPECT_TRUE(server.WaitUntilFree());
}

TEST(EndingTest, DisconnectedClientFreesItsBlocks) {
  TestServer server(Endless());
  server.backend().set_step_time(absl::Milliseconds(1));
  auto channel = server.NewChannel();
  auto stub = v1::Inference::NewStub(channel);
  auto context = std::make_unique<grpc::ClientContext>();
  auto reader = stub->Generate(context.get(), PlainRequest("x", 1'000'000));
  v1::GenerateResponse response;
  ASSERT_TRUE(reader->Read(&response));
  EXPECT_TRUE(server.WaitUntilUsed());
  // Destroying a context ends its call, and the last reference to a channel its connection.
  reader.reset();
  context.reset();
  stub.reset();
  channel.reset();
  EXPECT_TRUE(server.WaitUntilFree());
}

TEST(EndingTest, RpcDeadlineFreesTheRequest) {
  TestServer server(Endless());
  server.backend().set_step_time(absl::Milliseconds(1));
  const Answer answer = server.Generate(PlainRequest("x", 1'000'000), absl::Milliseconds(100));
  EXPECT_EQ(answer.status.error_code(), grpc::StatusCode::DEADLINE_EXCEEDED);
  EXPECT_TRUE(server.WaitUntilFree());
}

TEST(EndingTest, FirstTokenDeadlineEndsARequestThatStillWaits) {
  TestServerOptions options = Endless();
  options.scheduler.max_running = 1;
  options.scheduler.preemption = false;
  TestServer server(options);
  server.backend().set_step_time(absl::Milliseconds(1));
  grpc::ClientContext context;
  auto running = server.inference().Generate(&context, PlainRequest("x", 1'000'000));
  v1::GenerateResponse response;
  ASSERT_TRUE(running->Read(&response));
  v1::GenerateRequest late = PlainRequest("y", 10);
  late.mutable_scheduling()->set_ttft_deadline_ms(50);
  const Answer answer = server.Generate(late);
  EXPECT_EQ(answer.status.error_code(), grpc::StatusCode::DEADLINE_EXCEEDED);
  context.TryCancel();
  EXPECT_EQ(running->Finish().error_code(), grpc::StatusCode::CANCELLED);
}

TEST(EndingTest, SlowReaderIsCancelledAndOthersDoNotNotice) {
  TestServerOptions options = Endless();
  options.stream_capacity = Tokens(64);
  TestServer server(options);
  // Many likely tokens fill the flow-control window soon. Nobody reads this stream.
  const auto channel = server.NewChannel();
  const auto stub = v1::Inference::NewStub(channel);
  grpc::ClientContext context;
  v1::GenerateRequest request = PlainRequest("x", 1'000'000);
  request.set_logprobs(20);
  auto stuck = stub->Generate(&context, request);
  EXPECT_TRUE(server.WaitForLoad([&](const v1::Load&) { return server.backend().steps() > 50; }));
  EXPECT_TRUE(server.WaitUntilFree()) << "cancelled although the client has read nothing";

  EXPECT_TRUE(server.Generate(PlainRequest("y", 30)).status.ok());

  // What was sent before can still be read; then comes the reason.
  v1::GenerateResponse response;
  while (stuck->Read(&response)) {
  }
  const grpc::Status status = stuck->Finish();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::CANCELLED);
  EXPECT_THAT(status.error_message(), HasSubstr("client read too slowly"));
  EXPECT_THAT(status.error_message(), HasSubstr("(limit"));
}

TEST(EndingTest, DrainRefusesNewRequestsAndLetsLiveOnesFinish) {
  TestServer server;
  server.backend().HoldSteps();
  grpc::ClientContext live_context;
  auto live = server.inference().Generate(&live_context, PlainRequest("x", 25));
  server.backend().WaitUntilHeld();

  auto drained = std::async(std::launch::async, [&] {
    grpc::ClientContext context;
    v1::DrainResponse response;
    const grpc::Status status = server.control().Drain(&context, {}, &response);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return response;
  });
  EXPECT_TRUE(server.WaitForLoad([](const v1::Load& load) { return load.draining(); }));
  const Answer refused = server.Generate(PlainRequest("y", 5));
  EXPECT_EQ(refused.status.error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_THAT(refused.status.error_message(), HasSubstr("draining"));

  server.backend().ReleaseSteps();
  Answer answer;
  v1::GenerateResponse response;
  while (live->Read(&response)) answer.Add(response);
  EXPECT_TRUE(live->Finish().ok());
  EXPECT_EQ(answer.samples.at(0).ids.size(), 25U);
  const v1::DrainResponse done = drained.get();
  EXPECT_TRUE(done.drained());
  EXPECT_EQ(done.remaining(), 0U);
}

TEST(EndingTest, DrainReportsWhatIsLeftWhenItsTimeIsUp) {
  TestServer server(Endless());
  server.backend().set_step_time(absl::Milliseconds(1));
  grpc::ClientContext live_context;
  auto live = server.inference().Generate(&live_context, PlainRequest("x", 1'000'000));
  v1::GenerateResponse response;
  ASSERT_TRUE(live->Read(&response));
  grpc::ClientContext context;
  v1::DrainRequest request;
  request.set_timeout_s(0.1);
  v1::DrainResponse done;
  ASSERT_TRUE(server.control().Drain(&context, request, &done).ok());
  EXPECT_FALSE(done.drained());
  EXPECT_EQ(done.remaining(), 1U);
  live_context.TryCancel();
  EXPECT_FALSE(live->Finish().ok());
}

TEST(EndingTest, DrainChecksItsTimeout) {
  TestServer server;
  for (const double timeout : {-1.0, std::numeric_limits<double>::quiet_NaN()}) {
    grpc::ClientContext context;
    v1::DrainRequest request;
    request.set_timeout_s(timeout);
    v1::DrainResponse response;
    const grpc::Status status = server.control().Drain(&context, request, &response);
    EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
    EXPECT_THAT(status.error_message(), HasSubstr("timeout_s"));
  }
  EXPECT_TRUE(server.Generate(PlainRequest("x", 3)).status.ok()) << "a bad drain drains nothing";
}

TEST(EndingTest, ShutdownBreaksOffWhatDoesNotEnd) {
  TestServer server(Endless());
  server.backend().set_step_time(absl::Milliseconds(1));
  grpc::ClientContext live_context;
  auto live = server.inference().Generate(&live_context, PlainRequest("x", 1'000'000));
  v1::GenerateResponse response;
  ASSERT_TRUE(live->Read(&response));
  grpc::ClientContext drain_context;
  v1::DrainResponse done;
  auto drain = std::async(std::launch::async,
                          [&] { return server.control().Drain(&drain_context, {}, &done); });
  EXPECT_TRUE(server.WaitForLoad([](const v1::Load& load) { return load.draining(); }));
  server.server().Shutdown(absl::Milliseconds(50));
  while (live->Read(&response)) {
  }
  EXPECT_FALSE(live->Finish().ok());
  EXPECT_EQ(drain.get().error_code(), grpc::StatusCode::UNAVAILABLE);
  server.server().Shutdown(absl::ZeroDuration());  // again: harmless
}

}  // namespace
}  // namespace sluice
