#include "tests/e2e/gateway/engine.h"

#include <chrono>
#include <thread>

#include "tests/e2e/gateway/check.h"

namespace sluice::gateway {

std::string EngineMethod(const std::string& name) { return "/vllm.grpc.engine.VllmEngine/" + name; }

std::string EncodeGenerate(const GenerateOptions& o) {
  Writer sampling;
  sampling.Float(1, o.temperature).Float(2, 1.0F).Int(8, o.max_tokens);
  for (const std::string& stop : o.stop) sampling.Bytes(10, stop);
  if (!o.stop_ids.empty()) sampling.Packed(11, o.stop_ids);
  sampling.Int(12, 1).Int(13, 1);
  if (o.ignore_eos) sampling.Int(14, 1);
  if (o.n > 0) sampling.Int(15, o.n);
  if (o.logprobs >= 0) sampling.Int(22, static_cast<uint64_t>(o.logprobs));
  if (o.seed >= 0) sampling.Int(24, static_cast<uint64_t>(o.seed));
  Writer tokenized;
  tokenized.Bytes(1, "what the gateway tokenized").Packed(2, o.ids);
  Writer request;
  request.Bytes(1, o.request_id).Bytes(2, tokenized.bytes()).Bytes(4, sampling.bytes());
  if (o.stream) request.Int(5, 1);
  return request.bytes();
}

namespace {

Ids ToIds(const std::vector<uint64_t>& values) { return Ids(values.begin(), values.end()); }

void TakeChunk(const Fields& chunk, std::map<uint32_t, Sample>* samples) {
  Sample& sample = (*samples)[static_cast<uint32_t>(chunk.Int(7))];
  Check(!sample.complete, "a chunk after its sample is complete");
  const Ids ids = ToIds(chunk.Ints(1));
  Check(!ids.empty(), "a chunk without tokens");
  CheckEqual(chunk.Int(3), ids.size(), "completion_tokens of a chunk: this chunk's only");
  sample.streamed.insert(sample.streamed.end(), ids.begin(), ids.end());
  sample.prompt_tokens = static_cast<uint32_t>(chunk.Int(2));
  sample.chunk_cached = static_cast<uint32_t>(chunk.Int(4));
  if (chunk.Has(5)) sample.logprobs.Append(chunk.Message(5));
}

void TakeComplete(const Fields& end, std::map<uint32_t, Sample>* samples) {
  Sample& sample = (*samples)[static_cast<uint32_t>(end.Int(8))];
  Check(!sample.complete, "a sample is complete twice");
  sample.complete = true;
  sample.output = ToIds(end.Ints(1));
  sample.finish_reason = end.Bytes(2);
  if (!sample.streamed.empty()) {
    CheckEqual(end.Int(3), sample.prompt_tokens, "prompt_tokens changed during the stream");
    CheckEqual(end.Int(5), sample.chunk_cached, "cached_tokens changed during the stream");
  }
  sample.prompt_tokens = static_cast<uint32_t>(end.Int(3));
  sample.completion_tokens = static_cast<uint32_t>(end.Int(4));
  sample.cached_tokens = static_cast<uint32_t>(end.Int(5));
  CheckEqual(sample.completion_tokens, sample.output.size(), "completion_tokens of the whole");
  Check(sample.cached_tokens <= sample.prompt_tokens, "more cached than there are");
  if (end.Has(6)) sample.logprobs.Append(end.Message(6));
  sample.has_stop_id = end.Has(10);
  sample.stop_id = static_cast<uint32_t>(end.Int(10));
  sample.stop_string = end.Bytes(11);
}

}  // namespace

void Logprobs::Append(const Fields& fields) {
  const std::vector<float> more = fields.Floats(1);
  values.insert(values.end(), more.begin(), more.end());
  const Ids more_ids = ToIds(fields.Ints(2));
  CheckEqual(more.size(), more_ids.size(), "log-probabilities and their ids");
  ids.insert(ids.end(), more_ids.begin(), more_ids.end());
  for (const std::string& bytes : fields.All(3)) {
    const Fields top(bytes);
    top_values.push_back(top.Floats(1));
    top_ids.push_back(ToIds(top.Ints(2)));
    CheckEqual(top_values.back().size(), top_ids.back().size(), "likeliest tokens and their ids");
  }
  CheckEqual(top_values.size(), values.size(), "top_logprobs, one per token");
}

void TakeResponse(const std::string& bytes, std::map<uint32_t, Sample>* samples) {
  const Fields response(bytes);
  Check(response.Has(1) != response.Has(2), "a response is neither chunk nor complete, or both");
  if (response.Has(1)) return TakeChunk(response.Message(1), samples);
  TakeComplete(response.Message(2), samples);
}

Answer Generate(const Channel& channel, const GenerateOptions& options) {
  Answer answer;
  Call call(channel, EngineMethod("Generate"), EncodeGenerate(options));
  while (const std::optional<std::string> bytes = call.Read()) {
    Check(options.stream || Fields(*bytes).Has(2), "a chunk though stream is false");
    TakeResponse(*bytes, &answer.samples);
  }
  answer.status = call.Finish();
  for (const auto& [index, sample] : answer.samples) {
    Check(!answer.status.ok() || sample.complete, "OK, but a sample is not complete");
    if (options.stream && sample.complete) {
      Check(sample.streamed == sample.output, "the chunks and the whole differ");
    }
  }
  return answer;
}

Sample GenerateOne(const Channel& channel, const GenerateOptions& options) {
  const Answer answer = Generate(channel, options);
  Check(answer.status.ok(), "Generate: " + answer.status.error_message());
  CheckEqual(answer.samples.size(), size_t{1}, "samples");
  Check(answer.samples.count(0) == 1, "the only sample has not index 0");
  CheckEqual(answer.samples.at(0).prompt_tokens, options.ids.size(), "prompt_tokens");
  return answer.samples.at(0);
}

void Abort(const Channel& channel, const std::string& request_id) {
  Ask(channel, EngineMethod("Abort"), Writer().Bytes(1, "unknown").Bytes(1, request_id).bytes());
}

Fields GetLoad(const Channel& channel) {
  const Fields reply(Ask(channel, EngineMethod("GetLoads"), Writer().Bytes(2, "core").bytes()));
  Check(!reply.Bytes(1).empty() && !reply.Bytes(2).empty(), "GetLoads: no timestamp or version");
  CheckEqual(reply.Int(3), 1U, "dp_rank_count");
  CheckEqual(reply.All(4).size(), size_t{1}, "loads");
  Fields load(reply.Bytes(4));
  CheckEqual(load.Int(4), load.Int(2) + load.Int(3), "num_total_reqs");
  for (const int share : {7, 9, 10}) {
    Check(load.Double(share) >= 0 && load.Double(share) <= 1, "GetLoads: a share is not in [0, 1]");
  }
  return load;
}

void WaitUntilFree(const Channel& channel) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(60);
  while (std::chrono::steady_clock::now() < deadline) {
    const Fields load = GetLoad(channel);
    if (load.Int(4) == 0 && load.Int(5) == 0 && load.Double(7) == 0) return;
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  Check(false, "a request that was given up still holds something after a minute");
}

Ids MakeIds(uint64_t seed, size_t count) {
  Ids ids;
  uint64_t state = seed * 0x9E3779B97F4A7C15U + 1;
  for (size_t i = 0; i < count; ++i) {
    state = state * 6364136223846793005U + 1442695040888963407U;
    ids.push_back(300 + static_cast<uint32_t>((state >> 33) % 1500));
  }
  return ids;
}

}  // namespace sluice::gateway
