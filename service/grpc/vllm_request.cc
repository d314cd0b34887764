#include "service/grpc/vllm_request.h"

#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "scheduler/base/status_macros.h"

namespace sluice {
namespace {

using vllm::grpc::engine::SamplingParams;
using VllmRequest = vllm::grpc::engine::GenerateRequest;

template <class... Args>
absl::Status Invalid(const Args&... args) {
  return absl::InvalidArgumentError(absl::StrCat(args...));
}

absl::Status CheckSupported(const VllmRequest& in) {
  const SamplingParams& sampling = in.sampling_params();
  if (sampling.constraint_case() != SamplingParams::CONSTRAINT_NOT_SET) {
    const auto* field = SamplingParams::descriptor()->FindFieldByNumber(sampling.constraint_case());
    return Invalid("sampling_params.", std::string(field->name()),
                   ": output cannot be constrained by this server; leave it unset");
  }
  if (sampling.has_prompt_logprobs()) {
    return Invalid("sampling_params.prompt_logprobs: ", sampling.prompt_logprobs(),
                   ": this server gives log-probabilities of the output only; leave it unset");
  }
  if (sampling.logit_bias_size() > 0) {
    return Invalid("sampling_params.logit_bias: ", sampling.logit_bias_size(),
                   " entries: not supported by this server; leave it empty");
  }
  if (in.has_mm_inputs()) {
    return Invalid("mm_inputs: this model reads text only; leave it unset");
  }
  if (in.has_kv_transfer_params() || !in.kv_transfer_params_json().empty()) {
    return Invalid(
        "kv_transfer_params: this server transfers no KV to or from others; leave it "
        "unset");
  }
  if (in.data_parallel_rank() != 0) {
    return Invalid("data_parallel_rank: ", in.data_parallel_rank(),
                   " is not 0, the only rank of this server");
  }
  return absl::OkStatus();
}

absl::Status TranslatePrompt(VllmRequest* in, v1::GenerateRequest* out) {
  const bool truncate = in->sampling_params().has_truncate_prompt_tokens();
  const int32_t keep = in->sampling_params().truncate_prompt_tokens();
  if (truncate && keep < 1) {
    return Invalid("sampling_params.truncate_prompt_tokens: ", keep,
                   " is not at least 1; leave it unset to keep the whole prompt");
  }
  switch (in->input_case()) {
    case VllmRequest::INPUT_NOT_SET:
      return Invalid("input: not set; set tokenized or text");
    case VllmRequest::kText:
      if (truncate) {
        return Invalid(
            "sampling_params.truncate_prompt_tokens: works on ids; send the prompt as "
            "tokenized.input_ids");
      }
      out->set_text(std::move(*in->mutable_text()));
      return absl::OkStatus();
    case VllmRequest::kTokenized:
      break;
  }
  auto* ids = in->mutable_tokenized()->mutable_input_ids();
  if (ids->empty()) return Invalid("tokenized.input_ids: holds 0 ids; at least 1 is needed");
  if (truncate && ids->size() > keep) {
    ids->erase(ids->begin(), ids->begin() + (ids->size() - keep));
  }
  out->mutable_token_ids()->mutable_ids()->Swap(ids);
  return absl::OkStatus();
}

absl::Status TranslateSampling(const SamplingParams& in, v1::GenerateRequest* out) {
  v1::Sampling* sampling = out->mutable_sampling();
  sampling->set_temperature(in.has_temperature() ? in.temperature() : 1.0F);
  sampling->set_top_p(in.top_p() == 0 ? 1.0F : in.top_p());
  sampling->set_top_k(in.top_k());
  sampling->set_min_p(in.min_p());
  sampling->set_repetition_penalty(in.repetition_penalty() == 0 ? 1.0F : in.repetition_penalty());
  sampling->set_presence_penalty(in.presence_penalty());
  sampling->set_frequency_penalty(in.frequency_penalty());
  if (in.has_seed() && in.seed() != -1) {
    sampling->set_seed(static_cast<uint64_t>(int64_t{in.seed()}));
  }
  out->set_n(in.n());
  if (!in.has_logprobs()) return absl::OkStatus();
  if (in.logprobs() < 0) {
    return Invalid("sampling_params.logprobs: ", in.logprobs(),
                   " is not at least 0; those of the whole vocabulary are not given");
  }
  out->set_logprobs(static_cast<uint32_t>(in.logprobs()));
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<v1::GenerateRequest> TranslateVllmRequest(VllmRequest in) {
  SLUICE_RETURN_IF_ERROR(CheckSupported(in));
  v1::GenerateRequest out;
  out.set_request_id(std::move(*in.mutable_request_id()));
  SLUICE_RETURN_IF_ERROR(TranslatePrompt(&in, &out));
  SamplingParams& params = *in.mutable_sampling_params();
  SLUICE_RETURN_IF_ERROR(TranslateSampling(params, &out));
  v1::Stopping* stopping = out.mutable_stopping();
  if (params.has_max_tokens()) stopping->set_max_tokens(params.max_tokens());
  stopping->set_min_tokens(params.min_tokens());
  stopping->mutable_stop()->Swap(params.mutable_stop());
  stopping->mutable_stop_token_ids()->Swap(params.mutable_stop_token_ids());
  stopping->set_ignore_eos(params.ignore_eos());
  stopping->set_include_stop(params.include_stop_str_in_output());
  return out;
}

}  // namespace sluice
