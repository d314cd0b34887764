#include "service/grpc/request_checks.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <algorithm>
#include <string_view>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "scheduler/base/status_macros.h"

namespace sluice {
namespace {

constexpr size_t kMaxRequestIdBytes = 128;
constexpr size_t kMaxTenantBytes = 64;
constexpr size_t kMaxSaltBytes = 128;
constexpr int kMaxStops = 16;
constexpr size_t kMaxStopBytes = 256;
constexpr int kMaxStopIds = 64;
constexpr uint32_t kMaxSamples = 16;
constexpr uint32_t kMaxLogprobs = 20;
constexpr int32_t kMaxPriority = 100;

// No vocabulary packs more bytes than this into the average token, so a longer text cannot fit and
// is refused before it is tokenized.
constexpr int64_t kMaxBytesPerToken = 256;

template <class... Args>
absl::Status Invalid(const Args&... args) {
  return absl::InvalidArgumentError(absl::StrCat(args...));
}

// Shortest text that tells a float from its neighbours, so that no message says "2 is not in
// [-2, 2]".
std::string Exact(float value) { return absl::StrFormat("%.9g", static_cast<double>(value)); }

// `value` in [low, high], or in (low, high] if `open`. NaN is outside.
absl::Status CheckRange(const char* field, float value, float low, float high, bool open,
                        const char* remedy) {
  const bool above = open ? value > low : value >= low;
  if (above && value <= high) return absl::OkStatus();
  return Invalid(field, ": ", Exact(value), " is not in ", open ? "(" : "[", Exact(low), ", ",
                 Exact(high), "]; ", remedy);
}

absl::Status CheckLength(const char* field, const std::string& value, size_t limit) {
  if (value.size() <= limit) return absl::OkStatus();
  return Invalid(field, ": ", value.size(), " bytes, at most ", limit, " allowed; shorten it");
}

absl::StatusOr<std::vector<TokenId>> CheckPrompt(const v1::GenerateRequest& request,
                                                 const ModelLimits& limits,
                                                 const Tokenizer& tokenizer) {
  const int64_t max_len = limits.max_model_len.value();
  const auto too_long = [&](const std::string& what) {
    return Invalid("prompt: ", what, "; max_model_len is ", max_len,
                   ", of which at least 1 is for the output, so at most ", max_len - 1,
                   "; shorten the prompt");
  };
  std::vector<TokenId> prompt;
  switch (request.prompt_case()) {
    case v1::GenerateRequest::PROMPT_NOT_SET:
      return Invalid("prompt: not set; set text or token_ids");
    case v1::GenerateRequest::kTokenIds: {
      // Length first: a hostile length must not cost a walk.
      if (const int64_t n = request.token_ids().ids_size(); n >= max_len) {
        return too_long(absl::StrCat(n, " tokens"));
      }
      SLUICE_ASSIGN_OR_RETURN(
          prompt, CheckTokenIds(request.token_ids().ids(), "prompt.token_ids", limits.vocab_size));
      break;
    }
    case v1::GenerateRequest::kText: {
      SLUICE_RETURN_IF_ERROR(CheckHasText(tokenizer, "prompt.text"));
      const auto bytes = static_cast<int64_t>(request.text().size());
      if (bytes > max_len * kMaxBytesPerToken) {
        return too_long(absl::StrCat("text of ", bytes, " bytes, above ", kMaxBytesPerToken,
                                     " bytes per token of context"));
      }
      prompt = tokenizer.Encode(request.text(), /*add_special=*/true, /*parse_special=*/true);
      break;
    }
  }
  if (prompt.empty()) return Invalid("prompt: holds 0 tokens; at least 1 is needed");
  if (static_cast<int64_t>(prompt.size()) >= max_len) {
    return too_long(absl::StrCat(prompt.size(), " tokens"));
  }
  if (*std::max_element(prompt.begin(), prompt.end()) >= limits.vocab_size) {
    return absl::InternalError(
        absl::StrCat("tokenizer: gave an id above the model's vocabulary of ", limits.vocab_size,
                     "; tokenizer.json and config.json of the model do not belong together"));
  }
  return prompt;
}

absl::StatusOr<SamplingParams> CheckSampling(const v1::GenerateRequest& request,
                                             const ModelLimits& limits,
                                             const SamplingDefaults& defaults,
                                             const Arrival& arrival) {
  const v1::Sampling& in = request.sampling();
  SamplingParams out;
  out.temperature = in.has_temperature() ? in.temperature() : defaults.temperature.value_or(1.0F);
  out.top_p = in.has_top_p() ? in.top_p() : defaults.top_p.value_or(1.0F);
  out.min_p = in.has_min_p() ? in.min_p() : defaults.min_p.value_or(0.0F);
  out.repetition_penalty = in.has_repetition_penalty() ? in.repetition_penalty()
                                                       : defaults.repetition_penalty.value_or(1.0F);
  out.presence_penalty = in.presence_penalty();
  out.frequency_penalty = in.frequency_penalty();
  // More than the vocabulary is all of it.
  const auto vocab = static_cast<uint32_t>(limits.vocab_size);
  out.top_k = in.has_top_k() ? static_cast<int32_t>(std::min(in.top_k(), vocab))
                             : std::min(defaults.top_k.value_or(0), limits.vocab_size);
  out.seed = in.has_seed() ? in.seed() : arrival.seed;

  SLUICE_RETURN_IF_ERROR(CheckRange("sampling.temperature", out.temperature, 0, 100, false,
                                    "0 is greedy, 1 the model's own distribution"));
  SLUICE_RETURN_IF_ERROR(CheckRange("sampling.top_p", out.top_p, 0, 1, true, "1 turns it off"));
  SLUICE_RETURN_IF_ERROR(CheckRange("sampling.min_p", out.min_p, 0, 1, false, "0 turns it off"));
  SLUICE_RETURN_IF_ERROR(CheckRange("sampling.repetition_penalty", out.repetition_penalty, 0, 10,
                                    true, "1 turns it off"));
  SLUICE_RETURN_IF_ERROR(CheckRange("sampling.presence_penalty", out.presence_penalty, -2, 2, false,
                                    "0 turns it off"));
  SLUICE_RETURN_IF_ERROR(CheckRange("sampling.frequency_penalty", out.frequency_penalty, -2, 2,
                                    false, "0 turns it off"));
  if (request.has_logprobs()) {
    if (request.logprobs() > kMaxLogprobs) {
      return Invalid("logprobs: ", request.logprobs(), " is not in [0, ", kMaxLogprobs,
                     "]; 0 gives the chosen token's only");
    }
    out.logprobs = static_cast<int32_t>(std::min(request.logprobs(), vocab));
  }
  return out;
}

// Sets min_tokens and stop_ids, and returns the most output tokens.
absl::StatusOr<Tokens> CheckStopping(const v1::Stopping& in, const ModelLimits& limits,
                                     Tokens prompt, SamplingParams* out) {
  if (in.has_max_tokens() && in.max_tokens() == 0) {
    return Invalid("stopping.max_tokens: 0 is not at least 1; leave it unset for no limit");
  }
  const int64_t room = (limits.max_model_len - prompt).value();
  const int64_t most = in.has_max_tokens() ? std::min<int64_t>(in.max_tokens(), room) : room;
  if (in.has_max_tokens() && in.min_tokens() > in.max_tokens()) {
    return Invalid("stopping.min_tokens: ", in.min_tokens(), " is above max_tokens ",
                   in.max_tokens(), "; lower it");
  }
  if (in.min_tokens() > most) {
    return Invalid("stopping.min_tokens: ", in.min_tokens(), " is above ", most,
                   ", all that max_model_len ", limits.max_model_len.value(),
                   " leaves after a prompt of ", prompt.value(), " tokens; lower it");
  }
  out->min_tokens = static_cast<int32_t>(in.min_tokens());

  if (in.stop_token_ids_size() > kMaxStopIds) {
    return Invalid("stopping.stop_token_ids: ", in.stop_token_ids_size(), " ids, at most ",
                   kMaxStopIds, " allowed");
  }
  SLUICE_ASSIGN_OR_RETURN(
      out->stop_ids,
      CheckTokenIds(in.stop_token_ids(), "stopping.stop_token_ids", limits.vocab_size));
  if (!in.ignore_eos()) {
    out->stop_ids.insert(out->stop_ids.end(), limits.eos_ids.begin(), limits.eos_ids.end());
  }
  std::sort(out->stop_ids.begin(), out->stop_ids.end());
  out->stop_ids.erase(std::unique(out->stop_ids.begin(), out->stop_ids.end()), out->stop_ids.end());
  return Tokens(most);
}

absl::StatusOr<std::shared_ptr<const StopMatcher>> CheckStops(const v1::Stopping& in) {
  if (in.stop_size() > kMaxStops) {
    return Invalid("stopping.stop: ", in.stop_size(), " strings, at most ", kMaxStops, " allowed");
  }
  for (int i = 0; i < in.stop_size(); ++i) {
    const size_t size = in.stop(i).size();
    if (size == 0 || size > kMaxStopBytes) {
      return Invalid("stopping.stop[", i, "]: ", size, " bytes is not in [1, ", kMaxStopBytes,
                     "]; remove or shorten it");
    }
  }
  return std::make_shared<const StopMatcher>(
      std::vector<std::string>(in.stop().begin(), in.stop().end()));
}

absl::Status CheckScheduling(const v1::Scheduling& in, const Arrival& arrival, RequestSpec* spec) {
  SLUICE_RETURN_IF_ERROR(CheckLength("scheduling.tenant", in.tenant(), kMaxTenantBytes));
  constexpr std::string_view kAllowed =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-";
  if (const size_t bad = in.tenant().find_first_not_of(kAllowed); bad != std::string::npos) {
    return Invalid("scheduling.tenant: byte ", bad,
                   absl::StrFormat(" (0x%02x)", static_cast<unsigned char>(in.tenant()[bad])),
                   " is not one of [A-Za-z0-9._-]; rename the tenant");
  }
  if (in.priority() < -kMaxPriority || in.priority() > kMaxPriority) {
    return Invalid("scheduling.priority: ", in.priority(), " is not in [", -kMaxPriority, ", ",
                   kMaxPriority, "]; 0 is normal");
  }
  SLUICE_RETURN_IF_ERROR(CheckLength("scheduling.cache_salt", in.cache_salt(), kMaxSaltBytes));
  spec->tenant = in.tenant().empty() ? "default" : in.tenant();
  spec->priority = in.priority();
  // Tenants share KV of equal prompts unless they ask for a salt of their own.
  const std::string& salt = in.cache_salt();
  spec->cache_salt = salt.empty() ? 0 : XXH3_64bits(salt.data(), salt.size());
  if (in.ttft_deadline_ms() > 0) {
    spec->first_token_deadline = arrival.now + absl::Milliseconds(int64_t{in.ttft_deadline_ms()});
  }
  return absl::OkStatus();
}

}  // namespace

ModelLimits LimitsOf(const v1::ServerInfo& info) {
  ModelLimits limits;
  limits.vocab_size = static_cast<int32_t>(info.vocab_size());
  limits.max_model_len = Tokens(info.max_model_len());
  limits.eos_ids.assign(info.eos_token_ids().begin(), info.eos_token_ids().end());
  return limits;
}

absl::Status CheckHasText(const Tokenizer& tokenizer, const char* field) {
  if (tokenizer.has_text()) return absl::OkStatus();
  return absl::FailedPreconditionError(absl::StrCat(
      field, ": this model has no tokenizer.json, so the server cannot read text; send token ids"));
}

absl::StatusOr<std::vector<TokenId>> CheckTokenIds(
    const google::protobuf::RepeatedField<uint32_t>& ids, const std::string& field,
    int32_t vocab_size) {
  std::vector<TokenId> checked;
  checked.reserve(static_cast<size_t>(ids.size()));
  for (int i = 0; i < ids.size(); ++i) {
    if (ids[i] >= static_cast<uint32_t>(vocab_size)) {
      return Invalid(field, "[", i, "]: ", ids[i], " is not in [0, ", vocab_size,
                     "), the model's vocabulary; use ids of this model's tokenizer");
    }
    checked.push_back(static_cast<TokenId>(ids[i]));
  }
  return checked;
}

absl::StatusOr<ParsedRequest> CheckGenerateRequest(const v1::GenerateRequest& request,
                                                   const ModelLimits& limits,
                                                   const SamplingDefaults& defaults,
                                                   const Tokenizer& tokenizer,
                                                   const Arrival& arrival) {
  ParsedRequest parsed;
  RequestSpec spec;
  SLUICE_RETURN_IF_ERROR(CheckLength("request_id", request.request_id(), kMaxRequestIdBytes));
  parsed.request_id = request.request_id().empty() ? arrival.request_id : request.request_id();
  if (request.n() > kMaxSamples) {
    return Invalid("n: ", request.n(), " is not in [1, ", kMaxSamples,
                   "]; send several requests instead");
  }
  SLUICE_RETURN_IF_ERROR(CheckScheduling(request.scheduling(), arrival, &spec));
  SLUICE_ASSIGN_OR_RETURN(SamplingParams sampling,
                          CheckSampling(request, limits, defaults, arrival));
  SLUICE_ASSIGN_OR_RETURN(parsed.stops, CheckStops(request.stopping()));
  if (request.stopping().stop_size() > 0) {
    SLUICE_RETURN_IF_ERROR(CheckHasText(tokenizer, "stopping.stop"));
  }
  // The prompt last: it is the expensive part.
  SLUICE_ASSIGN_OR_RETURN(spec.prompt, CheckPrompt(request, limits, tokenizer));
  SLUICE_ASSIGN_OR_RETURN(
      spec.max_new, CheckStopping(request.stopping(), limits,
                                  Tokens(static_cast<int64_t>(spec.prompt.size())), &sampling));
  parsed.include_stop = request.stopping().include_stop();

  const uint32_t n = std::max(1U, request.n());
  for (uint32_t i = 0; i < n; ++i) {
    auto params = std::make_shared<SamplingParams>(sampling);
    params->seed += i;
    spec.sampling = std::move(params);
    parsed.samples.push_back(spec);
  }
  return parsed;
}

absl::StatusOr<RequestSpec> CheckExplainRequest(v1::ExplainRequest request,
                                                const ModelLimits& limits,
                                                const Tokenizer& tokenizer, absl::Time now) {
  if (request.has_max_tokens() && request.max_tokens() == 0) {
    return Invalid("max_tokens: 0 is not at least 1; leave it unset for no limit");
  }
  v1::GenerateRequest generate;
  if (request.has_text()) generate.set_text(std::move(*request.mutable_text()));
  if (request.has_token_ids()) generate.mutable_token_ids()->Swap(request.mutable_token_ids());
  generate.mutable_scheduling()->Swap(request.mutable_scheduling());
  if (request.has_max_tokens()) generate.mutable_stopping()->set_max_tokens(request.max_tokens());
  SLUICE_ASSIGN_OR_RETURN(ParsedRequest parsed,
                          CheckGenerateRequest(generate, limits, {}, tokenizer, {now, 0, ""}));
  return std::move(parsed.samples.front());
}

}  // namespace sluice
