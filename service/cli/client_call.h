// One Generate rpc from the client's side: runs it, collects every sample, and takes the times that
// a client sees. generate, chat, bench and demo all use it.
#pragma once

#include <grpcpp/client_context.h>

#include <cstdint>
#include <functional>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "service/cli/client.h"
#include "sluice/v1/inference.grpc.pb.h"

namespace sluice {

struct SampleResult {
  std::string text;
  std::vector<uint32_t> ids;
  std::vector<v1::Logprobs> logprobs;    // one per id, if asked for
  std::optional<v1::Finished> finished;  // not set: the rpc ended early
};

struct CallResult {
  grpc::Status status;
  std::vector<SampleResult> samples;  // by index; as many as were heard of

  absl::Duration total;                       // start to end of the rpc
  std::optional<absl::Duration> first_token;  // start to the first token of any sample
  absl::Duration last_token;                  // start to the last one
  // Seconds from one token to the next of sample 0. Tokens that arrive in one message share the
  // time since the message before.
  std::vector<double> token_gaps_s;

  bool ok() const { return status.ok(); }
};

// Runs `request` and blocks until the stream has ended. `on_output`, if any, sees every output
// message as it arrives.
CallResult RunGenerate(v1::Inference::Stub& stub, const v1::GenerateRequest& request,
                       grpc::ClientContext& context,
                       const std::function<void(const v1::Output&)>& on_output = nullptr);

// "stop" or "length".
std::string FinishReasonName(v1::FinishReason reason);

// With the field names of the API.
nlohmann::json UsageJson(const v1::Usage& usage);
nlohmann::json TimingJson(const v1::Timing& timing);

// The record that `sluice generate --json` prints: the fields of sample 0 (output_ids, text,
// finish_reason, usage, timing, seed, request_id, logprobs if asked for), and `outputs` with all
// samples if there are several.
nlohmann::json ResultJson(const CallResult& result);

}  // namespace sluice
