#include "service/grpc/vllm_dialect.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "scheduler/base/status_macros.h"
#include "service/grpc/vllm_request.h"

namespace sluice {
namespace {

using vllm::grpc::engine::GenerateComplete;
using vllm::grpc::engine::GenerateStreamChunk;
using vllm::grpc::engine::OutputLogProbs;

const char* ReasonName(v1::FinishReason reason) {
  switch (reason) {
    case v1::FINISH_REASON_STOP:
      return "stop";
    case v1::FINISH_REASON_LENGTH:
      return "length";
    default:
      return "abort";
  }
}

void AddLogprobs(const v1::Output& output, OutputLogProbs* out) {
  for (int i = 0; i < output.logprobs_size(); ++i) {
    const v1::Logprobs& token = output.logprobs(i);
    out->add_token_logprobs(token.logprob());
    out->add_token_ids(output.token_ids(i));
    auto* top = out->add_top_logprobs();
    for (const v1::TopLogprob& likely : token.top()) {
      top->add_values(likely.logprob());
      top->add_token_ids(likely.token_id());
    }
  }
}

}  // namespace

absl::Status VllmRequests::Add(const std::string& id, const std::weak_ptr<GenerateCall>& call) {
  std::lock_guard<std::mutex> lock(mu_);
  if (calls_.try_emplace(id, call).second) return absl::OkStatus();
  return absl::AlreadyExistsError(
      absl::StrCat("request_id: \"", id, "\" is the id of a live request; choose another one"));
}

void VllmRequests::Remove(const std::string& id) {
  std::lock_guard<std::mutex> lock(mu_);
  calls_.erase(id);
}

void VllmRequests::Abort(const std::string& id) {
  std::shared_ptr<GenerateCall> call;
  {
    std::lock_guard<std::mutex> lock(mu_);
    const auto it = calls_.find(id);
    if (it != calls_.end()) call = it->second.lock();
  }
  if (call != nullptr) call->Abort();
}

VllmDialect::~VllmDialect() { FreeId(); }

void VllmDialect::FreeId() {
  if (!registered_.empty()) requests_.Remove(std::exchange(registered_, ""));
}

absl::StatusOr<v1::GenerateRequest> VllmDialect::Read(const grpc::ByteBuffer& bytes,
                                                      const std::weak_ptr<GenerateCall>& call) {
  vllm::grpc::engine::GenerateRequest in;
  SLUICE_RETURN_IF_ERROR(ParseMessage(bytes, &in));
  stream_ = in.stream();
  logprobs_ = in.sampling_params().has_logprobs();
  SLUICE_ASSIGN_OR_RETURN(v1::GenerateRequest request, TranslateVllmRequest(std::move(in)));
  const auto& stops = request.stopping().stop_token_ids();
  stop_ids_.assign(stops.begin(), stops.end());
  running_ = std::max(1U, request.n());
  if (!request.request_id().empty()) {
    SLUICE_RETURN_IF_ERROR(requests_.Add(request.request_id(), call));
    registered_ = request.request_id();
  }
  return request;
}

std::optional<grpc::ByteBuffer> VllmDialect::Write(const v1::GenerateResponse& message,
                                                   const SampleFacts& facts) {
  if (message.has_finished()) {
    // Whoever has the last answer may use the id again.
    if (--running_ == 0) FreeId();
    return WriteComplete(message.finished());
  }
  const v1::Output& output = message.output();
  if (totals_.size() <= output.index()) totals_.resize(output.index() + 1);
  Total& total = totals_[output.index()];
  total.ids.MergeFrom(output.token_ids());
  if (stream_) return WriteChunk(output, facts);
  AddLogprobs(output, &total.logprobs);
  return std::nullopt;
}

std::optional<grpc::ByteBuffer> VllmDialect::WriteChunk(const v1::Output& output,
                                                        const SampleFacts& facts) {
  if (output.token_ids().empty()) return std::nullopt;  // text alone
  vllm::grpc::engine::GenerateResponse response;
  GenerateStreamChunk* chunk = response.mutable_chunk();
  *chunk->mutable_token_ids() = output.token_ids();
  chunk->set_prompt_tokens(facts.prompt_tokens);
  chunk->set_completion_tokens(static_cast<uint32_t>(output.token_ids_size()));
  chunk->set_cached_tokens(facts.cached_tokens);
  if (logprobs_) AddLogprobs(output, chunk->mutable_output_logprobs());
  chunk->set_index(output.index());
  return SerializeMessage(response);
}

grpc::ByteBuffer VllmDialect::WriteComplete(const v1::Finished& finished) {
  const v1::Usage& usage = finished.usage();
  if (totals_.size() <= finished.index()) totals_.resize(finished.index() + 1);
  Total& total = totals_[finished.index()];
  vllm::grpc::engine::GenerateResponse response;
  GenerateComplete* complete = response.mutable_complete();
  complete->set_index(finished.index());
  complete->set_finish_reason(ReasonName(finished.finish_reason()));
  complete->set_prompt_tokens(usage.prompt_tokens());
  complete->set_completion_tokens(static_cast<uint32_t>(total.ids.size()));
  complete->set_cached_tokens(usage.cached_device_tokens() + usage.cached_host_tokens() +
                              usage.cached_disk_tokens() + usage.cached_remote_tokens());
  complete->mutable_output_ids()->Swap(&total.ids);
  if (logprobs_ && !stream_) complete->mutable_output_logprobs()->Swap(&total.logprobs);
  if (finished.has_matched_stop()) complete->set_matched_stop_str(finished.matched_stop());
  if (finished.has_matched_stop_token_id() &&
      std::find(stop_ids_.begin(), stop_ids_.end(), finished.matched_stop_token_id()) !=
          stop_ids_.end()) {
    complete->set_matched_token_id(finished.matched_stop_token_id());
  }
  return SerializeMessage(response);
}

}  // namespace sluice
