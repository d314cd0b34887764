// A gateway's view of one engine: the rpcs of vllm.grpc.engine.VllmEngine, encoded and decoded by
// the numbers of the protocol.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "tests/e2e/gateway/call.h"
#include "tests/e2e/gateway/wire.h"

namespace sluice::gateway {

using Channel = std::shared_ptr<grpc::Channel>;
using Ids = std::vector<uint32_t>;

// "/vllm.grpc.engine.VllmEngine/NAME".
std::string EngineMethod(const std::string& name);

struct GenerateOptions {
  std::string request_id;
  Ids ids;
  bool stream = true;
  uint32_t max_tokens = 16;
  uint32_t n = 0;
  int logprobs = -1;  // -1: unset
  int seed = -1;
  float temperature = 0;
  bool ignore_eos = true;
  std::vector<std::string> stop;
  Ids stop_ids;
};
std::string EncodeGenerate(const GenerateOptions& options);

struct Logprobs {
  std::vector<float> values;
  Ids ids;
  std::vector<std::vector<float>> top_values;
  std::vector<Ids> top_ids;
  void Append(const Fields& fields);
};

struct Sample {
  Ids streamed;  // of all chunks
  uint32_t chunk_cached = 0;
  Logprobs logprobs;  // of all chunks, or of the end
  bool complete = false;
  Ids output;
  std::string finish_reason;
  uint32_t prompt_tokens = 0;
  uint32_t completion_tokens = 0;
  uint32_t cached_tokens = 0;
  bool has_stop_id = false;
  uint32_t stop_id = 0;
  std::string stop_string;
};

// Takes one GenerateResponse, and checks what must hold of each.
void TakeResponse(const std::string& bytes, std::map<uint32_t, Sample>* samples);

struct Answer {
  std::map<uint32_t, Sample> samples;
  grpc::Status status;
};
Answer Generate(const Channel& channel, const GenerateOptions& options);
// With one sample, which must succeed.
Sample GenerateOne(const Channel& channel, const GenerateOptions& options);

void Abort(const Channel& channel, const std::string& request_id);

// The only rank's load.
Fields GetLoad(const Channel& channel);

// Polls GetLoads until nothing runs and nothing is held.
void WaitUntilFree(const Channel& channel);

// `count` ids that look like text to nobody; other ones for every seed.
Ids MakeIds(uint64_t seed, size_t count);

}  // namespace sluice::gateway
