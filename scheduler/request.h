// What a request asks for: the scheduler's input, made by the service, never changed afterwards.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "scheduler/base/units.h"

namespace sluice {

// How the next token is chosen from the logits. Applied in this order: penalties, min_tokens mask,
// temperature, top_k, top_p, min_p, draw. Ranges are checked by the service before they get here.
struct SamplingParams {
  float temperature = 1.0F;         // 0 = greedy (arg max, lowest id wins ties)
  float top_p = 1.0F;               // (0, 1]; 1 = off
  int32_t top_k = 0;                // 0 = off
  float min_p = 0.0F;               // [0, 1]; 0 = off
  float repetition_penalty = 1.0F;  // > 0; over prompt and output, as in Keskar et al. 2019
  float presence_penalty = 0.0F;    // [-2, 2]; over the output
  float frequency_penalty = 0.0F;   // [-2, 2]; over the output

  // The draw for output token i depends on (seed, i) only, so a request gives the same tokens
  // whatever ran beside it, and again after preemption.
  uint64_t seed = 0;

  // Log-probabilities to report per token: -1 none, 0 the chosen token's, n also the n likeliest.
  int32_t logprobs = -1;

  // Before `min_tokens` outputs, stop_ids cannot be drawn.
  int32_t min_tokens = 0;
  // Drawing one of these ends the request (EOS ids too, unless the client ignores them).
  std::vector<TokenId> stop_ids;

  bool has_penalties() const {
    return repetition_penalty != 1.0F || presence_penalty != 0.0F || frequency_penalty != 0.0F;
  }
};

struct RequestSpec {
  RequestId id;                                    // unique among live requests
  std::vector<TokenId> prompt;                     // at least one token
  Tokens max_new{1};                               // most output tokens; at least one
  std::shared_ptr<const SamplingParams> sampling;  // never null

  // Higher runs first; a higher one may preempt a running lower one. Default 0.
  int32_t priority = 0;
  // Who pays. Groups requests for fairness and metrics; bounded set, checked by the service.
  std::string tenant;
  // Requests share cached KV only if their salts are equal. Derived from tenant and client salt.
  uint64_t cache_salt = 0;
  // The first token is useless after this instant; a request still waiting then ends with
  // DEADLINE_EXCEEDED.
  absl::Time first_token_deadline = absl::InfiniteFuture();
};

}  // namespace sluice
