// VllmEngine but for Generate and events: what a gateway asks before and besides.
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "service/grpc/tokenizer_zip.h"
#include "service/grpc/vllm_facts.h"
#include "tests/service/grpc/test_server.h"
#include "tests/support/temp_dir.h"
#include "vllm/grpc/engine/vllm_engine.grpc.pb.h"

namespace sluice {
namespace {

namespace pb = vllm::grpc::engine;
using ::testing::ElementsAre;
using testing::FakeTokenizer;
using ::testing::HasSubstr;
using testing::PlainRequest;
using testing::TestServer;
using testing::TestServerOptions;

template <class Request, class Response>
Response Ask(TestServer& server,
             grpc::Status (pb::VllmEngine::Stub::*method)(grpc::ClientContext*, const Request&,
                                                          Response*),
             const Request& request = Request()) {
  const auto stub = pb::VllmEngine::NewStub(server.channel());
  grpc::ClientContext context;
  Response response;
  const grpc::Status status = (stub.get()->*method)(&context, request, &response);
  EXPECT_TRUE(status.ok()) << status.error_message();
  return response;
}

TEST(VllmServiceTest, HealthEndsWithTheDrain) {
  TestServer server;
  EXPECT_TRUE(Ask(server, &pb::VllmEngine::Stub::HealthCheck).healthy());
  server.server().BeginDrain();
  const auto draining = Ask(server, &pb::VllmEngine::Stub::HealthCheck);
  EXPECT_FALSE(draining.healthy());
  EXPECT_EQ(draining.message(), "draining");
}

TEST(VllmServiceTest, TheStandardHealthServiceKnowsIt) {
  TestServer server;
  const auto status = [&server](const std::string& service) {
    grpc::ClientContext context;
    grpc::health::v1::HealthCheckRequest request;
    request.set_service(service);
    grpc::health::v1::HealthCheckResponse response;
    EXPECT_TRUE(server.health().Check(&context, request, &response).ok());
    return response.status();
  };
  constexpr char kName[] = "vllm.grpc.engine.VllmEngine";
  EXPECT_EQ(status(kName), grpc::health::v1::HealthCheckResponse::SERVING);
  server.server().BeginDrain();
  EXPECT_EQ(status(kName), grpc::health::v1::HealthCheckResponse::NOT_SERVING);
  EXPECT_EQ(status(""), grpc::health::v1::HealthCheckResponse::SERVING);
}

TEST(VllmServiceTest, ModelInfoIsTheServersOwn) {
  TestServerOptions options;
  options.model_path = "/models/fake";
  options.sampling.temperature = 0.8F;
  options.sampling.top_k = 20;
  TestServer server(options);
  const auto info = Ask(server, &pb::VllmEngine::Stub::GetModelInfo);
  EXPECT_EQ(info.model_path(), "/models/fake");
  EXPECT_EQ(info.tokenizer_path(), "/models/fake");
  EXPECT_EQ(info.served_model_name(), "fake");
  EXPECT_TRUE(info.is_generation());
  EXPECT_FALSE(info.supports_vision());
  EXPECT_EQ(info.max_context_length(), 4096U);
  EXPECT_EQ(info.max_req_input_len(), 4095);
  EXPECT_EQ(info.vocab_size(), static_cast<uint32_t>(FakeTokenizer().vocab_size()));
  EXPECT_THAT(info.eos_token_ids(), ElementsAre(FakeTokenizer::kEos));
  EXPECT_EQ(info.default_sampling_params_json(), R"({"temperature":0.8,"top_k":20})");
  EXPECT_EQ(SamplingDefaultsJson({}), "");
}

TEST(VllmServiceTest, ServerInfoAndLoadsFollowTheRequests) {
  TestServer server;
  server.backend().HoldSteps();
  const auto stub = v1::Inference::NewStub(server.channel());
  grpc::ClientContext context;
  auto call = stub->Generate(&context, PlainRequest(std::string(40, 'x'), 3));
  ASSERT_TRUE(server.WaitUntilUsed());
  const auto info = Ask(server, &pb::VllmEngine::Stub::GetServerInfo);
  EXPECT_EQ(info.active_requests(), 1U);
  EXPECT_FALSE(info.is_paused());
  EXPECT_GE(info.uptime_seconds(), 0);
  EXPECT_EQ(info.data_parallel_size(), 1);
  const auto loads = Ask(server, &pb::VllmEngine::Stub::GetLoads);
  EXPECT_EQ(loads.dp_rank_count(), 1);
  EXPECT_THAT(loads.timestamp(), HasSubstr("T"));
  ASSERT_EQ(loads.loads_size(), 1);
  EXPECT_EQ(loads.loads(0).num_running_reqs(), 1);
  EXPECT_EQ(loads.loads(0).num_waiting_reqs(), 0);
  EXPECT_EQ(loads.loads(0).num_total_reqs(), 1);
  EXPECT_GT(loads.loads(0).token_usage(), 0);
  EXPECT_LE(loads.loads(0).token_usage(), 1);
  server.backend().ReleaseSteps();
  v1::GenerateResponse response;
  while (call->Read(&response)) {
  }
  EXPECT_TRUE(call->Finish().ok());
  ASSERT_TRUE(server.WaitUntilFree());
  // Its blocks are cached, which counts as free.
  EXPECT_EQ(Ask(server, &pb::VllmEngine::Stub::GetLoads).loads(0).token_usage(), 0);
  pb::GetLoadsRequest other;
  other.set_dp_rank(1);
  EXPECT_EQ(Ask(server, &pb::VllmEngine::Stub::GetLoads, other).loads_size(), 0);
}

TEST(VllmServiceTest, LoadsAreInTokensOfTheDevicePool) {
  ServerLoad load;
  load.engine.scheduler.device = {Blocks(100), Blocks(20), Blocks(30), Blocks(45), Blocks(5)};
  load.engine.scheduler.prompt_tokens_cached = {Tokens(10), Tokens(20)};
  load.engine.scheduler.prompt_tokens_computed = Tokens(30);
  load.rates.output_tokens_per_s = 17;
  load.max_running = 4;
  v1::ServerInfo info;
  info.set_block_size(16);
  info.set_version("1.2.3");
  const auto loads = MakeVllmLoads({}, load, info, absl::UnixEpoch());
  EXPECT_EQ(loads.timestamp(), "1970-01-01T00:00:00+00:00");
  EXPECT_EQ(loads.version(), "1.2.3");
  const pb::SchedulerLoad& rank = loads.loads(0);
  EXPECT_EQ(rank.max_total_num_tokens(), 1600);
  EXPECT_EQ(rank.num_used_tokens(), 560);
  EXPECT_DOUBLE_EQ(rank.token_usage(), 0.35);
  EXPECT_DOUBLE_EQ(rank.cache_hit_rate(), 0.5);
  EXPECT_DOUBLE_EQ(rank.gen_throughput(), 17);
  EXPECT_EQ(rank.max_running_requests(), 4);
}

TEST(VllmServiceTest, TheTokenizerComesInPiecesWithADigestOnTheLast) {
  const testing::TempDir dir;
  const std::string json(150'000, 'x');
  dir.Write("tokenizer.json", json);
  TestServerOptions options;
  options.model_path = dir.path();
  TestServer server(options);
  for (int round = 0; round < 2; ++round) {
    const auto stub = pb::VllmEngine::NewStub(server.channel());
    grpc::ClientContext context;
    auto reader = stub->GetTokenizer(&context, {});
    std::string zip;
    std::vector<std::string> digests;
    smg::grpc::common::GetTokenizerChunk chunk;
    while (reader->Read(&chunk)) {
      EXPECT_LE(chunk.data().size(), 65536U);
      zip += chunk.data();
      digests.push_back(chunk.sha256());
    }
    EXPECT_TRUE(reader->Finish().ok());
    EXPECT_EQ(zip, MakeStoredZip({{"tokenizer.json", json}}));
    EXPECT_THAT(digests, ElementsAre("", "", Sha256Hex(zip)));
  }
}

TEST(VllmServiceTest, AModelWithoutTokenizerFilesSaysSo) {
  const testing::TempDir dir;
  TestServerOptions options;
  options.model_path = dir.path();
  TestServer server(options);
  const auto stub = pb::VllmEngine::NewStub(server.channel());
  grpc::ClientContext context;
  auto reader = stub->GetTokenizer(&context, {});
  smg::grpc::common::GetTokenizerChunk chunk;
  EXPECT_FALSE(reader->Read(&chunk));
  EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::FAILED_PRECONDITION);
}

TEST(VllmServiceTest, ThereAreNoEmbeddings) {
  TestServer server;
  const auto stub = pb::VllmEngine::NewStub(server.channel());
  grpc::ClientContext context;
  pb::EmbedResponse response;
  EXPECT_EQ(stub->Embed(&context, {}, &response).error_code(), grpc::StatusCode::UNIMPLEMENTED);
}

}  // namespace
}  // namespace sluice
