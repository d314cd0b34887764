#include "service/workload/trace_recorder.h"

#include <thread>

#include "gtest/gtest.h"
#include "service/workload/prefix_cache_model.h"
#include "service/workload/synthetic.h"
#include "service/workload/trace_reader.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"

namespace sluice {
namespace {

using ::sluice::testing::IsOk;
using ::sluice::testing::StatusIs;
using ::sluice::testing::TempDir;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr Hash128 kSalt = {11, 22};
const absl::Time kStart = absl::FromUnixSeconds(1700000000);

std::vector<TokenId> Prompt(uint64_t owner, int64_t tokens) {
  PromptShape shape;
  shape.Append(owner, Tokens(tokens));
  return MakePrompt(shape, 1000);
}

class TraceRecorderTest : public ::testing::Test {
 protected:
  std::unique_ptr<TraceRecorder> Recorder(const std::string& file,
                                          const TraceRecorderOptions& options = {
                                              .block_tokens = Tokens(4), .salt = kSalt}) {
    absl::StatusOr<std::unique_ptr<TraceRecorder>> recorder =
        TraceRecorder::Create(dir_.File(file), options);
    EXPECT_THAT(recorder, IsOk());
    return *std::move(recorder);
  }
  std::vector<TraceRequest> ReadBack(const std::string& file) {
    const absl::StatusOr<Trace> trace = ReadTrace(dir_.File(file), {});
    EXPECT_THAT(trace, IsOk());
    return trace.ok() ? trace->requests : std::vector<TraceRequest>();
  }

  const TempDir dir_;
};

TEST_F(TraceRecorderTest, WhatIsRecordedReadsBack) {
  for (const std::string file : {"t.jsonl", "t.jsonl.gz"}) {
    SCOPED_TRACE(file);
    const std::unique_ptr<TraceRecorder> recorder = Recorder(file);
    const std::vector<TokenId> a = Prompt(1, 10), b = Prompt(1, 8), c = Prompt(2, 10);
    const auto x = recorder->OnArrival({.at = kStart, .prompt = a});
    const auto y = recorder->OnArrival(
        {.at = kStart + absl::Milliseconds(70), .prompt = b, .tenant = 3, .priority = -2});
    const auto z = recorder->OnArrival({.at = kStart + absl::Seconds(2), .prompt = c});
    recorder->OnFinish(z, Tokens(30));  // lines are in order of arrival all the same
    recorder->OnFinish(y, Tokens(20));
    recorder->OnFinish(x, Tokens(10));
    ASSERT_THAT(recorder->Close(), IsOk());
    EXPECT_EQ(recorder->stats().written, 3);

    const std::vector<TraceRequest> r = ReadBack(file);
    ASSERT_EQ(r.size(), 3U);
    EXPECT_EQ(r[0].input(), Tokens(10));
    EXPECT_EQ(r[0].output, Tokens(10));
    EXPECT_EQ(r[1].output, Tokens(20));
    EXPECT_EQ(r[2].output, Tokens(30));
    EXPECT_EQ(r[1].arrival, absl::Milliseconds(70));
    EXPECT_EQ(r[2].arrival, absl::Seconds(2));
    EXPECT_EQ(r[1].tenant, 3);
    EXPECT_EQ(r[1].priority, -2);
    EXPECT_EQ(CommonPrefix(r[0].prompt, r[1].prompt), Tokens(8));
    EXPECT_EQ(CommonPrefix(r[0].prompt, r[2].prompt), Tokens(0));
  }
}

TEST_F(TraceRecorderTest, ARecordingHasTheCacheHitsOfWhatWasSent) {
  const absl::StatusOr<std::vector<TraceRequest>> sent =
      MakeSynthetic({.name = "sharegpt", .requests = 300, .rate = 10, .scale = 10});
  ASSERT_THAT(sent, IsOk());
  const std::unique_ptr<TraceRecorder> recorder = Recorder("t.jsonl.gz");
  for (const TraceRequest& request : *sent) {
    const std::vector<TokenId> prompt = MakePrompt(request.prompt, 50000);
    recorder->OnFinish(recorder->OnArrival({.at = kStart + request.arrival, .prompt = prompt}),
                       request.output);
  }
  ASSERT_THAT(recorder->Close(), IsOk());
  const std::vector<TraceRequest> read = ReadBack("t.jsonl.gz");
  ASSERT_EQ(read.size(), sent->size());
  const auto expected = SamplePrefixCache(*sent, {.block_tokens = Tokens(4)});
  const auto actual = SamplePrefixCache(read, {});
  for (size_t i = 0; i < read.size(); ++i) {
    EXPECT_EQ(actual[i].cached, expected[i].cached) << "request " << i;
    EXPECT_EQ(actual[i].fresh, expected[i].fresh) << "request " << i;
    EXPECT_EQ(actual[i].output, expected[i].output) << "request " << i;
  }
}

TEST_F(TraceRecorderTest, HashesDependOnTheSaltAndOnTheCacheSalt) {
  const std::vector<TokenId> prompt = Prompt(1, 8);
  const auto line = [&](const std::string& file, Hash128 salt, uint64_t cache_salt) {
    const auto recorder = Recorder(file, {.block_tokens = Tokens(4), .salt = salt});
    recorder->OnFinish(
        recorder->OnArrival({.at = kStart, .prompt = prompt, .cache_salt = cache_salt}), Tokens(1));
    EXPECT_THAT(recorder->Close(), IsOk());
    return dir_.Read(file);
  };
  const std::string base = line("a", kSalt, 0);
  EXPECT_EQ(base, line("b", kSalt, 0));
  EXPECT_NE(base, line("c", {12, 22}, 0));
  EXPECT_NE(base, line("d", {11, 23}, 0));
  EXPECT_NE(base, line("e", kSalt, 1));
  EXPECT_THAT(base, AllOf(HasSubstr("\"block_hashes\":["), Not(HasSubstr("token_ids"))));
}

TEST_F(TraceRecorderTest, AnEndlessRequestIsDroppedWhenTheBufferIsFull) {
  const std::unique_ptr<TraceRecorder> recorder =
      Recorder("t.jsonl", {.block_tokens = Tokens(4), .salt = kSalt, .max_pending = 2});
  const std::vector<TokenId> prompt = Prompt(1, 8);
  const auto endless = recorder->OnArrival({.at = kStart, .prompt = prompt});
  const auto second = recorder->OnArrival({.at = kStart + absl::Seconds(1), .prompt = prompt});
  recorder->OnFinish(second, Tokens(2));
  EXPECT_EQ(recorder->stats().written, 0);  // waits for the first
  const auto third = recorder->OnArrival({.at = kStart + absl::Seconds(2), .prompt = prompt});
  recorder->OnFinish(third, Tokens(3));
  recorder->OnFinish(third, Tokens(4));    // a second end is ignored
  recorder->OnFinish(endless, Tokens(5));  // as is one that comes too late
  EXPECT_EQ(recorder->stats().dropped, 1);
  EXPECT_EQ(recorder->stats().written, 2);
  ASSERT_THAT(recorder->Close(), IsOk());
  const std::vector<TraceRequest> r = ReadBack("t.jsonl");
  ASSERT_EQ(r.size(), 2U);
  EXPECT_EQ(r[0].output, Tokens(2));
  EXPECT_EQ(r[1].output, Tokens(3));
}

TEST_F(TraceRecorderTest, RequestsWithoutOutputOrEndAreLeftOut) {
  const std::unique_ptr<TraceRecorder> recorder = Recorder("t.jsonl");
  const std::vector<TokenId> prompt = Prompt(1, 8);
  recorder->OnFinish(recorder->OnArrival({.at = kStart, .prompt = prompt}), Tokens(0));
  recorder->OnArrival({.at = kStart, .prompt = prompt});
  ASSERT_THAT(recorder->Close(), IsOk());
  EXPECT_EQ(recorder->stats().left_out, 1);
  EXPECT_EQ(recorder->stats().dropped, 1);
  EXPECT_TRUE(ReadBack("t.jsonl").empty());
}

TEST_F(TraceRecorderTest, ArrivalsNeverGoBack) {
  const std::unique_ptr<TraceRecorder> recorder = Recorder("t.jsonl");
  const std::vector<TokenId> prompt = Prompt(1, 8);
  for (const int64_t ms : {1000, 1500, 1400, 900, 1600}) {
    recorder->OnFinish(
        recorder->OnArrival({.at = kStart + absl::Milliseconds(ms), .prompt = prompt}), Tokens(1));
  }
  ASSERT_THAT(recorder->Close(), IsOk());
  std::vector<int64_t> ms;
  for (const TraceRequest& r : ReadBack("t.jsonl")) {
    ms.push_back(absl::ToInt64Milliseconds(r.arrival));
  }
  EXPECT_EQ(ms, (std::vector<int64_t>{0, 500, 500, 500, 600}));
}

TEST_F(TraceRecorderTest, ThreadsMayRecordTogether) {
  const std::unique_ptr<TraceRecorder> recorder = Recorder("t.jsonl");
  std::vector<std::thread> threads;
  for (uint64_t t = 0; t < 4; ++t) {
    threads.emplace_back([&recorder, t] {
      const std::vector<TokenId> prompt = Prompt(t, 40);
      for (int i = 0; i < 100; ++i) {
        const absl::Time at = kStart + absl::Milliseconds(i);
        recorder->OnFinish(recorder->OnArrival({.at = at, .prompt = prompt}),
                           Tokens(static_cast<int64_t>(t) + 1));
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  ASSERT_THAT(recorder->Close(), IsOk());
  const std::vector<TraceRequest> r = ReadBack("t.jsonl");
  EXPECT_EQ(r.size(), 400U);
  int64_t outputs = 0;
  for (const TraceRequest& request : r) outputs += request.output.value();
  EXPECT_EQ(outputs, 1000);
}

TEST_F(TraceRecorderTest, SaysWhatItCannotWrite) {
  EXPECT_THAT(
      TraceRecorder::Create(dir_.File("no/such/dir.jsonl"), {}),
      StatusIs(absl::StatusCode::kUnavailable,
               AllOf(HasSubstr("dir.jsonl: cannot be written"), HasSubstr("No such file"))));
  EXPECT_THAT(TraceRecorder::Create(dir_.File("t"), {.block_tokens = Tokens(0)}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("blocks of 0 tokens")));
  EXPECT_THAT(TraceRecorder::Create(dir_.File("t"), {.max_pending = 0}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("at least 1 pending")));
  const auto writer = TraceWriter::Create(dir_.File("closed.jsonl"), Tokens(4));
  ASSERT_THAT(writer, IsOk());
  ASSERT_THAT((*writer)->Close(), IsOk());
  EXPECT_THAT((*writer)->Append({}),
              StatusIs(absl::StatusCode::kUnavailable, HasSubstr("is closed")));
  EXPECT_THAT((*writer)->Close(), IsOk());
}

TEST_F(TraceRecorderTest, AFullDiskIsReported) {
  const absl::StatusOr<std::unique_ptr<TraceRecorder>> recorder =
      TraceRecorder::Create("/dev/full", {.block_tokens = Tokens(4), .salt = kSalt});
  ASSERT_THAT(recorder, IsOk());
  const std::vector<TokenId> prompt = Prompt(1, 8);
  (*recorder)->OnFinish((*recorder)->OnArrival({.at = kStart, .prompt = prompt}), Tokens(1));
  EXPECT_THAT((*recorder)->Close(),
              StatusIs(absl::StatusCode::kUnavailable,
                       AllOf(HasSubstr("/dev/full"), HasSubstr("No space left"))));
}

}  // namespace
}  // namespace sluice
