// TokenSampler: draws the tokens of a step on the device, as SamplingParams says; the same meaning
// as backend/cpu/sampler.h.
//
//   sampler.Prepare(inputs, control);       what kernels need to know, before the control upload
//   for each group of logit rows: sampler.Draw(...)
//   results: one copy, with those of Draw(); then sampler.Take(i)
//
// Thread-compatible.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "backend/cuda/forward/control_buffer.h"
#include "backend/cuda/forward/result_buffer.h"
#include "backend/cuda/gpu/gpu.h"
#include "backend/cuda/kernels/logits.h"
#include "backend/cuda/kernels/sampling.h"
#include "scheduler/request.h"
#include "scheduler/step.h"

namespace sluice::cuda {

struct SampleInput {
  const SamplingParams* params = nullptr;
  std::span<const TokenId> tokens;  // prompt, then output so far
  int64_t prompt = 0;               // how many of `tokens` are the prompt
  int64_t output_index = 0;
};

class TokenSampler {
 public:
  // Draws in groups of `group` rows, of logits of `vocab` tokens.
  TokenSampler(int32_t group, int32_t vocab) : group_(group), vocab_(vocab) {}

  // Starts a step that draws one token for each of `inputs`, in order; their rows of logits come in
  // the same order, group by group. Adds tables to `control`, and room for what comes out to
  // `results`. `inputs` are used until Take().
  void Prepare(std::span<const SampleInput> inputs, ControlBuffer& control, ResultBuffer& results);

  // Where the draws of all inputs will be, one after the other; -1: none.
  ResultArray<int32_t> tokens() const { return tokens_; }

  int32_t groups() const { return static_cast<int32_t>(groups_.size()); }
  int32_t first(int32_t group) const { return group * group_; }
  int32_t count(int32_t group) const { return groups_[static_cast<size_t>(group)].samples.count; }

  // Enqueues the draws of a group. `logits`, float [count(group)][vocab], is overwritten.
  absl::Status Draw(int32_t group, float* logits, const ControlBuffer& control,
                    const ResultBuffer& results, cudaStream_t stream);

  // What input i drew. REQUIRES: `results` were downloaded.
  // Returns INTERNAL if its logits are not finite, or if no token may be drawn.
  absl::StatusOr<SampledToken> Take(size_t i, const ResultBuffer& results) const;

 private:
  struct Group {
    ControlArray<SampleRow> samples;
    ControlArray<LogitEdit> edits;
    ControlArray<int32_t> report;  // rows whose log-probabilities are wanted
    int32_t top = 0;               // the most that any of them wants
    size_t first_edit = 0;         // in edits_
    ResultArray<int32_t> tokens;   // [count], of tokens_
    ResultArray<float> picked;     // [count]: logits of the tokens, after edits
    ResultArray<float> before;     // [edits]
    ResultArray<float> log_sum;    // [report]
    ResultArray<int32_t> top_tokens;
    ResultArray<float> top_logprobs;
  };

  void PrepareGroup(size_t first, ControlBuffer& control, ResultBuffer& results);
  void AddEdits(int32_t row, const SampleInput& input);
  absl::Status ReportLogprobs(const Group& group, float* logits, const ControlBuffer& control,
                              const ResultBuffer& results, cudaStream_t stream) const;
  float RawLogit(const Group& group, int32_t row, TokenId token, const ResultBuffer& results) const;

  const int32_t group_;
  const int32_t vocab_;
  std::span<const SampleInput> inputs_;
  ResultArray<int32_t> tokens_;
  std::vector<Group> groups_;
  std::vector<int32_t> report_;   // per input: its place in its group's `report`, or -1
  std::vector<LogitEdit> edits_;  // of all groups
};

}  // namespace sluice::cuda
