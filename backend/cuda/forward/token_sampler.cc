#include "backend/cuda/forward/token_sampler.h"

#include <algorithm>
#include <map>

#include "absl/strings/str_cat.h"
#include "backend/cuda/device/status.h"
#include "backend/cuda/kernels/pick_logits.h"
#include "scheduler/base/check.h"
#include "scheduler/base/status_macros.h"

namespace sluice::cuda {
namespace {

bool Masks(const SampleInput& input) {
  return input.output_index < input.params->min_tokens && !input.params->stop_ids.empty();
}

SampleRow RowOf(const SampleInput& input) {
  SampleRow row;
  row.temperature = input.params->temperature;
  row.top_p = input.params->top_p;
  row.min_p = input.params->min_p;
  row.top_k = input.params->top_k;
  row.seed = input.params->seed;
  row.output_index = input.output_index;
  return row;
}

}  // namespace

void TokenSampler::Prepare(std::span<const SampleInput> inputs, ControlBuffer& control,
                           ResultBuffer& results) {
  inputs_ = inputs;
  groups_.clear();
  edits_.clear();
  report_.clear();
  tokens_ = results.Add<int32_t>(inputs.size());
  for (size_t first = 0; first < inputs.size(); first += static_cast<size_t>(group_)) {
    PrepareGroup(first, control, results);
  }
}

void TokenSampler::PrepareGroup(size_t first, ControlBuffer& control, ResultBuffer& results) {
  const std::span<const SampleInput> inputs =
      inputs_.subspan(first, std::min(static_cast<size_t>(group_), inputs_.size() - first));
  Group group;
  group.first_edit = edits_.size();
  std::vector<SampleRow> samples;
  std::vector<int32_t> report;
  for (const SampleInput& input : inputs) {
    const auto row = static_cast<int32_t>(samples.size());
    samples.push_back(RowOf(input));
    AddEdits(row, input);
    const int32_t wanted = input.params->logprobs;
    report_.push_back(wanted < 0 ? -1 : static_cast<int32_t>(report.size()));
    if (wanted < 0) continue;
    report.push_back(row);
    group.top = std::max(group.top, std::min(wanted, vocab_));
  }
  group.samples = control.Add(std::span<const SampleRow>(samples));
  group.edits = control.Add(std::span<const LogitEdit>(edits_).subspan(group.first_edit));
  group.report = control.Add(std::span<const int32_t>(report));
  group.tokens = {tokens_.offset + first * sizeof(int32_t), samples.size()};
  group.picked = results.Add<float>(samples.size());
  group.before = results.Add<float>(static_cast<size_t>(group.edits.count));
  group.log_sum = results.Add<float>(report.size());
  group.top_tokens = results.Add<int32_t>(report.size() * static_cast<size_t>(group.top));
  group.top_logprobs = results.Add<float>(report.size() * static_cast<size_t>(group.top));
  groups_.push_back(group);
}

// One edit per token that a penalty or the mask of stop ids changes, in the order of tokens.
void TokenSampler::AddEdits(int32_t row, const SampleInput& input) {
  const SamplingParams& params = *input.params;
  if (!params.has_penalties() && !Masks(input)) return;
  std::map<TokenId, LogitEdit> edits;
  const auto edit = [&](TokenId token) -> LogitEdit* {
    if (token < 0 || token >= vocab_) return nullptr;
    LogitEdit& e = edits[token];
    e.row = row;
    e.token = token;
    return &e;
  };
  if (params.repetition_penalty != 1.0F) {
    for (const TokenId token : input.tokens) {
      if (LogitEdit* e = edit(token)) e->repetition = params.repetition_penalty;
    }
  }
  if (params.presence_penalty != 0.0F || params.frequency_penalty != 0.0F) {
    SLUICE_CHECK(input.prompt <= static_cast<int64_t>(input.tokens.size()));
    for (const TokenId token : input.tokens.subspan(static_cast<size_t>(input.prompt))) {
      LogitEdit* const e = edit(token);
      if (e == nullptr) continue;
      e->presence = params.presence_penalty;
      e->frequency = params.frequency_penalty;
      ++e->times;
    }
  }
  if (Masks(input)) {
    for (const TokenId token : params.stop_ids) {
      if (LogitEdit* e = edit(token)) e->masked = 1;
    }
  }
  for (const auto& [token, e] : edits) edits_.push_back(e);
}

absl::Status TokenSampler::Draw(int32_t index, float* logits, const ControlBuffer& control,
                                const ResultBuffer& results, cudaStream_t stream) {
  const Group& group = groups_[static_cast<size_t>(index)];
  SLUICE_RETURN_IF_ERROR(ReportLogprobs(group, logits, control, results, stream));
  LogitEditParams edit;
  edit.logits = logits;
  edit.edits = control.At(group.edits);
  edit.before = results.Device(group.before);
  edit.count = group.edits.count;
  edit.vocab = vocab_;
  SLUICE_RETURN_IF_ERROR(CudaStatus(LaunchLogitEdits(edit, stream), "penalties and masks"));
  SampleParams sample;
  sample.logits = logits;
  sample.rows = control.At(group.samples);
  sample.tokens = results.Device(group.tokens);
  sample.count = group.samples.count;
  sample.vocab = vocab_;
  SLUICE_RETURN_IF_ERROR(CudaStatus(LaunchSample(sample, stream), "sampling"));
  if (group.report.count == 0) return absl::OkStatus();
  PickLogitsParams pick;
  pick.logits = logits;
  pick.tokens = results.Device(group.tokens);
  pick.out = results.Device(group.picked);
  pick.count = group.samples.count;
  pick.vocab = vocab_;
  return CudaStatus(LaunchPickLogits(pick, stream), "logits of the drawn tokens");
}

absl::Status TokenSampler::ReportLogprobs(const Group& group, float* logits,
                                          const ControlBuffer& control, const ResultBuffer& results,
                                          cudaStream_t stream) const {
  LogprobParams logprobs;
  logprobs.logits = logits;
  logprobs.rows = control.At(group.report);
  logprobs.log_sum = results.Device(group.log_sum);
  logprobs.tokens = results.Device(group.top_tokens);
  logprobs.logprobs = results.Device(group.top_logprobs);
  logprobs.count = group.report.count;
  logprobs.top = group.top;
  logprobs.vocab = vocab_;
  return CudaStatus(LaunchLogprobs(logprobs, stream), "log-probabilities");
}

// The logit of `token` as the model gave it.
float TokenSampler::RawLogit(const Group& group, int32_t row, TokenId token,
                             const ResultBuffer& results) const {
  for (int32_t i = 0; i < group.edits.count; ++i) {
    const LogitEdit& edit = edits_[group.first_edit + static_cast<size_t>(i)];
    if (edit.row == row && edit.token == token) {
      return results.Host(group.before)[static_cast<size_t>(i)];
    }
  }
  return results.Host(group.picked)[static_cast<size_t>(row)];
}

absl::StatusOr<SampledToken> TokenSampler::Take(size_t i, const ResultBuffer& results) const {
  const auto row = static_cast<int32_t>(i % static_cast<size_t>(group_));
  const Group& group = groups_[i / static_cast<size_t>(group_)];
  const SampleInput& input = inputs_[i];
  SampledToken sampled;
  sampled.token = results.Host(group.tokens)[static_cast<size_t>(row)];
  if (sampled.token < 0) {
    const bool changed = input.params->has_penalties() || Masks(input);
    return absl::InternalError(
        absl::StrCat("the model's logits are not finite",
                     changed ? ", or penalties and min_tokens leave no token to draw" : "",
                     "; is the checkpoint damaged?"));
  }
  if (report_[i] < 0) return sampled;
  const auto report = static_cast<size_t>(report_[i]);
  const double log_sum = static_cast<double>(results.Host(group.log_sum)[report]);
  sampled.logprob = static_cast<float>(
      static_cast<double>(RawLogit(group, row, sampled.token, results)) - log_sum);
  const auto wanted = static_cast<size_t>(std::min(input.params->logprobs, vocab_));
  for (size_t t = 0; t < wanted; ++t) {
    const size_t at = report * static_cast<size_t>(group.top) + t;
    sampled.top.push_back(
        {results.Host(group.top_tokens)[at], results.Host(group.top_logprobs)[at]});
  }
  return sampled;
}

}  // namespace sluice::cuda
