// The small parts: bytes to messages, rates, reports, the pump.
#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "gmock/gmock.h"
#include "google/rpc/retry_info.pb.h"
#include "gtest/gtest.h"
#include "service/grpc/finish_report.h"
#include "service/grpc/load_window.h"
#include "service/grpc/sample_output.h"
#include "service/grpc/stream_pump.h"
#include "service/grpc/wire.h"
#include "tests/service/grpc/fake_tokenizer.h"
#include "tests/support/status_matchers.h"

namespace sluice {
namespace {

using testing::FakeTokenizer;
using ::testing::HasSubstr;
using testing::IsOk;
using testing::StatusIs;

TEST(WireTest, MessagesSurviveTheTrip) {
  v1::GenerateRequest in;
  in.set_text("h\xC3\xA9llo");
  in.mutable_stopping()->add_stop("x");
  v1::GenerateRequest out;
  ASSERT_THAT(ParseMessage(SerializeMessage(in), &out), IsOk());
  EXPECT_EQ(out.SerializeAsString(), in.SerializeAsString());
}

TEST(WireTest, EmptyMessageHasNoBytes) {
  EXPECT_EQ(SerializeMessage(v1::GenerateRequest()).Length(), 0U);
}

TEST(WireTest, BytesThatDoNotParseAreInvalidArgument) {
  v1::GenerateRequest out;
  EXPECT_THAT(
      ParseMessage(std::string("\x12\x7F"
                               "ab"),
                   &out),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("4 bytes are not a sluice.v1")));
  EXPECT_THAT(ParseMessage(std::string("\x12\x02"
                                       "a\x80"),
                           &out),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("text: byte 1 of 2")));
  EXPECT_THAT(ParseMessage(grpc::ByteBuffer(), &out),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("no readable message")));
}

TEST(WireTest, RetryInfoOnlyWhereRetryingHelps) {
  const grpc::Status full =
      ToGrpcStatus(absl::ResourceExhaustedError("full"), absl::Milliseconds(1500));
  google::rpc::Status details;
  ASSERT_TRUE(details.ParseFromString(full.error_details()));
  google::rpc::RetryInfo retry;
  ASSERT_TRUE(details.details(0).UnpackTo(&retry));
  EXPECT_EQ(details.details(0).type_url(), "type.googleapis.com/google.rpc.RetryInfo");
  EXPECT_EQ(retry.retry_delay().seconds(), 1);
  EXPECT_EQ(retry.retry_delay().nanos(), 500'000'000);
  const grpc::Status bad = ToGrpcStatus(absl::InvalidArgumentError("bad"), absl::Seconds(1));
  EXPECT_EQ(bad.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(bad.error_details(), "");
}

ActivitySnapshot Activity(int seconds, int busy) {
  ActivitySnapshot activity;
  activity.compute_only = absl::Seconds(busy);
  activity.idle = absl::Seconds(seconds - busy);
  activity.links[0].busy = absl::Seconds(busy) / 2;
  return activity;
}

TEST(LoadWindowTest, RatesAreOverTheWindowNotSinceStart) {
  LoadWindow window(absl::Seconds(2));
  EXPECT_EQ(window.Rates().device_busy, 0);
  window.Add(Activity(0, 0), Tokens(0));
  EXPECT_EQ(window.Rates().device_busy, 0);
  for (int t = 1; t <= 10; ++t) window.Add(Activity(t, 0), Tokens(0));  // idle
  window.Add(Activity(11, 1), Tokens(30));
  EXPECT_DOUBLE_EQ(window.Rates().device_busy, 0.5);
  EXPECT_DOUBLE_EQ(window.Rates().output_tokens_per_s, 15);
  window.Add(Activity(12, 2), Tokens(60));
  EXPECT_DOUBLE_EQ(window.Rates().device_busy, 1);
  EXPECT_DOUBLE_EQ(window.Rates().link_to_device_busy, 0.5);
  EXPECT_DOUBLE_EQ(window.Rates().link_to_host_busy, 0);
}

TEST(LoadWindowTest, TheSameTotalsAgainSayNothing) {
  LoadWindow window(absl::Seconds(1));
  window.Add(Activity(1, 0), Tokens(0));
  window.Add(Activity(2, 1), Tokens(5));
  window.Add(Activity(2, 1), Tokens(5));
  EXPECT_DOUBLE_EQ(window.Rates().device_busy, 1);
}

RequestStats Stats() {
  RequestStats stats;
  stats.arrival = absl::FromUnixSeconds(100);
  stats.admitted = absl::FromUnixSeconds(101);
  stats.first_token = absl::FromUnixSeconds(103);
  stats.finished = absl::FromUnixSeconds(107);
  stats.prompt = Tokens(100);
  stats.cached = {Tokens(30), Tokens(50), Tokens(0), Tokens(0)};
  stats.computed = Tokens(20);
  stats.loaded = MiB(3);
  stats.load_busy = absl::Milliseconds(30);
  stats.load_exposed = absl::Milliseconds(10);
  stats.plan = RequestPlan::kLoad;
  return stats;
}

TEST(FinishReportTest, TimesAndTokensAreThoseOfTheRequest) {
  const v1::Usage usage = MakeUsage(Stats(), 9);
  EXPECT_EQ(usage.prompt_tokens(), 100U);
  EXPECT_EQ(usage.cached_device_tokens(), 30U);
  EXPECT_EQ(usage.cached_host_tokens(), 50U);
  EXPECT_EQ(usage.computed_tokens(), 20U);
  EXPECT_EQ(usage.output_tokens(), 9U);
  EXPECT_EQ(usage.loaded_bytes(), 3U << 20);
  const v1::Timing timing = MakeTiming(Stats(), false);
  EXPECT_DOUBLE_EQ(timing.queue_s(), 1);
  EXPECT_DOUBLE_EQ(timing.ttft_s(), 3);
  EXPECT_DOUBLE_EQ(timing.total_s(), 7);
  EXPECT_DOUBLE_EQ(timing.load_exposed_s(), 0.01);
  EXPECT_DOUBLE_EQ(timing.load_overlapped_s(), 0.02);
  EXPECT_DOUBLE_EQ(timing.kappa_ratio(), 2.5);
  EXPECT_EQ(timing.plan(), "load");
  EXPECT_THAT(timing.plan_reason(), HasSubstr("50 of 100 prompt tokens"));
  EXPECT_FALSE(timing.has_energy_j());
  EXPECT_FALSE(timing.link_emulated());
}

TEST(FinishReportTest, WhatNeverHappenedTookNoTime) {
  RequestStats stats = Stats();
  stats.admitted = absl::InfiniteFuture();
  stats.first_token = absl::InfiniteFuture();
  stats.load_exposed = absl::Seconds(1);  // more than the link was busy
  const v1::Timing timing = MakeTiming(stats, true);
  EXPECT_EQ(timing.queue_s(), 0);
  EXPECT_EQ(timing.ttft_s(), 0);
  EXPECT_EQ(timing.load_overlapped_s(), 0);
  EXPECT_TRUE(timing.link_emulated());
}

Event Token(TokenId id) {
  Event event;
  event.token.emplace();
  event.token->token = id;
  return event;
}

Event End(FinishReason reason, absl::Status status) {
  Event event;
  event.finish = Event::Finish();
  event.finish->reason = reason;
  event.finish->status = std::move(status);
  return event;
}

TEST(SampleOutputTest, CancelAfterAStopStringIsAStop) {
  const FakeTokenizer tokenizer;
  ParsedRequest parsed;
  parsed.stops = std::make_shared<const StopMatcher>(std::vector<std::string>{"!!"});
  parsed.samples.resize(3);
  SampleOutput sample(2, tokenizer, parsed, SamplingParams());
  EXPECT_FALSE(sample.Apply(Token('a')));
  EXPECT_FALSE(sample.Apply(Token('!')));
  EXPECT_TRUE(sample.Apply(Token('!'))) << "the engine is to be told, once";
  EXPECT_FALSE(sample.Apply(Token('b')));
  EXPECT_FALSE(sample.ended());
  EXPECT_FALSE(sample.Apply(End(FinishReason::kCancelled, absl::CancelledError("cancelled"))));
  EXPECT_THAT(sample.error(), IsOk());
  const v1::Output output = sample.TakeOutput();
  EXPECT_EQ(output.text(), "a");
  EXPECT_EQ(output.index(), 2U);
  EXPECT_EQ(output.token_ids_size(), 3);
  EXPECT_FALSE(sample.has_output());
  const v1::Finished finished = sample.MakeFinished("id", false);
  EXPECT_EQ(finished.finish_reason(), v1::FINISH_REASON_STOP);
  EXPECT_EQ(finished.matched_stop(), "!!");
  EXPECT_EQ(finished.usage().output_tokens(), 3U);
}

TEST(SampleOutputTest, FailureIsTheEnginesStatus) {
  const FakeTokenizer tokenizer;
  ParsedRequest parsed;
  parsed.stops = std::make_shared<const StopMatcher>(std::vector<std::string>{});
  parsed.samples.resize(1);
  SampleOutput sample(0, tokenizer, parsed, SamplingParams());
  EXPECT_THAT(sample.error(), IsOk());
  sample.Apply(End(FinishReason::kDeadline, absl::DeadlineExceededError("late")));
  EXPECT_THAT(sample.error(), StatusIs(absl::StatusCode::kDeadlineExceeded, "late"));
}

// Counts its calls and can hold them up.
class CountingClient : public StreamPump::Client {
 public:
  void OnReady() override {
    std::unique_lock<std::mutex> lock(mu_);
    ++calls_;
    changed_.notify_all();
    changed_.wait(lock, [this] { return !held_; });
  }
  void WaitForCalls(int n) {
    std::unique_lock<std::mutex> lock(mu_);
    changed_.wait(lock, [&] { return calls_ >= n; });
  }
  void Hold(bool held) {
    std::lock_guard<std::mutex> lock(mu_);
    held_ = held;
    changed_.notify_all();
  }
  int calls() {
    std::lock_guard<std::mutex> lock(mu_);
    return calls_;
  }

 private:
  std::mutex mu_;
  std::condition_variable changed_;
  int calls_ = 0;
  bool held_ = false;
};

TEST(StreamPumpTest, WhatComesDuringACallLeadsToAnother) {
  StreamPump pump(1);
  const auto client = std::make_shared<CountingClient>();
  client->Hold(true);
  pump.Enqueue(client);
  client->WaitForCalls(1);
  pump.Enqueue(client);
  pump.Enqueue(client);  // already waiting: one call for both
  client->Hold(false);
  client->WaitForCalls(2);
  const auto last = std::make_shared<CountingClient>();
  pump.Enqueue(last);
  last->WaitForCalls(1);
  EXPECT_EQ(client->calls(), 2);
}

TEST(StreamPumpTest, EnqueueAfterStopIsIgnored) {
  StreamPump pump(3);
  pump.Stop();
  const auto client = std::make_shared<CountingClient>();
  pump.Enqueue(client);
  EXPECT_EQ(client->calls(), 0);
  pump.Stop();
}

TEST(StreamPumpTest, ManyThreadsLoseNoWakeUp) {
  StreamPump pump(3);
  std::vector<std::shared_ptr<CountingClient>> clients;
  for (int i = 0; i < 50; ++i) clients.push_back(std::make_shared<CountingClient>());
  std::vector<std::thread> writers;
  for (int t = 0; t < 4; ++t) {
    writers.emplace_back([&] {
      for (int i = 0; i < 1000; ++i) pump.Enqueue(clients[static_cast<size_t>(i) % clients.size()]);
    });
  }
  for (std::thread& writer : writers) writer.join();
  for (const auto& client : clients) {
    client->WaitForCalls(1);
    const int before = client->calls();
    pump.Enqueue(client);
    client->WaitForCalls(before + 1);
  }
}

}  // namespace
}  // namespace sluice
