// A sequence that a test runs on a backend, step by step, without a scheduler.
#pragma once

#include <algorithm>
#include <cstdint>
#include <utility>
#include <vector>

#include "backend/backend.h"
#include "gtest/gtest.h"
#include "scheduler/request.h"
#include "scheduler/step.h"
#include "tests/support/status_matchers.h"

namespace sluice::testing {

inline SamplingParams Greedy(int logprobs) {
  SamplingParams params;
  params.temperature = 0;
  params.logprobs = logprobs;
  return params;
}

// One sequence that runs to its end in chunks.
struct Sequence {
  std::vector<TokenId> tokens;
  int64_t prompt = 0;
  std::vector<BlockId> blocks;
  SamplingParams params = Greedy(5);
  int64_t computed = 0;
  std::vector<CopyId> loads = {};
  std::vector<BlockId> host_blocks = {};

  SequenceWork Work(int64_t chunk) const {
    SequenceWork work;
    work.request = RequestId(1);
    work.first = Tokens(computed);
    const auto size = static_cast<int64_t>(tokens.size());
    work.count = Tokens(std::min(chunk, size - computed));
    work.tokens = tokens;
    work.blocks = blocks;
    work.host_blocks = host_blocks;
    work.loads = loads;
    work.sample = computed + work.count.value() == size;
    work.sampling = work.sample ? &params : nullptr;
    work.prompt = Tokens(prompt);
    work.output_index = size - prompt;
    return work;
  }
};

inline std::vector<BlockId> BlocksFrom(int32_t first, int32_t count) {
  std::vector<BlockId> blocks;
  for (int32_t i = 0; i < count; ++i) blocks.push_back(BlockId(first + i));
  return blocks;
}

// In device blocks [first_block, first_block + blocks).
inline Sequence MakeSequence(std::vector<TokenId> prompt, int32_t first_block, int32_t blocks = 8) {
  Sequence s;
  s.prompt = static_cast<int64_t>(prompt.size());
  s.tokens = std::move(prompt);
  s.blocks = BlocksFrom(first_block, blocks);
  return s;
}

inline StepResult RunStep(Backend& backend, std::vector<SequenceWork> works) {
  StepPlan plan;
  plan.id = StepId(1);
  plan.sequences = std::move(works);
  StepResult result = backend.Run(plan);
  EXPECT_EQ(result.id, plan.id);
  EXPECT_LE(result.started, result.finished);
  return result;
}

// Runs `s` until it has `outputs` more tokens. Returns every draw.
inline std::vector<SampledToken> Generate(Backend& backend, Sequence& s, int outputs,
                                          int64_t chunk) {
  std::vector<SampledToken> drawn;
  while (static_cast<int>(drawn.size()) < outputs) {
    const SequenceWork work = s.Work(chunk);
    const StepResult result = RunStep(backend, {work});
    EXPECT_THAT(result.status, IsOk());
    EXPECT_EQ(result.sequences.size(), result.status.ok() ? 1u : 0u);
    if (result.sequences.empty()) break;
    EXPECT_THAT(result.sequences[0].status, IsOk());
    s.computed += work.count.value();
    EXPECT_EQ(result.sequences[0].sampled.has_value(), work.sample);
    if (!result.sequences[0].sampled.has_value()) continue;
    drawn.push_back(*result.sequences[0].sampled);
    s.tokens.push_back(drawn.back().token);
  }
  return drawn;
}

inline std::vector<TokenId> TokensOf(const std::vector<SampledToken>& drawn) {
  std::vector<TokenId> tokens;
  for (const SampledToken& s : drawn) tokens.push_back(s.token);
  return tokens;
}

}  // namespace sluice::testing
