#include "service/cli/bench_trace.h"

#include <grpcpp/server.h>
#include <grpcpp/server_builder.h>

#include <map>
#include <mutex>
#include <set>
#include <sstream>

#include "gtest/gtest.h"
#include "service/cli/app.h"
#include "service/cli/bench_command.h"
#include "sluice/v1/control.grpc.pb.h"
#include "sluice/v1/inference.grpc.pb.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"

namespace sluice {
namespace {

using ::sluice::testing::IsOk;
using ::sluice::testing::StatusIs;
using ::sluice::testing::TempDir;
using ::testing::HasSubstr;

v1::ServerInfo TestServerInfo() {
  v1::ServerInfo info;
  info.set_vocab_size(1000);
  info.set_max_model_len(512);
  info.set_bos_token_id(0);
  info.add_eos_token_ids(1);
  return info;
}

TraceRequest Request(int64_t input, int64_t output) {
  TraceRequest request;
  request.prompt.Append(7, Tokens(input));
  request.output = Tokens(output);
  return request;
}

std::vector<uint32_t> Ids(const v1::GenerateRequest& request) {
  return {request.token_ids().ids().begin(), request.token_ids().ids().end()};
}

TEST(TraceWorkloadTest, RequestsHaveTheTracesTokensAndLengths) {
  std::vector<TraceRequest> trace = {Request(20, 5), Request(30, 6)};
  trace[1].prompt.Append(8, Tokens(10));
  trace[1].tenant = 2;
  trace[1].priority = 3;
  const auto workload = TraceWorkload::Create(trace, {}, TestServerInfo());
  ASSERT_THAT(workload, IsOk());
  const v1::GenerateRequest a = workload->Request(0), b = workload->Request(1);
  ASSERT_EQ(Ids(a).size(), 20U);
  ASSERT_EQ(Ids(b).size(), 40U);
  const std::vector<uint32_t> x = Ids(a), y = Ids(b);
  EXPECT_TRUE(std::equal(x.begin(), x.end(), y.begin()));
  for (const uint32_t id : y) {
    EXPECT_GE(id, 2U);  // no special token
    EXPECT_LT(id, 1000U);
  }
  EXPECT_EQ(a.stopping().max_tokens(), 5U);
  EXPECT_TRUE(a.stopping().ignore_eos());
  EXPECT_EQ(a.scheduling().tenant(), "");
  EXPECT_EQ(b.scheduling().tenant(), "tenant-2");
  EXPECT_EQ(b.scheduling().priority(), 3);
}

TEST(TraceWorkloadTest, OutputsAreCutToTheContextAndLongPromptsRefused) {
  const auto fits = TraceWorkload::Create({Request(500, 100)}, {}, TestServerInfo());
  ASSERT_THAT(fits, IsOk());
  EXPECT_EQ(fits->Request(0).stopping().max_tokens(), 12U);
  EXPECT_THAT(
      TraceWorkload::Create({Request(5, 5), Request(512, 1), Request(2000, 1)}, {},
                            TestServerInfo()),
      StatusIs(absl::StatusCode::kInvalidArgument,
               HasSubstr("2 of 3 prompts, up to 2000 tokens, do not fit into the server's context "
                         "of 512 tokens with one to generate; use --max-input 511 or --scale 4")));
}

TEST(BenchTraceFlagsTest, SayWhatTheyNeedAndWhatTheyExclude) {
  const auto error = [](const std::vector<std::string>& args) {
    BenchCommand bench;
    FlagSet flags;
    bench.DefineFlags(flags);
    const absl::Status status = ParseCommandLine(bench, flags, args);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    return std::string(status.message());
  };
  EXPECT_THAT(error({"--workload", "sharegtp"}), HasSubstr("did you mean sharegpt?"));
  EXPECT_THAT(error({"--workload", "finqa", "--replay", "f"}), HasSubstr("exclude each other"));
  EXPECT_THAT(error({"--replay", "f", "--rate", "3"}), HasSubstr("exclude each other"));
  EXPECT_THAT(error({"--workload", "finqa", "--prompt-tokens", "3"}),
              HasSubstr("exclude each other"));
  EXPECT_THAT(error({"--rate-scale", "3"}), HasSubstr("--rate-scale needs --replay"));
  EXPECT_THAT(error({"--keep", "0.5"}), HasSubstr("--keep needs --replay"));
  EXPECT_THAT(error({"--tenants", "3"}), HasSubstr("--tenants needs --workload"));
  EXPECT_THAT(error({"--scale", "3"}), HasSubstr("--scale needs --workload or --replay"));
  EXPECT_THAT(error({"--max-input", "3"}), HasSubstr("--max-input needs --workload or"));
}

TEST(LoadBenchTraceTest, SaysWhyNoRequestIsLeft) {
  const TempDir dir;
  BenchTraceOptions options;
  options.replay = dir.Write("t.jsonl", R"({"arrival_ms":0,"input_tokens":9,"output_tokens":1})");
  options.max_input = Tokens(8);
  EXPECT_THAT(LoadBenchTrace(options, 10, std::nullopt, 1),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("no request is left: 1 are longer than --max-input")));
}

// Answers every request at once with as many tokens as it asks for, and keeps it.
class RecordingServer : public v1::Inference::Service, public v1::Control::Service {
 public:
  RecordingServer() {
    grpc::ServerBuilder builder;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port_);
    builder.RegisterService(static_cast<v1::Inference::Service*>(this));
    builder.RegisterService(static_cast<v1::Control::Service*>(this));
    server_ = builder.BuildAndStart();
  }

  std::string endpoint() const { return "127.0.0.1:" + std::to_string(port_); }

  // What came, by request id.
  std::map<std::string, v1::GenerateRequest> requests() {
    const std::lock_guard<std::mutex> lock(mu_);
    return requests_;
  }

  grpc::Status Generate(grpc::ServerContext*, const v1::GenerateRequest* request,
                        grpc::ServerWriter<v1::GenerateResponse>* writer) override {
    {
      const std::lock_guard<std::mutex> lock(mu_);
      requests_[request->request_id()] = *request;
    }
    v1::GenerateResponse output;
    for (uint32_t i = 0; i < request->stopping().max_tokens(); ++i) {
      output.mutable_output()->add_token_ids(i);
    }
    writer->Write(output);
    v1::GenerateResponse end;
    v1::Usage* usage = end.mutable_finished()->mutable_usage();
    usage->set_prompt_tokens(static_cast<uint32_t>(request->token_ids().ids_size()));
    usage->set_output_tokens(request->stopping().max_tokens());
    writer->Write(end);
    return grpc::Status::OK;
  }

  grpc::Status GetServerInfo(grpc::ServerContext*, const v1::GetServerInfoRequest*,
                             v1::ServerInfo* info) override {
    *info = TestServerInfo();
    return grpc::Status::OK;
  }

 private:
  int port_ = 0;
  std::mutex mu_;
  std::map<std::string, v1::GenerateRequest> requests_;  // guarded by mu_
  std::unique_ptr<grpc::Server> server_;                 // last: stops before the rest goes
};

nlohmann::json RunBench(const RecordingServer& server, std::vector<std::string> args) {
  args.insert(args.begin(), {"bench", "--endpoint", server.endpoint(), "--json", "-"});
  std::istringstream in;
  std::ostringstream out, err;
  EXPECT_EQ(RunCli(args, CliIo{in, out, err}), 0) << err.str();
  return nlohmann::json::parse(out.str(), nullptr, false);
}

constexpr char kTrace[] =
    R"({"arrival_ms":9000,"input_tokens":100,"output_tokens":7,"block_tokens":32,"block_hashes":[1,2,3,4]}
{"arrival_ms":9100,"input_tokens":900,"output_tokens":7,"block_tokens":32,"block_hashes":[1,2]}
{"arrival_ms":9200,"input_tokens":70,"output_tokens":3,"block_tokens":32,"block_hashes":[1,2,9]}
{"arrival_ms":9300,"input_tokens":40,"output_tokens":2,"block_tokens":32,"block_hashes":[5,6]}
)";

TEST(BenchReplayTest, SendsTheTraceAtItsTimes) {
  const TempDir dir;
  RecordingServer server;
  const nlohmann::json json = RunBench(server, {"--replay", dir.Write("t.jsonl", kTrace),
                                                "--max-input", "500", "--rate-scale", "2"});
  const auto requests = server.requests();
  ASSERT_EQ(requests.size(), 3U);
  const std::vector<uint32_t> a = Ids(requests.at("bench-0")), b = Ids(requests.at("bench-1"));
  EXPECT_EQ(a.size(), 100U);
  EXPECT_EQ(b.size(), 70U);
  EXPECT_TRUE(std::equal(a.begin(), a.begin() + 64, b.begin()));
  EXPECT_FALSE(std::equal(b.begin() + 64, b.end(), a.begin() + 64));
  EXPECT_EQ(requests.at("bench-2").stopping().max_tokens(), 2U);
  EXPECT_EQ(json["results"]["ok"], 3);
  EXPECT_EQ(json["results"]["prompt_tokens"], 210);
  EXPECT_EQ(json["results"]["output_tokens"], 12);
  // The last one comes 300 ms / 2 after the first; the first at once.
  EXPECT_GE(json["results"]["duration_s"], 0.15);
  EXPECT_LT(json["results"]["duration_s"], 5.0);
}

TEST(BenchReplayTest, TheWarmUpIsTheBeginningOfTheTrace) {
  const TempDir dir;
  RecordingServer server;
  const nlohmann::json json =
      RunBench(server, {"--replay", dir.Write("t.jsonl", kTrace), "--max-input", "500", "--warmup",
                        "1", "--num-requests", "1"});
  EXPECT_EQ(server.requests().size(), 2U);
  EXPECT_EQ(json["results"]["ok"], 1);
  EXPECT_EQ(json["results"]["prompt_tokens"], 70);
}

TEST(BenchWorkloadTest, SendsASyntheticWorkloadOpenAndClosed) {
  for (const std::vector<std::string>& load :
       {std::vector<std::string>{"--rate", "2000"}, {"--concurrency", "4"}}) {
    RecordingServer server;
    std::vector<std::string> args = {"--workload", "sharegpt", "--num-requests", "60",
                                     "--scale",    "100",      "--max-input",    "400",
                                     "--tenants",  "2",        "--seed",         "3"};
    args.insert(args.end(), load.begin(), load.end());
    const nlohmann::json json = RunBench(server, args);
    EXPECT_EQ(json["results"]["ok"], 60);
    std::set<std::string> tenants;
    for (const auto& [id, request] : server.requests()) {
      tenants.insert(request.scheduling().tenant());
      EXPECT_LE(request.token_ids().ids_size(), 400);
    }
    EXPECT_EQ(tenants, (std::set<std::string>{"", "tenant-1"}));
  }
}

TEST(BenchReplayTest, AMissingTraceIsAUsageErrorBeforeAnythingElse) {
  std::istringstream in;
  std::ostringstream out, err;
  EXPECT_EQ(RunCli({"bench", "--endpoint", "127.0.0.1:1", "--replay", "/nowhere.jsonl"},
                   CliIo{in, out, err}),
            kExitUsage);
  EXPECT_THAT(err.str(), HasSubstr("/nowhere.jsonl: cannot be read"));
}

}  // namespace
}  // namespace sluice
