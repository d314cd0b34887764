#include "service/cli/client_call.h"

namespace sluice {
namespace {

SampleResult& SampleAt(CallResult& result, uint32_t index) {
  if (result.samples.size() <= index) result.samples.resize(index + 1);
  return result.samples[index];
}

// Times of one call, in the caller's clock.
class Stopwatch {
 public:
  explicit Stopwatch(CallResult& result) : result_(result), start_(MonotonicNow()) {}

  void OnOutput(const v1::Output& output) {
    const int count = output.token_ids_size();
    if (count == 0) return;
    const absl::Duration now = MonotonicNow() - start_;
    if (!result_.first_token.has_value()) result_.first_token = now;
    result_.last_token = now;
    if (output.index() != 0) return;
    const double gap = seen_ ? absl::ToDoubleSeconds(now - previous_) / count : 0;
    for (int i = seen_ ? 0 : 1; i < count; ++i) result_.token_gaps_s.push_back(gap);
    previous_ = now;
    seen_ = true;
  }
  void OnEnd() { result_.total = MonotonicNow() - start_; }

 private:
  CallResult& result_;
  const absl::Duration start_;
  absl::Duration previous_;
  bool seen_ = false;
};

nlohmann::json LogprobsJson(const std::vector<v1::Logprobs>& all) {
  nlohmann::json list = nlohmann::json::array();
  for (const v1::Logprobs& one : all) {
    nlohmann::json top = nlohmann::json::array();
    for (const v1::TopLogprob& t : one.top()) {
      top.push_back({{"token_id", t.token_id()}, {"logprob", t.logprob()}, {"text", t.text()}});
    }
    list.push_back({{"logprob", one.logprob()}, {"top", std::move(top)}});
  }
  return list;
}

nlohmann::json SampleJson(const SampleResult& sample) {
  nlohmann::json json = {{"output_ids", sample.ids}, {"text", sample.text}};
  if (!sample.logprobs.empty()) json["logprobs"] = LogprobsJson(sample.logprobs);
  if (!sample.finished.has_value()) return json;
  const v1::Finished& end = *sample.finished;
  json["finish_reason"] = FinishReasonName(end.finish_reason());
  if (end.matched_case() == v1::Finished::kMatchedStop) json["matched_stop"] = end.matched_stop();
  if (end.matched_case() == v1::Finished::kMatchedStopTokenId) {
    json["matched_stop_token_id"] = end.matched_stop_token_id();
  }
  json["usage"] = UsageJson(end.usage());
  json["timing"] = TimingJson(end.timing());
  json["seed"] = end.seed();
  json["request_id"] = end.request_id();
  return json;
}

}  // namespace

CallResult RunGenerate(v1::Inference::Stub& stub, const v1::GenerateRequest& request,
                       grpc::ClientContext& context,
                       const std::function<void(const v1::Output&)>& on_output) {
  CallResult result;
  Stopwatch stopwatch(result);
  std::unique_ptr<grpc::ClientReader<v1::GenerateResponse>> reader =
      stub.Generate(&context, request);
  v1::GenerateResponse response;
  while (reader->Read(&response)) {
    if (response.has_output()) {
      const v1::Output& output = response.output();
      stopwatch.OnOutput(output);
      SampleResult& sample = SampleAt(result, output.index());
      sample.text += output.text();
      sample.ids.insert(sample.ids.end(), output.token_ids().begin(), output.token_ids().end());
      sample.logprobs.insert(sample.logprobs.end(), output.logprobs().begin(),
                             output.logprobs().end());
      if (on_output) on_output(output);
    } else if (response.has_finished()) {
      SampleAt(result, response.finished().index()).finished = response.finished();
    }
  }
  result.status = reader->Finish();
  stopwatch.OnEnd();
  return result;
}

std::string FinishReasonName(v1::FinishReason reason) {
  switch (reason) {
    case v1::FINISH_REASON_STOP:
      return "stop";
    case v1::FINISH_REASON_LENGTH:
      return "length";
    default:
      return "unspecified";
  }
}

nlohmann::json UsageJson(const v1::Usage& u) {
  return {{"prompt_tokens", u.prompt_tokens()},
          {"output_tokens", u.output_tokens()},
          {"cached_device_tokens", u.cached_device_tokens()},
          {"cached_host_tokens", u.cached_host_tokens()},
          {"cached_disk_tokens", u.cached_disk_tokens()},
          {"cached_remote_tokens", u.cached_remote_tokens()},
          {"computed_tokens", u.computed_tokens()},
          {"recomputed_tokens", u.recomputed_tokens()},
          {"attended_in_place_tokens", u.attended_in_place_tokens()},
          {"loaded_bytes", u.loaded_bytes()}};
}

nlohmann::json TimingJson(const v1::Timing& t) {
  nlohmann::json json = {{"queue_s", t.queue_s()},
                         {"ttft_s", t.ttft_s()},
                         {"total_s", t.total_s()},
                         {"compute_s", t.compute_s()},
                         {"load_exposed_s", t.load_exposed_s()},
                         {"load_overlapped_s", t.load_overlapped_s()},
                         {"load_queued_s", t.load_queued_s()},
                         {"preemptions", t.preemptions()},
                         {"kappa_ratio", t.kappa_ratio()},
                         {"plan", t.plan()},
                         {"plan_reason", t.plan_reason()},
                         {"link_emulated", t.link_emulated()}};
  if (t.has_energy_j()) json["energy_j"] = t.energy_j();
  return json;
}

nlohmann::json ResultJson(const CallResult& result) {
  nlohmann::json json =
      SampleJson(result.samples.empty() ? SampleResult() : result.samples.front());
  if (result.samples.size() > 1) {
    nlohmann::json outputs = nlohmann::json::array();
    for (const SampleResult& sample : result.samples) outputs.push_back(SampleJson(sample));
    json["outputs"] = std::move(outputs);
  }
  return json;
}

}  // namespace sluice
