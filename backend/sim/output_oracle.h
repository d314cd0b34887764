// OutputOracle: what a model without weights answers. It alone knows how long each answer will be;
// the scheduler finds out when the stop id is drawn.
//
// Tokens mean nothing, but they are a function of (request, index), so that a request gets the same
// answer again after a preemption, and different requests get different ones.
//
// Thread-compatible.
#pragma once

#include <cstdint>

#include "absl/container/flat_hash_map.h"
#include "scheduler/base/units.h"
#include "scheduler/request.h"

namespace sluice {

class OutputOracle {
 public:
  // Tokens are drawn from [0, vocab). `mean_length`: of the answers of requests that SetLength()
  // was not called for, geometrically distributed; 0 = they go on to their limit.
  // REQUIRES: vocab >= 2, mean_length >= 0.
  OutputOracle(uint64_t seed, int32_t vocab, double mean_length)
      : seed_(seed), vocab_(vocab), mean_length_(mean_length) {}

  // The answer of `id` has `length` tokens, the stop id included. REQUIRES: length >= 1.
  void SetLength(RequestId id, Tokens length) { lengths_[id] = length; }
  void Forget(RequestId id) { lengths_.erase(id); }

  // Token `index` of the answer: params.stop_ids[0] if it is the last one (and there is one, and
  // min_tokens is reached), else one that is no stop id.
  TokenId Draw(RequestId id, int64_t index, const SamplingParams& params) const;

 private:
  bool EndsAt(RequestId id, int64_t index) const;

  const uint64_t seed_;
  const int32_t vocab_;
  const double mean_length_;
  absl::flat_hash_map<RequestId, Tokens> lengths_;
};

}  // namespace sluice
