// ReferenceModel: the forward pass in double precision, no cache, one token after another's
// formula: slow and obviously right. The oracle of every backend test; never linked into the
// server.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "backend/model/checkpoint.h"
#include "backend/model/model_config.h"
#include "scheduler/base/units.h"

namespace sluice {

class ReferenceModel {
 public:
  // Keeps its own copy of the weights as doubles; `checkpoint` may go away.
  ReferenceModel(const ModelConfig& config, const Checkpoint& checkpoint);
  ~ReferenceModel();

  // Logits of every position: [tokens.size()][vocab]. O(n^2) in the tokens.
  // REQUIRES: tokens not empty, each in [0, vocab).
  std::vector<std::vector<double>> Logits(std::span<const TokenId> tokens) const;

  // `count` greedy tokens after `prompt` (arg max, lowest id wins ties); ignores EOS.
  std::vector<TokenId> Greedy(std::span<const TokenId> prompt, int count) const;

 private:
  struct Weights;
  ModelConfig config_;
  std::unique_ptr<Weights> weights_;
};

}  // namespace sluice
