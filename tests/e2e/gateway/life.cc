#include "tests/e2e/gateway/life.h"

#include <algorithm>
#include <fstream>
#include <optional>

#include "tests/e2e/gateway/check.h"

namespace sluice::gateway {
namespace {

constexpr size_t kPiece = 64 << 10;

GenerateOptions Plain(const Ids& ids, bool stream = true) {
  GenerateOptions options;
  options.ids = ids;
  options.stream = stream;
  return options;
}

GenerateOptions Long(const std::string& id) {
  GenerateOptions options = Plain(MakeIds(17, 40));
  options.request_id = id;
  options.max_tokens = 3000;
  return options;
}

void CheckCode(const Channel& channel, const std::string& request, grpc::StatusCode code,
               const std::string& what) {
  const grpc::Status status = StatusOf(channel, EngineMethod("Generate"), request);
  CheckEqual(status.error_code(), code, what + " (" + status.error_message() + ")");
  Check(!status.error_message().empty(), what + ": no message");
}

void CheckReport(const std::string& bytes) {
  const Fields report(bytes);
  Check(report.Double(9) >= 0 && report.Double(9) <= 1, "application_utilization not in [0, 1]");
  bool usage = false;
  for (const std::string& entry : report.All(8)) {
    usage = usage || Fields(entry).Bytes(1) == "kv_cache_usage_perc";
  }
  Check(usage, "a load report without kv_cache_usage_perc");
}

}  // namespace

void Probe(const Channel& channel) {
  // A gateway asks other engines' services first; only ours may answer.
  for (const char* other : {"/sglang.grpc.scheduler.SglangScheduler/HealthCheck",
                            "/trtllm.TrtllmService/HealthCheck"}) {
    CheckEqual(StatusOf(channel, other).error_code(), grpc::StatusCode::UNIMPLEMENTED, other);
  }
  const Fields health(Ask(channel, EngineMethod("HealthCheck")));
  CheckEqual(health.Int(1), 1U, "HealthCheck: healthy");
  for (const char* service : {"", "vllm.grpc.engine.VllmEngine"}) {
    const std::string request = Writer().Bytes(1, service).bytes();
    const Fields status(Ask(channel, "/grpc.health.v1.Health/Check", request));
    CheckEqual(status.Int(1), 1U, std::string("grpc.health.v1 of \"") + service + "\"");
  }
}

void PrintModelInfo(const Channel& channel) {
  const Fields model(Ask(channel, EngineMethod("GetModelInfo")));
  std::cout << "model_path " << model.Bytes(1) << "\nis_generation " << model.Int(2)
            << "\nmax_context_length " << model.Int(3) << "\nvocab_size " << model.Int(4)
            << "\nserved_model_name " << model.Bytes(6) << "\ntokenizer_path " << model.Bytes(7)
            << "\nmodel_type " << model.Bytes(8) << "\narchitectures " << model.Bytes(9)
            << "\nbos_token_id " << model.Int(12) << "\nmax_req_input_len " << model.Int(13)
            << "\ndefault_sampling_params_json " << model.Bytes(14) << "\neos_token_ids";
  for (const uint64_t id : model.Ints(10)) std::cout << " " << id;
  std::cout << std::endl;
  const Fields server(Ask(channel, EngineMethod("GetServerInfo")));
  CheckEqual(server.Int(2), 0U, "is_paused");
  Check(server.Double(4) >= 0, "uptime_seconds");
  CheckEqual(server.Bytes(5), "vllm-grpc", "server_type");
  CheckEqual(server.Bytes(6), "", "kv_connector");
  CheckEqual(server.Int(9), 1U, "data_parallel_size");
}

void FetchTokenizer(const Channel& channel, const std::string& path) {
  Call call(channel, EngineMethod("GetTokenizer"), "");
  std::string zip;
  std::string digest;
  while (const std::optional<std::string> bytes = call.Read()) {
    Check(digest.empty(), "a chunk after the one with the digest");
    const Fields chunk(*bytes);
    Check(chunk.Bytes(1).size() <= kPiece, "a chunk of more than 64 KiB");
    zip += chunk.Bytes(1);
    digest = chunk.Bytes(2);
  }
  const grpc::Status status = call.Finish();
  Check(status.ok(), "GetTokenizer: " + status.error_message());
  CheckEqual(digest.size(), size_t{64}, "digits of the digest on the last chunk");
  std::ofstream(path, std::ios::binary) << zip;
  std::cout << "sha256 " << digest << std::endl;
}

namespace {

void GenerateStopsAndSeeds(const Channel& channel, const Ids& prompt, const Ids& greedy) {
  GenerateOptions stop = Plain(prompt, false);
  stop.stop_ids = {greedy[5]};
  const Sample stopped = GenerateOne(channel, stop);
  const auto first = std::find(greedy.begin(), greedy.end(), greedy[5]);
  CheckEqual(stopped.finish_reason, "stop", "finish_reason after a stop id");
  Check(stopped.has_stop_id, "no matched_token_id");
  CheckEqual(stopped.stop_id, greedy[5], "matched_token_id");
  Check(stopped.output == Ids(greedy.begin(), first + 1), "the output is not cut at the stop id");

  GenerateOptions drawn = Plain(prompt);
  drawn.temperature = 1;
  drawn.seed = 7;
  drawn.n = 3;
  const Answer once = Generate(channel, drawn);
  const Answer again = Generate(channel, drawn);
  CheckEqual(once.samples.size(), size_t{3}, "samples of n = 3");
  for (uint32_t i = 0; i < 3; ++i) {
    Check(once.samples.count(i) == 1, "an index is missing");
    CheckEqual(once.samples.at(i).output.size(), size_t{16}, "tokens of a sample");
    Check(once.samples.at(i).output == again.samples.at(i).output, "a seed gives other tokens");
  }
  Check(once.samples.at(0).output != once.samples.at(1).output, "two samples are the same");
}

void GenerateLogprobs(const Channel& channel, const Ids& prompt, const Ids& greedy) {
  for (const bool stream : {true, false}) {
    GenerateOptions options = Plain(prompt, stream);
    options.logprobs = 3;
    const Sample sample = GenerateOne(channel, options);
    Check(sample.output == greedy, "log-probabilities change the tokens");
    Check(sample.logprobs.ids == greedy, "log-probabilities of other tokens");
    for (size_t i = 0; i < greedy.size(); ++i) {
      Check(sample.logprobs.values[i] <= 0, "a log-probability above 0");
      CheckEqual(sample.logprobs.top_ids[i].size(), size_t{3}, "likeliest tokens");
      CheckEqual(sample.logprobs.top_ids[i][0], greedy[i], "the likeliest token of a greedy draw");
    }
  }
}

}  // namespace

void GenerateAllWays(const Channel& channel, const Ids& prompt) {
  const Sample streamed = GenerateOne(channel, Plain(prompt, true));
  CheckEqual(streamed.output.size(), size_t{16}, "tokens");
  CheckEqual(streamed.finish_reason, "length", "finish_reason");
  Check(!streamed.has_stop_id && streamed.stop_string.empty(), "a matched stop without any");
  const Sample whole = GenerateOne(channel, Plain(prompt, false));
  Check(whole.output == streamed.output, "unary and streaming differ");
  GenerateStopsAndSeeds(channel, prompt, streamed.output);
  GenerateLogprobs(channel, prompt, streamed.output);
}

void StopAtString(const Channel& channel, const Ids& prompt, const std::string& stop) {
  const Ids greedy = [&] {
    GenerateOptions options = Plain(prompt, false);
    options.max_tokens = 200;
    return GenerateOne(channel, options).output;
  }();
  for (const bool stream : {true, false}) {
    GenerateOptions options = Plain(prompt, stream);
    options.max_tokens = 200;
    options.stop = {"\x01 never", stop};
    const Sample sample = GenerateOne(channel, options);
    CheckEqual(sample.finish_reason, "stop", "finish_reason after a stop string");
    CheckEqual(sample.stop_string, stop, "matched_stop_str");
    Check(sample.output.size() < greedy.size() &&
              std::equal(sample.output.begin(), sample.output.end(), greedy.begin()),
          "the output is not the beginning of the one without a stop string");
  }
}

void RefuseBadRequests(const Channel& channel) {
  using grpc::StatusCode;
  const std::string good = EncodeGenerate(Plain({300, 301}));
  const auto with_sampling = [](const Writer& sampling) {
    const Writer tokenized = Writer().Packed(2, {300, 301});
    return Writer().Bytes(2, tokenized.bytes()).Bytes(4, sampling.bytes()).bytes();
  };
  CheckCode(channel, Writer().Bytes(1, "x").bytes(), StatusCode::INVALID_ARGUMENT, "no input");
  CheckCode(channel, EncodeGenerate(Plain({})), StatusCode::INVALID_ARGUMENT, "no ids");
  CheckCode(channel, EncodeGenerate(Plain({4'000'000'000U})), StatusCode::INVALID_ARGUMENT,
            "an id outside of the vocabulary");
  CheckCode(channel, EncodeGenerate(Plain(MakeIds(1, 5000))), StatusCode::INVALID_ARGUMENT,
            "a prompt that is too long");
  for (const int constraint : {16, 17, 18, 19}) {
    CheckCode(channel, with_sampling(Writer().Bytes(constraint, "{}")),
              StatusCode::INVALID_ARGUMENT, "a constraint");
  }
  CheckCode(channel, with_sampling(Writer().Int(20, 1)), StatusCode::INVALID_ARGUMENT,
            "json_object");
  CheckCode(channel, with_sampling(Writer().Int(23, 1)), StatusCode::INVALID_ARGUMENT,
            "prompt_logprobs");
  CheckCode(channel, "\xff\xff", StatusCode::INVALID_ARGUMENT, "bytes that are no message");
  CheckEqual(StatusOf(channel, EngineMethod("Embed")).error_code(), StatusCode::UNIMPLEMENTED,
             "Embed");
  Check(StatusOf(channel, EngineMethod("Generate"), good).ok(), "a good request after bad ones");
}

void GiveUp(const Channel& channel) {
  Call call(channel, EngineMethod("Generate"), EncodeGenerate(Long("chat-1")),
            {{"traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}});
  std::map<uint32_t, Sample> samples;
  const std::optional<std::string> first = call.Read();
  Check(first.has_value(), "a long request gives nothing");
  TakeResponse(*first, &samples);
  const Fields load = GetLoad(channel);
  CheckEqual(load.Int(2), 1U, "num_running_reqs");
  Check(load.Int(5) > 0 && load.Double(7) > 0, "a request that runs holds nothing");
  Check(load.Int(5) <= load.Int(6), "more tokens used than there is room for");
  CheckCode(channel, EncodeGenerate(Long("chat-1")), grpc::StatusCode::ALREADY_EXISTS,
            "an id that is live");
  Abort(channel, "chat-1");
  while (const std::optional<std::string> bytes = call.Read()) TakeResponse(*bytes, &samples);
  const grpc::Status status = call.Finish();
  Check(status.ok(), "an aborted request: " + status.error_message());
  CheckEqual(samples.at(0).finish_reason, "abort", "finish_reason after Abort");
  Check(samples.at(0).streamed == samples.at(0).output, "the chunks and the whole differ");
  Check(samples.at(0).output.size() < 3000, "Abort came too late to show anything");
  WaitUntilFree(channel);
  Abort(channel, "chat-1");  // again

  for (const bool stream : {true, false}) {
    GenerateOptions options = Long("chat-2");
    options.stream = stream;
    Call left(channel, EngineMethod("Generate"), EncodeGenerate(options));
    if (stream) Check(left.Read().has_value(), "a long request gives nothing");
    left.Cancel();
    CheckEqual(left.Finish().error_code(), grpc::StatusCode::CANCELLED, "a cancelled call");
    WaitUntilFree(channel);
  }
}

void ReadLoadReports(const Channel& channel) {
  Call call(channel, "/xds.service.orca.v3.OpenRcaService/StreamCoreMetrics",
            Writer().Bytes(1, Writer().Int(2, 100'000'000).bytes()).bytes());
  for (int i = 0; i < 3; ++i) {
    const std::optional<std::string> report = call.Read();
    Check(report.has_value(), "StreamCoreMetrics ends by itself");
    CheckReport(*report);
  }
}

}  // namespace sluice::gateway
