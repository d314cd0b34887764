// VllmEngine.Generate and Abort through a real server and a real client.
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/service/grpc/test_server.h"
#include "vllm/grpc/engine/vllm_engine.grpc.pb.h"

namespace sluice {
namespace {

namespace pb = vllm::grpc::engine;
using ::testing::ElementsAre;
using ::testing::ElementsAreArray;
using testing::FakeBackend;
using testing::FakeTokenizer;
using ::testing::HasSubstr;
using testing::TestServer;
using testing::TestServerOptions;

using Ids = std::vector<uint32_t>;

Ids IdsOf(const std::string& text) {
  const std::vector<TokenId> ids = FakeTokenizer().Encode(text, false, false);
  return Ids(ids.begin(), ids.end());
}

FakeBackend::TokenFunction Say(const std::string& text) {
  return [ids = IdsOf(text)](const SequenceWork& work) {
    const auto i = static_cast<size_t>(work.output_index);
    return i < ids.size() ? static_cast<TokenId>(ids[i]) : FakeTokenizer::kEos;
  };
}

pb::GenerateRequest Request(const std::string& prompt, uint32_t max_tokens, bool stream) {
  pb::GenerateRequest request;
  for (const uint32_t id : IdsOf(prompt)) request.mutable_tokenized()->add_input_ids(id);
  request.mutable_sampling_params()->set_max_tokens(max_tokens);
  request.mutable_sampling_params()->set_seed(5);
  request.set_stream(stream);
  return request;
}

struct Reply {
  std::vector<pb::GenerateStreamChunk> chunks;
  std::map<uint32_t, pb::GenerateComplete> complete;
  int completes = 0;
  bool in_order = true;  // no chunk after its index is complete
  grpc::Status status;

  Ids streamed(uint32_t index = 0) const {
    Ids ids;
    for (const auto& chunk : chunks) {
      if (chunk.index() == index) {
        ids.insert(ids.end(), chunk.token_ids().begin(), chunk.token_ids().end());
      }
    }
    return ids;
  }
};

class VllmGenerateTest : public ::testing::Test {
 protected:
  void Start(TestServerOptions options = TestServerOptions()) {
    server_ = std::make_unique<TestServer>(std::move(options));
    stub_ = pb::VllmEngine::NewStub(server_->channel());
  }

  Reply Read(grpc::ClientContext* context, const pb::GenerateRequest& request) {
    Reply reply;
    auto reader = stub_->Generate(context, request);
    pb::GenerateResponse response;
    while (reader->Read(&response)) {
      if (response.has_chunk()) {
        if (reply.complete.count(response.chunk().index()) > 0) reply.in_order = false;
        reply.chunks.push_back(response.chunk());
      } else {
        ++reply.completes;
        reply.complete[response.complete().index()] = response.complete();
      }
    }
    reply.status = reader->Finish();
    return reply;
  }
  Reply Generate(const pb::GenerateRequest& request) {
    grpc::ClientContext context;
    return Read(&context, request);
  }
  void Abort(const std::string& id) {
    grpc::ClientContext context;
    pb::AbortRequest request;
    request.add_request_ids("nobody");
    request.add_request_ids(id);
    pb::AbortResponse response;
    EXPECT_TRUE(stub_->Abort(&context, request, &response).ok());
  }

  std::unique_ptr<TestServer> server_;
  std::unique_ptr<pb::VllmEngine::Stub> stub_;
};

TEST_F(VllmGenerateTest, AStreamIsDeltasThenTotals) {
  Start();
  const std::string prompt = "a prompt of some length";
  const size_t prompt_tokens = IdsOf(prompt).size();
  const Reply reply = Generate(Request(prompt, 20, true));
  ASSERT_TRUE(reply.status.ok()) << reply.status.error_message();
  ASSERT_EQ(reply.completes, 1);
  const pb::GenerateComplete& complete = reply.complete.at(0);
  EXPECT_EQ(complete.output_ids_size(), 20);
  EXPECT_THAT(reply.streamed(), ElementsAreArray(complete.output_ids()));
  uint32_t sum = 0;
  for (const auto& chunk : reply.chunks) {
    EXPECT_EQ(chunk.completion_tokens(), static_cast<uint32_t>(chunk.token_ids_size()));
    EXPECT_EQ(chunk.prompt_tokens(), prompt_tokens);
    EXPECT_GT(chunk.token_ids_size(), 0);
    sum += chunk.completion_tokens();
  }
  EXPECT_EQ(sum, 20U);
  EXPECT_EQ(complete.completion_tokens(), 20U);
  EXPECT_EQ(complete.prompt_tokens(), prompt_tokens);
  EXPECT_EQ(complete.finish_reason(), "length");
  EXPECT_EQ(complete.matched_stop_case(), pb::GenerateComplete::MATCHED_STOP_NOT_SET);
  EXPECT_TRUE(reply.in_order);
  EXPECT_TRUE(server_->WaitUntilFree());
}

TEST_F(VllmGenerateTest, CachedTokensAreTotalsInChunksAndAtTheEnd) {
  Start();
  const pb::GenerateRequest request = Request("0123456789abcdef0123456789abcdefxyz", 4, true);
  EXPECT_EQ(Generate(request).complete.at(0).cached_tokens(), 0U);
  const Reply second = Generate(request);
  EXPECT_EQ(second.complete.at(0).cached_tokens(), 32U);
  ASSERT_FALSE(second.chunks.empty());
  for (const auto& chunk : second.chunks) EXPECT_EQ(chunk.cached_tokens(), 32U);
}

TEST_F(VllmGenerateTest, WithoutStreamOnlyTotalsComeAndTheSameOnes) {
  Start();
  const Reply streamed = Generate(Request("once upon", 12, true));
  const Reply whole = Generate(Request("once upon", 12, false));
  ASSERT_TRUE(whole.status.ok()) << whole.status.error_message();
  EXPECT_TRUE(whole.chunks.empty());
  ASSERT_EQ(whole.completes, 1);
  EXPECT_THAT(whole.complete.at(0).output_ids(), ElementsAreArray(streamed.streamed()));
}

TEST_F(VllmGenerateTest, SamplesAreToldApartByIndex) {
  Start();
  for (const bool stream : {true, false}) {
    pb::GenerateRequest request = Request("hi", 6, stream);
    request.mutable_sampling_params()->set_n(3);
    const Reply reply = Generate(request);
    ASSERT_EQ(reply.completes, 3);
    EXPECT_TRUE(reply.in_order);
    for (uint32_t i = 0; i < 3; ++i) {
      EXPECT_EQ(reply.complete.at(i).output_ids_size(), 6);
      if (stream) {
        EXPECT_THAT(reply.streamed(i), ElementsAreArray(reply.complete.at(i).output_ids()));
      }
    }
    EXPECT_NE(reply.complete.at(0).SerializeAsString(), reply.complete.at(1).SerializeAsString());
  }
}

TEST_F(VllmGenerateTest, StopStringsEndTheSampleInTheEngine) {
  Start();
  server_->backend().set_token_function(Say("abc and THE END of it, and much more"));
  for (const bool stream : {true, false}) {
    pb::GenerateRequest request = Request("hi", 1000, stream);
    request.mutable_sampling_params()->add_stop("E END");
    const Reply reply = Generate(request);
    ASSERT_TRUE(reply.status.ok()) << reply.status.error_message();
    const pb::GenerateComplete& complete = reply.complete.at(0);
    EXPECT_EQ(complete.finish_reason(), "stop");
    EXPECT_EQ(complete.matched_stop_str(), "E END");
    // Up to the token that completed the stop string: the client trims the text.
    EXPECT_THAT(complete.output_ids(), ElementsAreArray(IdsOf("abc and THE END")));
    EXPECT_TRUE(server_->WaitUntilFree());
  }
}

TEST_F(VllmGenerateTest, OnlyTheClientsOwnStopIdsAreNamed) {
  Start();
  server_->backend().set_token_function(Say("ab!cd"));
  pb::GenerateRequest request = Request("hi", 100, false);
  EXPECT_EQ(Generate(request).complete.at(0).matched_stop_case(),
            pb::GenerateComplete::MATCHED_STOP_NOT_SET);  // the end of sequence
  request.mutable_sampling_params()->add_stop_token_ids('!');
  const Reply reply = Generate(request);
  EXPECT_EQ(reply.complete.at(0).finish_reason(), "stop");
  EXPECT_EQ(reply.complete.at(0).matched_token_id(), uint32_t{'!'});
  EXPECT_THAT(reply.complete.at(0).output_ids(), ElementsAreArray(IdsOf("ab!")));
  request.mutable_sampling_params()->clear_stop_token_ids();
  request.mutable_sampling_params()->set_ignore_eos(true);
  EXPECT_EQ(Generate(request).complete.at(0).finish_reason(), "length");
}

TEST_F(VllmGenerateTest, LogprobsGoWithTheirTokens) {
  Start();
  for (const bool stream : {true, false}) {
    pb::GenerateRequest request = Request("hi", 5, stream);
    request.mutable_sampling_params()->set_logprobs(2);
    const Reply reply = Generate(request);
    const pb::GenerateComplete& complete = reply.complete.at(0);
    pb::OutputLogProbs all;
    for (const auto& chunk : reply.chunks) {
      EXPECT_EQ(chunk.output_logprobs().token_logprobs_size(), chunk.token_ids_size());
      all.MergeFrom(chunk.output_logprobs());
    }
    if (!stream) all = complete.output_logprobs();
    EXPECT_THAT(all.token_ids(), ElementsAreArray(complete.output_ids()));
    EXPECT_EQ(all.token_logprobs_size(), 5);
    EXPECT_EQ(all.top_logprobs_size(), 5);
    EXPECT_EQ(complete.has_output_logprobs(), !stream);
  }
}

TEST_F(VllmGenerateTest, RefusalsHaveTheCodesAGatewayMaps) {
  Start();
  pb::GenerateRequest constrained = Request("hi", 5, true);
  constrained.mutable_sampling_params()->set_json_object(true);
  Reply reply = Generate(constrained);
  EXPECT_EQ(reply.status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(reply.status.error_message(), HasSubstr("json_object"));

  reply = Generate(Request(std::string(5000, 'x'), 5, true));
  EXPECT_EQ(reply.status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(reply.status.error_message(), HasSubstr("max_model_len is 4096"));

  server_->server().BeginDrain();
  reply = Generate(Request("hi", 5, true));
  EXPECT_EQ(reply.status.error_code(), grpc::StatusCode::UNAVAILABLE);
}

TEST_F(VllmGenerateTest, ALiveIdCannotBeUsedTwiceButAgainAfterwards) {
  Start();
  server_->backend().HoldSteps();
  pb::GenerateRequest request = Request("hi", 5, true);
  request.set_request_id("chat-1");
  grpc::ClientContext context;
  auto first = stub_->Generate(&context, request);
  server_->backend().WaitUntilHeld();
  const Reply second = Generate(request);
  EXPECT_EQ(second.status.error_code(), grpc::StatusCode::ALREADY_EXISTS);
  EXPECT_THAT(second.status.error_message(), HasSubstr("\"chat-1\" is the id of a live request"));
  server_->backend().ReleaseSteps();
  pb::GenerateResponse response;
  while (first->Read(&response)) {
  }
  EXPECT_TRUE(first->Finish().ok());
  const grpc::Status again = Generate(request).status;
  EXPECT_TRUE(again.ok()) << again.error_message();
}

TEST_F(VllmGenerateTest, AbortEndsARequestWithWhatItHas) {
  Start();
  pb::GenerateRequest request = Request("hi", 4000, true);
  request.set_request_id("chat-1");
  request.mutable_sampling_params()->set_n(2);
  request.mutable_sampling_params()->set_ignore_eos(true);
  server_->backend().set_step_time(absl::Milliseconds(2));
  grpc::ClientContext context;
  auto call = stub_->Generate(&context, request);
  pb::GenerateResponse response;
  ASSERT_TRUE(call->Read(&response));
  Abort("chat-1");
  std::map<uint32_t, pb::GenerateComplete> complete;
  std::map<uint32_t, int> streamed;
  do {
    if (response.has_complete()) complete[response.complete().index()] = response.complete();
    if (response.has_chunk())
      streamed[response.chunk().index()] += response.chunk().token_ids_size();
  } while (call->Read(&response));
  EXPECT_TRUE(call->Finish().ok());
  ASSERT_EQ(complete.size(), 2U);
  for (const auto& [index, end] : complete) {
    EXPECT_EQ(end.finish_reason(), "abort");
    EXPECT_EQ(end.output_ids_size(), streamed[index]);
    EXPECT_LT(end.output_ids_size(), 4000);
    EXPECT_EQ(end.prompt_tokens(), 2U);
  }
  EXPECT_TRUE(server_->WaitUntilFree());
  Abort("chat-1");  // again: nothing happens
}

TEST_F(VllmGenerateTest, AClientThatLeavesFreesItsBlocks) {
  Start();
  server_->backend().set_step_time(absl::Milliseconds(2));
  grpc::ClientContext context;
  auto call = stub_->Generate(&context, Request("hi", 4000, false));
  ASSERT_TRUE(server_->WaitUntilUsed());
  context.TryCancel();
  EXPECT_EQ(call->Finish().error_code(), grpc::StatusCode::CANCELLED);
  EXPECT_TRUE(server_->WaitUntilFree());
}

TEST_F(VllmGenerateTest, TheEndIsLoggedWithTheClientsTrace) {
  std::mutex mu;
  std::vector<RequestEnd> ends;
  TestServerOptions options;
  options.on_request_end = [&](const RequestEnd& end) {
    std::lock_guard<std::mutex> lock(mu);
    ends.push_back(end);
  };
  Start(options);
  pb::GenerateRequest request = Request("hi", 3, false);
  request.set_request_id("chat-1");
  grpc::ClientContext context;
  context.AddMetadata("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
  EXPECT_TRUE(Read(&context, request).status.ok());
  grpc::ClientContext bad;
  bad.AddMetadata("traceparent", std::string(5000, '0'));
  EXPECT_TRUE(Read(&bad, request).status.ok());
  server_.reset();  // all calls have ended
  ASSERT_EQ(ends.size(), 2U);
  EXPECT_EQ(std::string(ends[0].service), "VllmEngine");
  EXPECT_EQ(ends[0].request_id, "chat-1");
  EXPECT_EQ(ends[0].code, absl::StatusCode::kOk);
  EXPECT_EQ(ends[0].trace_id, "0af7651916cd43dd8448eb211c80319c");
  EXPECT_EQ(ends[0].parent_id, "b7ad6b7169203331");
  EXPECT_EQ(ends[1].trace_id, "");
}

}  // namespace
}  // namespace sluice
