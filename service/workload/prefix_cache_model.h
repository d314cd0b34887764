// What a prefix cache would find for each request of a workload: the kappa of its requests, with
// neither a server nor a simulator. The same model as the format's reference reader, so figures can
// be compared with those published for a trace.
#pragma once

#include <optional>
#include <vector>

#include "scheduler/base/units.h"
#include "service/workload/trace_request.h"

namespace sluice {

// One request as the cost model sees it.
struct CacheSample {
  Tokens cached;  // less than the prompt: at least one token is always computed
  Tokens fresh;   // prompt tokens to compute; cached + fresh = prompt
  Tokens output;

  double kappa() const {
    return static_cast<double>(cached.value()) / static_cast<double>(fresh.value());
  }
};

struct PrefixCacheModelOptions {
  // Not set: nothing is ever evicted.
  std::optional<Tokens> capacity = std::nullopt;
  // Only whole blocks are shared. Not set: each request's own block_tokens.
  std::optional<Tokens> block_tokens = std::nullopt;
};

// One sample per request, in order. Prompts are inserted at arrival; least recently used blocks go
// first, a prompt's tail before its head. Generated tokens are not cached.
// O(segments) per request without a capacity, O(blocks) with one.
// REQUIRES: capacity and block_tokens, where set, are at least 1.
std::vector<CacheSample> SamplePrefixCache(const std::vector<TraceRequest>& requests,
                                           const PrefixCacheModelOptions& options);

}  // namespace sluice
