#include "tests/e2e/gateway/edges.h"

#include <chrono>
#include <optional>
#include <thread>

#include "tests/e2e/gateway/check.h"

namespace sluice::gateway {
namespace {

constexpr auto kPatience = std::chrono::seconds(60);
constexpr auto kPollInterval = std::chrono::milliseconds(50);

// A request of `input` (field 2 or 3) and nothing but the sampling parameters given.
Answer Ask(const Channel& channel, const Writer& request) {
  Answer answer;
  Call call(channel, EngineMethod("Generate"), request.bytes());
  while (const std::optional<std::string> bytes = call.Read()) {
    TakeResponse(*bytes, &answer.samples);
  }
  answer.status = call.Finish();
  Check(answer.status.ok(), "Generate: " + answer.status.error_message());
  return answer;
}

std::string Tokenized(const Ids& ids) { return Writer().Packed(2, ids).bytes(); }

GenerateOptions Stream(uint32_t max_tokens) {
  GenerateOptions options;
  options.ids = MakeIds(23, 40);
  options.max_tokens = max_tokens;
  return options;
}

uint64_t Health(const Channel& channel, const std::string& service) {
  const std::string request = Writer().Bytes(1, service).bytes();
  return Fields(gateway::Ask(channel, "/grpc.health.v1.Health/Check", request)).Int(1);
}

template <class Condition>
void WaitFor(Condition condition, const std::string& what) {
  const auto deadline = std::chrono::steady_clock::now() + kPatience;
  while (!condition()) {
    Check(std::chrono::steady_clock::now() < deadline, "waited a minute for: " + what);
    std::this_thread::sleep_for(kPollInterval);
  }
}

}  // namespace

void LeaveOutWhatMayBe(const Channel& channel) {
  const Fields model(gateway::Ask(channel, EngineMethod("GetModelInfo")));
  const uint64_t context = model.Int(3);
  constexpr uint64_t kRoom = 24;
  const Writer ignore_eos = Writer().Int(14, 1);
  const Ids long_prompt = MakeIds(29, context - kRoom);
  const Answer to_the_end =
      Ask(channel, Writer().Bytes(2, Tokenized(long_prompt)).Bytes(4, ignore_eos.bytes()));
  CheckEqual(to_the_end.samples.size(), size_t{1}, "samples with n left out");
  CheckEqual(to_the_end.samples.at(0).output.size(), size_t{kRoom},
             "tokens up to the end of the context");
  CheckEqual(to_the_end.samples.at(0).finish_reason, "length", "finish_reason at its end");

  const Writer few = Writer().Int(8, 5).Int(14, 1);
  const Answer text = Ask(channel, Writer().Bytes(3, "Once upon a time").Bytes(4, few.bytes()));
  CheckEqual(text.samples.at(0).output.size(), size_t{5}, "tokens for a prompt of text");
  Check(text.samples.at(0).prompt_tokens > 1, "text has no tokens");

  const Writer two = Writer().Float(1, 1.0F).Int(8, 6).Int(14, 1).Int(15, 2).Int(24, 5);
  const Answer both = Ask(channel, Writer().Bytes(2, Tokenized({300, 301})).Bytes(4, two.bytes()));
  CheckEqual(both.samples.size(), size_t{2}, "samples of n = 2 without streaming");
  for (const auto& [index, sample] : both.samples) {
    Check(sample.complete && sample.streamed.empty(), "a sample without streaming has chunks");
    CheckEqual(sample.output.size(), size_t{6}, "tokens of a sample without streaming");
  }

  const Writer from_the_future =
      Writer().Bytes(2, Tokenized({300})).Bytes(4, few.bytes()).Bytes(900, "new").Int(901, 1);
  Ask(channel, from_the_future);
}

void PollLoads(const Channel& channel) {
  Call call(channel, EngineMethod("Generate"), EncodeGenerate(Stream(1800)));
  Check(call.Read().has_value(), "a long request gives nothing");
  const uint64_t room = GetLoad(channel).Int(6);
  WaitFor(
      [&] {
        const Fields load = GetLoad(channel);
        CheckEqual(load.Int(6), room, "max_total_num_tokens while a request runs");
        Check(load.Int(11) >= 1, "max_running_requests");
        Check(load.Int(5) <= room, "num_used_tokens");
        return load.Int(2) == 1 && load.Double(7) > 0 && load.Double(8) > 0;
      },
      "a request that runs, and its tokens in gen_throughput");
  call.Cancel();
  call.Finish();
  WaitUntilFree(channel);
}

void SeeItLeave(const Channel& channel) {
  Call call(channel, EngineMethod("Generate"), EncodeGenerate(Stream(400)));
  std::map<uint32_t, Sample> samples;
  const std::optional<std::string> first = call.Read();
  Check(first.has_value(), "a long request gives nothing");
  TakeResponse(*first, &samples);
  std::cout << "running 1" << std::endl;
  WaitFor([&] { return Fields(gateway::Ask(channel, EngineMethod("HealthCheck"))).Int(1) == 0; },
          "healthy to become false");
  CheckEqual(Health(channel, "vllm.grpc.engine.VllmEngine"), 2U, "readiness while draining");
  CheckEqual(Health(channel, ""), 1U, "liveness while draining");
  const grpc::Status refused =
      StatusOf(channel, EngineMethod("Generate"), EncodeGenerate(Stream(1)));
  CheckEqual(refused.error_code(), grpc::StatusCode::UNAVAILABLE, "a request while draining");
  while (const std::optional<std::string> bytes = call.Read()) TakeResponse(*bytes, &samples);
  const grpc::Status status = call.Finish();
  Check(status.ok(), "a stream that the drain left alone: " + status.error_message());
  CheckEqual(samples.at(0).output.size(), size_t{400}, "its tokens");
  WaitFor(
      [&] {
        return StatusOf(channel, EngineMethod("HealthCheck")).error_code() ==
               grpc::StatusCode::UNAVAILABLE;
      },
      "nobody to answer");
}

}  // namespace sluice::gateway
