#include "service/grpc/sample_output.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "scheduler/base/check.h"
#include "service/grpc/finish_report.h"

namespace sluice {

SampleOutput::SampleOutput(uint32_t index, const Tokenizer& tokenizer, const ParsedRequest& parsed,
                           const SamplingParams& sampling)
    : index_(index),
      tokenizer_(tokenizer),
      logprobs_(sampling.logprobs >= 0),
      seed_(sampling.seed),
      text_(tokenizer, parsed.stops, sampling.stop_ids, parsed.include_stop) {
  facts_.prompt_tokens = static_cast<uint32_t>(parsed.samples[index].prompt.size());
}

bool SampleOutput::Apply(Event event) {
  SLUICE_CHECK(!finish_.has_value());
  const bool stopped_before = text_.stopped();
  if (event.finish.has_value()) {
    Tokens cached;
    for (const Tokens tier : event.finish->stats.cached) cached += tier;
    facts_.cached_tokens = static_cast<uint32_t>(cached.value());
  } else if (event.token.has_value()) {
    facts_.cached_tokens = static_cast<uint32_t>(event.cached.value());
  }
  // Tokens drawn between a stop string and the cancellation are nobody's.
  if (event.token.has_value() && !stopped_before) AddToken(*event.token);
  if (event.finish.has_value()) {
    pending_.mutable_text()->append(text_.Finish());
    finish_ = std::move(event.finish);
  }
  return text_.stopped() && !stopped_before && !finish_.has_value();
}

absl::Status SampleOutput::error() const {
  if (!finish_.has_value() || text_.stopped() || WasAborted()) return absl::OkStatus();
  return finish_->status;
}

bool SampleOutput::WasAborted() const {
  return aborted_ && finish_.has_value() && finish_->reason == FinishReason::kCancelled &&
         absl::IsCancelled(finish_->status);
}

v1::Output SampleOutput::TakeOutput() {
  pending_.set_index(index_);
  return std::exchange(pending_, {});
}

v1::Finished SampleOutput::MakeFinished(const std::string& request_id, bool link_emulated) const {
  SLUICE_CHECK(ended());
  v1::Finished finished;
  finished.set_index(index_);
  finished.set_seed(seed_);
  finished.set_request_id(request_id);
  if (text_.stopped()) {
    finished.set_finish_reason(v1::FINISH_REASON_STOP);
    finished.set_matched_stop(*text_.matched());
  } else if (finish_->reason == FinishReason::kStop) {
    finished.set_finish_reason(v1::FINISH_REASON_STOP);
    finished.set_matched_stop_token_id(static_cast<uint32_t>(last_token_));
  } else if (!WasAborted()) {
    finished.set_finish_reason(v1::FINISH_REASON_LENGTH);
  }
  *finished.mutable_usage() = MakeUsage(finish_->stats, output_tokens_);
  *finished.mutable_timing() = MakeTiming(finish_->stats, link_emulated);
  return finished;
}

void SampleOutput::AddToken(const SampledToken& token) {
  ++output_tokens_;
  last_token_ = token.token;
  pending_.add_token_ids(static_cast<uint32_t>(token.token));
  pending_.mutable_text()->append(text_.Push(token.token));
  if (logprobs_) AddLogprobs(token);
}

void SampleOutput::AddLogprobs(const SampledToken& token) {
  v1::Logprobs* logprobs = pending_.add_logprobs();
  logprobs->set_logprob(token.logprob);
  for (const TokenLogprob& likely : token.top) {
    v1::TopLogprob* top = logprobs->add_top();
    top->set_token_id(static_cast<uint32_t>(likely.token));
    top->set_logprob(likely.logprob);
    top->set_text(tokenizer_.Decode({likely.token}, /*skip_special=*/false));
  }
}

}  // namespace sluice
