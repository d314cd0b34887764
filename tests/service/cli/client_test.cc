#include "service/cli/client.h"

#include "google/rpc/retry_info.pb.h"
#include "gtest/gtest.h"
#include "service/cli/client_call.h"
#include "tests/support/status_matchers.h"

namespace sluice {
namespace {

using ::sluice::testing::StatusIs;
using ::testing::HasSubstr;

grpc::Status WithRetry(int64_t seconds, int32_t nanos) {
  google::rpc::RetryInfo info;
  info.mutable_retry_delay()->set_seconds(seconds);
  info.mutable_retry_delay()->set_nanos(nanos);
  google::rpc::Status details;
  details.set_code(grpc::StatusCode::RESOURCE_EXHAUSTED);
  details.add_details()->PackFrom(info);
  return {grpc::StatusCode::RESOURCE_EXHAUSTED, "queue is full", details.SerializeAsString()};
}

TEST(ErrorTextTest, NamesTheCodeAndTheRetryTime) {
  EXPECT_EQ(DescribeError({grpc::StatusCode::INVALID_ARGUMENT, "n: 17 is not in [1, 16]"}),
            "INVALID_ARGUMENT: n: 17 is not in [1, 16]");
  EXPECT_EQ(DescribeError(WithRetry(1, 500000000)),
            "RESOURCE_EXHAUSTED: queue is full (retry in 1.5s)");
}

TEST(ErrorTextTest, DetailsOfAnotherKindAreIgnored) {
  EXPECT_EQ(RetryDelay({grpc::StatusCode::INTERNAL, "x", "not a message"}), std::nullopt);
  EXPECT_EQ(RetryDelay({grpc::StatusCode::INTERNAL, "x"}), std::nullopt);
  EXPECT_EQ(RetryDelay(WithRetry(2, 0)), absl::Seconds(2));
}

TEST(ErrorTextTest, KnowsEveryCode) {
  EXPECT_EQ(CodeName(grpc::StatusCode::OK), "OK");
  EXPECT_EQ(CodeName(grpc::StatusCode::UNAUTHENTICATED), "UNAUTHENTICATED");
  EXPECT_EQ(CodeName(grpc::StatusCode::UNAVAILABLE), "UNAVAILABLE");
  EXPECT_EQ(CodeName(grpc::StatusCode::DO_NOT_USE), "CODE_-1");
}

TEST(ConnectTest, RefusesWhatIsNotAnEndpoint) {
  for (const char* endpoint :
       {"", "localhost", "localhost:", ":1", "localhost:0", "h:70000", "h:x"}) {
    EXPECT_THAT(Client::Connect(endpoint, absl::Seconds(1)),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("is not HOST:PORT")))
        << endpoint;
  }
}

TEST(ConnectTest, SaysWhatToDoWhenNothingListens) {
  // Port 1 is reserved and needs privileges: nobody listens there.
  EXPECT_THAT(Client::Connect("127.0.0.1:1", absl::Milliseconds(200)),
              StatusIs(absl::StatusCode::kUnavailable,
                       HasSubstr("nothing answers at 127.0.0.1:1 (waited 200ms); start a server")));
}

TEST(ResultJsonTest, HasTheFieldsThatScriptsRead) {
  CallResult result;
  SampleResult sample;
  sample.text = "hi";
  sample.ids = {1, 2};
  v1::Finished end;
  end.set_finish_reason(v1::FINISH_REASON_LENGTH);
  end.mutable_usage()->set_prompt_tokens(7);
  end.mutable_usage()->set_loaded_bytes(uint64_t{1} << 40);
  end.mutable_timing()->set_plan("load");
  end.mutable_timing()->set_kappa_ratio(1.5);
  end.set_seed(18446744073709551615U);
  end.set_request_id("r");
  sample.finished = end;
  result.samples.push_back(sample);
  const nlohmann::json json = ResultJson(result);
  EXPECT_EQ(json["output_ids"], nlohmann::json({1, 2}));
  EXPECT_EQ(json["text"], "hi");
  EXPECT_EQ(json["finish_reason"], "length");
  EXPECT_EQ(json["usage"]["prompt_tokens"], 7);
  EXPECT_EQ(json["usage"]["loaded_bytes"], int64_t{1} << 40);
  EXPECT_EQ(json["timing"]["plan"], "load");
  EXPECT_EQ(json["seed"], 18446744073709551615U);
  EXPECT_EQ(json["request_id"], "r");
  EXPECT_FALSE(json.contains("outputs"));
  EXPECT_FALSE(json.contains("logprobs"));
  result.samples.push_back(sample);
  EXPECT_EQ(ResultJson(result)["outputs"].size(), 2U);
}

TEST(ResultJsonTest, EveryFieldOfUsageAndTimingIsThere) {
  const auto expect_all = [](const nlohmann::json& json,
                             const google::protobuf::Descriptor* message) {
    for (int i = 0; i < message->field_count(); ++i) {
      const google::protobuf::FieldDescriptor* field = message->field(i);
      if (field->has_optional_keyword()) continue;
      EXPECT_TRUE(json.contains(field->name())) << field->full_name();
    }
  };
  expect_all(UsageJson(v1::Usage()), v1::Usage::descriptor());
  expect_all(TimingJson(v1::Timing()), v1::Timing::descriptor());
}

}  // namespace
}  // namespace sluice
