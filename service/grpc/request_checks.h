// GenerateRequest to RequestSpec: everything about a request that can be judged without the
// scheduler. All limits written in proto/sluice/v1/inference.proto are enforced here, and only
// here.
//
// Pure: same arguments, same answer. Thread-safe.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "scheduler/base/units.h"
#include "scheduler/request.h"
#include "service/grpc/stop_matcher.h"
#include "service/tokenizer/tokenizer.h"
#include "sluice/v1/control.pb.h"
#include "sluice/v1/inference.pb.h"

namespace sluice {

// What the loaded model allows.
struct ModelLimits {
  int32_t vocab_size = 0;
  Tokens max_model_len{0};       // prompt and output together
  std::vector<TokenId> eos_ids;  // end a request unless it says ignore_eos
};
ModelLimits LimitsOf(const v1::ServerInfo& info);

// The model's generation_config: used where a request leaves a field unset.
struct SamplingDefaults {
  std::optional<float> temperature;
  std::optional<float> top_p;
  std::optional<int32_t> top_k;
  std::optional<float> min_p;
  std::optional<float> repetition_penalty;
};

// What comes from outside the request.
struct Arrival {
  absl::Time now;          // on the engine's clock
  uint64_t seed = 0;       // used if the request has none
  std::string request_id;  // used if the request has none
};

struct ParsedRequest {
  std::string request_id;
  std::vector<RequestSpec> samples;          // one per sample, in order; ids not yet set
  std::shared_ptr<const StopMatcher> stops;  // never null
  bool include_stop = false;
};

// Returns INVALID_ARGUMENT naming field, value, limit and remedy if the request can never succeed.
// Cost: tokenization of a text prompt, else O(prompt).
absl::StatusOr<ParsedRequest> CheckGenerateRequest(const v1::GenerateRequest& request,
                                                   const ModelLimits& limits,
                                                   const SamplingDefaults& defaults,
                                                   const Tokenizer& tokenizer,
                                                   const Arrival& arrival);

// The same for a question about a request. The spec has no id.
absl::StatusOr<RequestSpec> CheckExplainRequest(v1::ExplainRequest request,
                                                const ModelLimits& limits,
                                                const Tokenizer& tokenizer, absl::Time now);

// Ids a client sent, in range. `field` names them in the message.
// Returns INVALID_ARGUMENT naming the first id outside [0, vocab_size).
absl::StatusOr<std::vector<TokenId>> CheckTokenIds(
    const google::protobuf::RepeatedField<uint32_t>& ids, const std::string& field,
    int32_t vocab_size);

// Returns FAILED_PRECONDITION naming `field` if the model has no tokenizer.
absl::Status CheckHasText(const Tokenizer& tokenizer, const char* field);

}  // namespace sluice
