// Generate through a real server and a real client: what comes out, and how it ends.
#include <string>
#include <thread>
#include <vector>

#include "gmock/gmock.h"
#include "google/rpc/retry_info.pb.h"
#include "gtest/gtest.h"
#include "tests/service/grpc/test_server.h"

namespace sluice {
namespace {

using testing::Answer;
using testing::FakeBackend;
using testing::FakeTokenizer;
using ::testing::HasSubstr;
using testing::PlainRequest;
using ::testing::SizeIs;
using testing::TestServer;
using testing::TestServerOptions;

// The tokens of `text`, then end-of-sequence.
FakeBackend::TokenFunction Say(const std::string& text) {
  const std::vector<TokenId> ids = FakeTokenizer().Encode(text, false, false);
  return [ids](const SequenceWork& work) {
    const auto i = static_cast<size_t>(work.output_index);
    return i < ids.size() ? ids[i] : FakeTokenizer::kEos;
  };
}

std::string LettersOf(uint64_t seed, int64_t count) {
  SamplingParams sampling;
  sampling.seed = seed;
  SequenceWork work;
  work.sampling = &sampling;
  std::string text;
  for (; work.output_index < count; ++work.output_index) {
    text += static_cast<char>(FakeBackend::LetterOf(work));
  }
  return text;
}

TEST(GenerateTest, StreamsTextAndEndsWithOneFinishedMessage) {
  TestServer server;
  v1::GenerateRequest request = PlainRequest("once upon", 20);
  request.mutable_sampling()->set_seed(5);
  request.set_request_id("my-id");
  const Answer answer = server.Generate(request);
  ASSERT_TRUE(answer.status.ok()) << answer.status.error_message();
  ASSERT_THAT(answer.samples, SizeIs(1));
  const Answer::Sample& sample = answer.samples[0];
  EXPECT_EQ(sample.text, LettersOf(5, 20));
  EXPECT_THAT(sample.ids, SizeIs(20));
  EXPECT_TRUE(answer.in_order);
  ASSERT_TRUE(sample.finished.has_value());
  EXPECT_EQ(sample.finished->finish_reason(), v1::FINISH_REASON_LENGTH);
  EXPECT_EQ(sample.finished->matched_case(), v1::Finished::MATCHED_NOT_SET);
  EXPECT_EQ(sample.finished->seed(), 5U);
  EXPECT_EQ(sample.finished->request_id(), "my-id");
  EXPECT_TRUE(server.WaitUntilFree());
}

TEST(GenerateTest, FinishedCarriesUsageAndTimingThatAddUp) {
  TestServer server;
  const Answer first = server.Generate(PlainRequest("the same long prompt, told twice", 8));
  ASSERT_TRUE(first.status.ok());
  const Answer second = server.Generate(PlainRequest("the same long prompt, told twice", 8));
  ASSERT_TRUE(second.status.ok());
  for (const Answer* answer : {&first, &second}) {
    const v1::Usage& usage = answer->samples[0].finished->usage();
    EXPECT_EQ(usage.prompt_tokens(),
              server.tokenizer().Encode("the same long prompt, told twice", true, true).size());
    EXPECT_EQ(usage.cached_device_tokens() + usage.cached_host_tokens() +
                  usage.cached_disk_tokens() + usage.cached_remote_tokens() +
                  usage.computed_tokens(),
              usage.prompt_tokens());
    EXPECT_EQ(usage.output_tokens(), 8U);
    const v1::Timing& timing = answer->samples[0].finished->timing();
    EXPECT_GE(timing.queue_s(), 0);
    EXPECT_GE(timing.ttft_s(), timing.queue_s());
    EXPECT_GE(timing.total_s(), timing.ttft_s());
    EXPECT_EQ(timing.plan(), "resident");
    EXPECT_THAT(timing.plan_reason(), HasSubstr("."));
    EXPECT_TRUE(timing.link_emulated());
  }
  EXPECT_EQ(first.samples[0].finished->usage().cached_device_tokens(), 0U);
  EXPECT_GT(second.samples[0].finished->usage().cached_device_tokens(), 0U);
}

// The milliseconds of the call's initial metadata; -1 without any.
double PredictedMs(const grpc::ClientContext& context) {
  const auto& metadata = context.GetServerInitialMetadata();
  const auto found = metadata.find("sluice-predicted-ttft-ms");
  if (found == metadata.end()) return -1;
  return std::stod(std::string(found->second.begin(), found->second.end()));
}

TEST(GenerateTest, ThePredictedTimeToFirstTokenComesWhileTheClientWaits) {
  TestServer server;
  server.backend().HoldSteps();
  grpc::ClientContext context;
  auto call = server.inference().Generate(&context, PlainRequest("hi", 3));
  call->WaitForInitialMetadata();  // would never end if it came with the first message
  EXPECT_GE(PredictedMs(context), 0);
  server.backend().ReleaseSteps();
  v1::GenerateResponse message;
  while (call->Read(&message)) {
  }
  EXPECT_TRUE(call->Finish().ok());
}

TEST(GenerateTest, APredictionIsThereForEveryNumberOfSamples) {
  TestServer server;
  for (const uint32_t samples : {1U, 2U, 16U}) {
    v1::GenerateRequest request = PlainRequest("hi", 3);
    request.set_n(samples);
    grpc::ClientContext context;
    const Answer answer = server.Read(&context, request);
    ASSERT_TRUE(answer.status.ok()) << answer.status.error_message();
    EXPECT_THAT(answer.samples, SizeIs(samples));
    EXPECT_GE(PredictedMs(context), 0);
    EXPECT_EQ(context.GetServerInitialMetadata().count("sluice-predicted-ttft-ms"), 1U);
  }
}

TEST(GenerateTest, ARefusedRequestHasNoPrediction) {
  TestServerOptions options;
  options.scheduler.device_blocks = Blocks(4);
  TestServer server(options);
  grpc::ClientContext context;
  const Answer answer = server.Read(&context, PlainRequest("hi", 2000));
  EXPECT_EQ(answer.status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(PredictedMs(context), -1);
}

TEST(GenerateTest, SamplesAreIndependentAndEachIsFinishedOnce) {
  TestServer server;
  v1::GenerateRequest request = PlainRequest("hi", 30);
  request.set_n(3);
  request.mutable_sampling()->set_seed(40);
  const Answer answer = server.Generate(request);
  ASSERT_TRUE(answer.status.ok()) << answer.status.error_message();
  ASSERT_THAT(answer.samples, SizeIs(3));
  EXPECT_TRUE(answer.in_order);
  for (uint32_t i = 0; i < 3; ++i) {
    SCOPED_TRACE(i);
    EXPECT_EQ(answer.samples[i].text, LettersOf(40 + i, 30));
    ASSERT_TRUE(answer.samples[i].finished.has_value());
    EXPECT_EQ(answer.samples[i].finished->seed(), 40U + i);
  }
  EXPECT_TRUE(server.WaitUntilFree());
}

TEST(GenerateTest, SeedDrawnByTheServerIsReportedAndRepeats) {
  TestServer server;
  const Answer first = server.Generate(PlainRequest("hi", 20));
  const Answer other = server.Generate(PlainRequest("hi", 20));
  const uint64_t seed = first.samples[0].finished->seed();
  EXPECT_NE(seed, other.samples[0].finished->seed());
  v1::GenerateRequest again = PlainRequest("hi", 20);
  again.mutable_sampling()->set_seed(seed);
  EXPECT_EQ(server.Generate(again).samples[0].text, first.samples[0].text);
  EXPECT_FALSE(first.samples[0].finished->request_id().empty());
}

TEST(GenerateTest, EndOfSequenceStopsWithoutItsText) {
  TestServer server;
  server.backend().set_token_function(Say("good bye"));
  v1::GenerateRequest request;
  request.set_text("x");
  const Answer answer = server.Generate(request);
  ASSERT_TRUE(answer.status.ok()) << answer.status.error_message();
  const Answer::Sample& sample = answer.samples[0];
  EXPECT_EQ(sample.text, "good bye");
  EXPECT_EQ(sample.ids.back(), FakeTokenizer::kEos) << "ids are the tokens drawn";
  EXPECT_EQ(sample.finished->finish_reason(), v1::FINISH_REASON_STOP);
  EXPECT_EQ(sample.finished->matched_stop_token_id(), static_cast<uint32_t>(FakeTokenizer::kEos));

  request.mutable_stopping()->set_include_stop(true);
  EXPECT_EQ(server.Generate(request).samples[0].text, "good bye<eos>");
}

TEST(GenerateTest, StopStringEndsTheSampleAndFreesItsBlocks) {
  TestServer server;
  server.backend().set_token_function(Say("one two three STOP never seen"));
  v1::GenerateRequest request = PlainRequest("x", 4000);
  request.mutable_stopping()->add_stop("nowhere");
  request.mutable_stopping()->add_stop(" STOP");
  const Answer answer = server.Generate(request);
  ASSERT_TRUE(answer.status.ok()) << answer.status.error_message();
  const Answer::Sample& sample = answer.samples[0];
  EXPECT_EQ(sample.text, "one two three");
  EXPECT_EQ(server.tokenizer().Decode(sample.ids, false), "one two three STOP");
  EXPECT_EQ(sample.finished->finish_reason(), v1::FINISH_REASON_STOP);
  EXPECT_EQ(sample.finished->matched_stop(), " STOP");
  EXPECT_EQ(sample.finished->usage().output_tokens(), sample.ids.size());
  EXPECT_TRUE(server.WaitUntilFree());
}

TEST(GenerateTest, LastTokenCanCompleteAStopString) {
  TestServer server;
  server.backend().set_token_function(Say("abSTOP"));
  v1::GenerateRequest request = PlainRequest(
      "x", static_cast<uint32_t>(server.tokenizer().Encode("abSTOP", false, false).size()));
  request.mutable_stopping()->add_stop("STOP");
  const Answer answer = server.Generate(request);
  ASSERT_TRUE(answer.status.ok());
  EXPECT_EQ(answer.samples[0].text, "ab");
  EXPECT_EQ(answer.samples[0].finished->finish_reason(), v1::FINISH_REASON_STOP);
}

TEST(GenerateTest, OneSampleMayStopWhileOthersGoOn) {
  TestServer server;
  server.backend().set_token_function([](const SequenceWork& work) -> TokenId {
    if (work.sampling->seed == 1 && work.output_index == 3) return '!';
    return 'a';
  });
  v1::GenerateRequest request = PlainRequest("x", 50);
  request.set_n(2);
  request.mutable_sampling()->set_seed(0);
  request.mutable_stopping()->add_stop("!");
  const Answer answer = server.Generate(request);
  ASSERT_TRUE(answer.status.ok()) << answer.status.error_message();
  EXPECT_EQ(answer.samples[0].text, std::string(50, 'a'));
  EXPECT_EQ(answer.samples[0].finished->finish_reason(), v1::FINISH_REASON_LENGTH);
  EXPECT_EQ(answer.samples[1].text, "aaa");
  EXPECT_EQ(answer.samples[1].finished->finish_reason(), v1::FINISH_REASON_STOP);
}

TEST(GenerateTest, CharactersAreNeverCut) {
  TestServer server;
  const std::string text = "caf\xC3\xA9 \xE6\x97\xA5\xE6\x97\xA5 \xF0\x9F\x98\x80!";
  server.backend().set_token_function([text](const SequenceWork& work) -> TokenId {
    const auto i = static_cast<size_t>(work.output_index);
    return i < text.size() ? static_cast<unsigned char>(text[i]) : FakeTokenizer::kEos;
  });
  v1::GenerateRequest request;
  request.set_text("x");
  // A cut character would not parse as a proto3 string on the client's side.
  const Answer answer = server.Generate(request);
  ASSERT_TRUE(answer.status.ok()) << answer.status.error_message();
  EXPECT_EQ(answer.samples[0].text, text);
}

TEST(GenerateTest, LogprobsComeWithEveryToken) {
  TestServer server;
  v1::GenerateRequest request = PlainRequest("x", 5);
  request.set_logprobs(3);
  const Answer answer = server.Generate(request);
  ASSERT_TRUE(answer.status.ok());
  ASSERT_THAT(answer.samples[0].logprobs, SizeIs(5));
  for (size_t i = 0; i < 5; ++i) {
    const v1::Logprobs& logprobs = answer.samples[0].logprobs[i];
    EXPECT_FLOAT_EQ(logprobs.logprob(), -0.5F);
    ASSERT_EQ(logprobs.top_size(), 3);
    EXPECT_EQ(logprobs.top(0).token_id(), static_cast<uint32_t>(answer.samples[0].ids[i]));
    EXPECT_EQ(logprobs.top(0).text(), std::string(1, static_cast<char>(answer.samples[0].ids[i])));
    EXPECT_FLOAT_EQ(logprobs.top(2).logprob(), -2.5F);
  }
  request.set_logprobs(0);
  const Answer chosen_only = server.Generate(request);
  ASSERT_THAT(chosen_only.samples[0].logprobs, SizeIs(5));
  EXPECT_EQ(chosen_only.samples[0].logprobs[0].top_size(), 0);
  EXPECT_THAT(server.Generate(PlainRequest("x", 5)).samples[0].logprobs, SizeIs(0));
}

TEST(GenerateTest, TokensDrawnDuringAWriteLeaveAsOneMessage) {
  TestServer server;
  // Large messages fill the flow-control window while nobody reads, so that a write gets stuck.
  constexpr int kTokens = 3000;
  grpc::ClientContext context;
  v1::GenerateRequest request = PlainRequest("x", kTokens);
  request.set_logprobs(20);
  // A client that does not enlarge its window by itself.
  grpc::ChannelArguments small_window;
  small_window.SetInt(GRPC_ARG_HTTP2_BDP_PROBE, 0);
  const auto stub = v1::Inference::NewStub(server.NewChannel(small_window));
  auto reader = stub->Generate(&context, request);
  EXPECT_TRUE(
      server.WaitForLoad([&](const v1::Load&) { return server.backend().steps() >= kTokens; }));
  Answer answer;
  v1::GenerateResponse response;
  while (reader->Read(&response)) answer.Add(response);
  ASSERT_TRUE(reader->Finish().ok());
  EXPECT_THAT(answer.samples[0].ids, SizeIs(kTokens));
  EXPECT_THAT(answer.samples[0].logprobs, SizeIs(kTokens));
  EXPECT_LT(answer.samples[0].outputs, kTokens);
}

TEST(GenerateTest, BadRequestIsInvalidArgumentAndTouchesNothing) {
  TestServer server;
  v1::GenerateRequest request = PlainRequest("x", 5);
  request.mutable_sampling()->set_temperature(-1);
  const Answer answer = server.Generate(request);
  EXPECT_EQ(answer.status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(answer.status.error_message(), HasSubstr("sampling.temperature: -1"));
  EXPECT_EQ(server.backend().steps(), 0);
}

TEST(GenerateTest, RequestThatCanNeverFitIsTheSchedulersInvalidArgument) {
  TestServerOptions options;
  options.scheduler.device_blocks = Blocks(8);  // 128 tokens
  TestServer server(options);
  const Answer answer = server.Generate(PlainRequest("x", 1000));
  EXPECT_EQ(answer.status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(answer.status.error_message(), HasSubstr("block"));
}

TEST(GenerateTest, FullQueueIsResourceExhaustedWithRetryInfo) {
  TestServerOptions options;
  options.scheduler.queue_limit = 2;
  options.scheduler.max_running = 1;
  options.scheduler.max_model_len = Tokens(1 << 20);
  options.scheduler.device_blocks = Blocks(1 << 17);
  TestServer server(options);
  server.backend().set_step_time(absl::Milliseconds(1));
  grpc::ClientContext context;
  auto running = server.inference().Generate(&context, PlainRequest("x", 1'000'000));
  v1::GenerateResponse response;
  ASSERT_TRUE(running->Read(&response));
  v1::GenerateRequest request = PlainRequest("y", 5);
  request.set_n(8);  // two can wait
  const Answer answer = server.Generate(request);
  EXPECT_EQ(answer.status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_THAT(answer.status.error_message(), HasSubstr("queue"));
  google::rpc::Status details;
  ASSERT_TRUE(details.ParseFromString(answer.status.error_details()));
  EXPECT_EQ(details.code(), static_cast<int>(grpc::StatusCode::RESOURCE_EXHAUSTED));
  ASSERT_EQ(details.details_size(), 1);
  google::rpc::RetryInfo retry;
  ASSERT_TRUE(details.details(0).UnpackTo(&retry)) << details.details(0).type_url();
  EXPECT_GT(retry.retry_delay().seconds() * 1'000'000'000 + retry.retry_delay().nanos(), 0);
  context.TryCancel();
  EXPECT_FALSE(running->Finish().ok());
  EXPECT_TRUE(server.WaitUntilFree()) << "the samples that were let in are cancelled";
}

TEST(GenerateTest, BackendFaultIsInternal) {
  TestServer server;
  server.backend().FailNextStep(absl::InternalError("device on fire"));
  const Answer answer = server.Generate(PlainRequest("x", 5));
  EXPECT_EQ(answer.status.error_code(), grpc::StatusCode::INTERNAL);
  EXPECT_THAT(answer.status.error_message(), HasSubstr("device on fire"));
  EXPECT_TRUE(server.Generate(PlainRequest("x", 5)).status.ok()) << "the next one is fine";
}

TEST(GenerateTest, ManyStreamsAtOnceAllGetTheirOwnTokens) {
  TestServerOptions options;
  options.scheduler.device_blocks = Blocks(8192);
  TestServer server(options);
  constexpr int kStreams = 256;
  constexpr int kTokens = 40;
  std::vector<Answer> answers(kStreams);
  std::vector<std::thread> clients;
  for (int i = 0; i < kStreams; ++i) {
    clients.emplace_back([&, i] {
      v1::GenerateRequest request = PlainRequest("client " + std::to_string(i), kTokens);
      request.mutable_sampling()->set_seed(static_cast<uint64_t>(1000 * i));
      answers[static_cast<size_t>(i)] = server.Generate(request);
    });
  }
  for (std::thread& client : clients) client.join();
  for (int i = 0; i < kStreams; ++i) {
    const Answer& answer = answers[static_cast<size_t>(i)];
    ASSERT_TRUE(answer.status.ok()) << i << ": " << answer.status.error_message();
    ASSERT_EQ(answer.samples[0].text, LettersOf(static_cast<uint64_t>(1000 * i), kTokens)) << i;
    ASSERT_TRUE(answer.samples[0].finished.has_value());
  }
  EXPECT_TRUE(server.WaitUntilFree());
}

}  // namespace
}  // namespace sluice
