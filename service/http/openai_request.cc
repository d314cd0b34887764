#include "service/http/openai_request.h"

#include <algorithm>
#include <cstdint>
#include <utility>

#include "absl/strings/str_cat.h"
#include "scheduler/base/status_macros.h"
#include "service/http/body_fields.h"

namespace sluice {
namespace {

constexpr int64_t kMaxUint32 = UINT32_MAX;
// OpenAI's default for completions; chats go on to the end of the context.
constexpr uint32_t kDefaultCompletionTokens = 16;
constexpr size_t kMaxMessages = 10'000;

// Whether a value means that the feature is not used.
bool IsOff(const nlohmann::json& value) {
  if (value.is_boolean()) return !value.get<bool>();
  if (value.is_string()) return value.get<std::string>().empty();
  if (value.is_number()) return value.get<double>() == 0;
  return value.empty();  // null, [], {}
}

// Fields of OpenAI and vLLM that would change the answer, and that this server does not have.
constexpr const char* kUnsupported[] = {"tools",
                                        "functions",
                                        "logit_bias",
                                        "suffix",
                                        "echo",
                                        "audio",
                                        "web_search_options",
                                        "reasoning_effort",
                                        "prompt_logprobs",
                                        "truncate_prompt_tokens",
                                        "use_beam_search",
                                        "guided_json",
                                        "guided_regex",
                                        "guided_choice",
                                        "guided_grammar",
                                        "structured_outputs",
                                        "allowed_token_ids",
                                        "bad_words",
                                        "logits_processors",
                                        "chat_template",
                                        "documents",
                                        "continue_final_message",
                                        "prompt_embeds",
                                        "kv_transfer_params",
                                        "thinking_token_budget"};

absl::Status CheckUnsupported(const BodyFields& fields) {
  for (const char* name : kUnsupported) {
    const nlohmann::json* value = fields.Find(name);
    if (value == nullptr || IsOff(*value)) continue;
    return fields.Invalid(name, "is not supported by this server; leave it out");
  }
  // These have values that mean what happens anyway.
  for (const char* name : {"tool_choice", "function_call"}) {
    const nlohmann::json* value = fields.Find(name);
    if (value != nullptr && *value != "none" && *value != "auto") {
      return fields.Invalid(name, "tools are not supported by this server; leave it out");
    }
  }
  const nlohmann::json* format = fields.Find("response_format");
  if (format != nullptr && !(format->is_object() && format->value("type", "") == "text")) {
    return fields.Invalid("response_format", "only {\"type\": \"text\"} is supported");
  }
  const nlohmann::json* modalities = fields.Find("modalities");
  if (modalities != nullptr && *modalities != nlohmann::json::array({"text"})) {
    return fields.Invalid("modalities", "only [\"text\"] is supported");
  }
  for (const char* name : {"skip_special_tokens", "spaces_between_special_tokens"}) {
    SLUICE_ASSIGN_OR_RETURN(const std::optional<bool> on, fields.Bool(name));
    if (!on.value_or(true)) return fields.Invalid(name, "only true is supported");
  }
  return absl::OkStatus();
}

absl::Status ReadSampling(const BodyFields& fields, v1::Sampling* out) {
  const auto number = [&](const char* name, auto set) -> absl::Status {
    SLUICE_ASSIGN_OR_RETURN(const std::optional<double> value, fields.Number(name));
    if (value.has_value()) set(static_cast<float>(*value));
    return absl::OkStatus();
  };
  SLUICE_RETURN_IF_ERROR(number("temperature", [&](float v) { out->set_temperature(v); }));
  SLUICE_RETURN_IF_ERROR(number("top_p", [&](float v) { out->set_top_p(v); }));
  SLUICE_RETURN_IF_ERROR(number("min_p", [&](float v) { out->set_min_p(v); }));
  SLUICE_RETURN_IF_ERROR(
      number("presence_penalty", [&](float v) { out->set_presence_penalty(v); }));
  SLUICE_RETURN_IF_ERROR(
      number("frequency_penalty", [&](float v) { out->set_frequency_penalty(v); }));
  SLUICE_RETURN_IF_ERROR(
      number("repetition_penalty", [&](float v) { out->set_repetition_penalty(v); }));
  SLUICE_ASSIGN_OR_RETURN(const std::optional<int64_t> top_k,
                          fields.Integer("top_k", -1, INT32_MAX));
  if (top_k.has_value()) out->set_top_k(static_cast<uint32_t>(std::max<int64_t>(0, *top_k)));
  SLUICE_ASSIGN_OR_RETURN(const std::optional<int64_t> seed, fields.Integer("seed"));
  if (seed.has_value()) out->set_seed(static_cast<uint64_t>(*seed));
  return absl::OkStatus();
}

absl::Status ReadStops(const BodyFields& fields, v1::Stopping* out) {
  const nlohmann::json* stop = fields.Find("stop");
  if (stop == nullptr) return absl::OkStatus();
  if (stop->is_string()) {
    if (!stop->get<std::string>().empty()) out->add_stop(stop->get<std::string>());
    return absl::OkStatus();
  }
  if (!stop->is_array()) {
    return fields.Invalid(
        "stop", absl::StrCat("is ", JsonTypeName(*stop), ", not a string or an array of strings"));
  }
  for (const nlohmann::json& one : *stop) {
    if (!one.is_string()) {
      return fields.Invalid(absl::StrCat("stop[", out->stop_size(), "]"),
                            absl::StrCat("is ", JsonTypeName(one), ", not a string"));
    }
    out->add_stop(one.get<std::string>());
  }
  return absl::OkStatus();
}

absl::Status ReadStopping(ApiKind kind, const BodyFields& fields, v1::Stopping* out) {
  SLUICE_ASSIGN_OR_RETURN(std::optional<int64_t> most, fields.Integer("max_tokens", 0, kMaxUint32));
  if (kind == ApiKind::kChat) {  // the newer name wins
    SLUICE_ASSIGN_OR_RETURN(const std::optional<int64_t> newer,
                            fields.Integer("max_completion_tokens", 0, kMaxUint32));
    if (newer.has_value()) most = newer;
  } else if (!most.has_value()) {
    most = kDefaultCompletionTokens;
  }
  if (most.has_value()) out->set_max_tokens(static_cast<uint32_t>(*most));
  SLUICE_ASSIGN_OR_RETURN(const std::optional<int64_t> least,
                          fields.Integer("min_tokens", 0, kMaxUint32));
  out->set_min_tokens(static_cast<uint32_t>(least.value_or(0)));
  SLUICE_RETURN_IF_ERROR(ReadStops(fields, out));
  SLUICE_ASSIGN_OR_RETURN(const std::vector<uint32_t> ids, fields.Ids("stop_token_ids"));
  out->mutable_stop_token_ids()->Add(ids.begin(), ids.end());
  SLUICE_ASSIGN_OR_RETURN(const std::optional<bool> ignore_eos, fields.Bool("ignore_eos"));
  out->set_ignore_eos(ignore_eos.value_or(false));
  SLUICE_ASSIGN_OR_RETURN(const std::optional<bool> include,
                          fields.Bool("include_stop_str_in_output"));
  out->set_include_stop(include.value_or(false));
  return absl::OkStatus();
}

// In a chat, "logprobs" is a switch and "top_logprobs" the number; in a completion, "logprobs" is
// the number.
absl::Status ReadLogprobs(ApiKind kind, const BodyFields& fields, v1::GenerateRequest* out) {
  if (kind == ApiKind::kCompletion) {
    SLUICE_ASSIGN_OR_RETURN(const std::optional<int64_t> count,
                            fields.Integer("logprobs", 0, kMaxUint32));
    if (count.has_value()) out->set_logprobs(static_cast<uint32_t>(*count));
    return absl::OkStatus();
  }
  SLUICE_ASSIGN_OR_RETURN(const std::optional<bool> on, fields.Bool("logprobs"));
  SLUICE_ASSIGN_OR_RETURN(const std::optional<int64_t> top,
                          fields.Integer("top_logprobs", 0, kMaxUint32));
  if (top.value_or(0) > 0 && !on.value_or(false)) {
    return fields.Invalid("top_logprobs", "needs \"logprobs\": true");
  }
  if (on.value_or(false)) out->set_logprobs(static_cast<uint32_t>(top.value_or(0)));
  return absl::OkStatus();
}

absl::Status ReadSamples(const BodyFields& fields, v1::GenerateRequest* out) {
  SLUICE_ASSIGN_OR_RETURN(const std::optional<int64_t> n, fields.Integer("n", 1, kMaxUint32));
  SLUICE_ASSIGN_OR_RETURN(const std::optional<int64_t> best, fields.Integer("best_of"));
  if (best.has_value() && *best != n.value_or(1)) {
    return fields.Invalid("best_of", "only the value of n is supported; leave it out");
  }
  out->set_n(static_cast<uint32_t>(n.value_or(1)));
  return absl::OkStatus();
}

absl::Status ReadScheduling(const BodyFields& fields, v1::Scheduling* out) {
  SLUICE_ASSIGN_OR_RETURN(const std::optional<std::string> salt, fields.String("cache_salt"));
  out->set_cache_salt(salt.value_or(""));
  // vLLM: lower goes first. Ours: higher does.
  SLUICE_ASSIGN_OR_RETURN(const std::optional<int64_t> priority,
                          fields.Integer("priority", -100, 100));
  out->set_priority(static_cast<int32_t>(-priority.value_or(0)));
  return absl::OkStatus();
}

absl::Status ReadStream(const BodyFields& fields, ApiRequest* out) {
  SLUICE_ASSIGN_OR_RETURN(const std::optional<bool> stream, fields.Bool("stream"));
  out->stream = stream.value_or(false);
  const nlohmann::json* options = fields.Find("stream_options");
  if (options == nullptr) return absl::OkStatus();
  if (!options->is_object()) return fields.Invalid("stream_options", "is not an object");
  const BodyFields inner(*options, "stream_options");
  SLUICE_ASSIGN_OR_RETURN(const std::optional<bool> usage, inner.Bool("include_usage"));
  out->include_usage = usage.value_or(false);
  return absl::OkStatus();
}

// A string, an array of ids, or an array that holds one of those.
absl::Status ReadPrompt(const BodyFields& fields, v1::GenerateRequest* out) {
  const nlohmann::json* prompt = fields.Find("prompt");
  if (prompt == nullptr) return fields.Invalid("prompt", "is missing; set a string or token ids");
  const bool nested = prompt->is_array() && !prompt->empty() &&
                      (prompt->front().is_string() || prompt->front().is_array());
  if (nested && prompt->size() > 1) {
    return fields.Invalid(
        "prompt", absl::StrCat("holds ", prompt->size(), " prompts; send one request for each"));
  }
  const nlohmann::json& one = nested ? prompt->front() : *prompt;
  if (one.is_string()) {
    out->set_text(one.get<std::string>());
    return absl::OkStatus();
  }
  if (!one.is_array()) {
    return fields.Invalid("prompt", absl::StrCat("is ", JsonTypeName(one),
                                                 ", not a string or an array of token ids"));
  }
  SLUICE_ASSIGN_OR_RETURN(const std::vector<uint32_t> ids, ReadTokenIds(one, "prompt"));
  out->mutable_token_ids()->mutable_ids()->Add(ids.begin(), ids.end());
  return absl::OkStatus();
}

// A string, or an array of text parts, which are joined by newlines.
absl::StatusOr<std::string> ReadContent(const BodyFields& message) {
  const nlohmann::json* content = message.Find("content");
  if (content == nullptr) return message.Invalid("content", "is missing");
  if (content->is_string()) return content->get<std::string>();
  if (!content->is_array()) {
    return message.Invalid("content", absl::StrCat("is ", JsonTypeName(*content),
                                                   ", not a string or an array of text parts"));
  }
  std::string text;
  for (size_t i = 0; i < content->size(); ++i) {
    const nlohmann::json& part = (*content)[i];
    const std::string name = absl::StrCat("content[", i, "]");
    if (!part.is_object()) return message.Invalid(name, "is not an object");
    const BodyFields fields(part, message.Path(name));
    SLUICE_ASSIGN_OR_RETURN(const std::optional<std::string> type, fields.String("type"));
    if (type.value_or("text") != "text") {
      return fields.Invalid("type",
                            absl::StrCat("\"", type->substr(0, 40),
                                         "\" is not supported; this model reads text only"));
    }
    SLUICE_ASSIGN_OR_RETURN(const std::optional<std::string> piece, fields.String("text"));
    if (!piece.has_value()) return fields.Invalid("text", "is missing");
    if (i > 0) text += '\n';
    text += *piece;
  }
  return text;
}

absl::StatusOr<ChatMessage> ReadMessage(const nlohmann::json& json, size_t index) {
  const std::string path = absl::StrCat("messages[", index, "]");
  if (!json.is_object()) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": is not an object"));
  }
  const BodyFields fields(json, path);
  ChatMessage message;
  SLUICE_ASSIGN_OR_RETURN(const std::optional<std::string> role, fields.String("role"));
  if (!role.has_value() || role->empty()) return fields.Invalid("role", "is missing");
  message.role = *role;
  for (const char* name : {"tool_calls", "function_call", "audio", "tool_call_id"}) {
    const nlohmann::json* value = fields.Find(name);
    if (value != nullptr && !IsOff(*value)) return fields.Invalid(name, "is not supported");
  }
  SLUICE_ASSIGN_OR_RETURN(message.content, ReadContent(fields));
  SLUICE_ASSIGN_OR_RETURN(message.name, fields.String("name"));
  return message;
}

absl::Status ReadChat(const BodyFields& fields, ApiRequest* out) {
  const nlohmann::json* messages = fields.Find("messages");
  if (messages == nullptr || !messages->is_array() || messages->empty()) {
    return fields.Invalid("messages", "is not an array with at least one message");
  }
  if (messages->size() > kMaxMessages) {
    return fields.Invalid("messages", absl::StrCat(messages->size(), " messages, at most ",
                                                   kMaxMessages, " allowed"));
  }
  for (const nlohmann::json& json : *messages) {
    SLUICE_ASSIGN_OR_RETURN(ChatMessage message, ReadMessage(json, out->messages.size()));
    out->messages.push_back(std::move(message));
  }
  SLUICE_ASSIGN_OR_RETURN(const std::optional<bool> add, fields.Bool("add_generation_prompt"));
  out->add_generation_prompt = add.value_or(true);
  if (const nlohmann::json* variables = fields.Find("chat_template_kwargs")) {
    if (!variables->is_object()) {
      return fields.Invalid("chat_template_kwargs", "is not an object");
    }
    out->template_variables = *variables;
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<ApiRequest> ParseApiRequest(ApiKind kind, std::string_view body) {
  SLUICE_ASSIGN_OR_RETURN(const nlohmann::json json, ParseJsonBody(body));
  const BodyFields fields(json, "");
  ApiRequest request;
  request.kind = kind;
  SLUICE_ASSIGN_OR_RETURN(const std::optional<std::string> model, fields.String("model"));
  request.model = model.value_or("");
  SLUICE_RETURN_IF_ERROR(CheckUnsupported(fields));
  SLUICE_RETURN_IF_ERROR(ReadStream(fields, &request));
  v1::GenerateRequest* generate = &request.generate;
  SLUICE_RETURN_IF_ERROR(ReadSampling(fields, generate->mutable_sampling()));
  SLUICE_RETURN_IF_ERROR(ReadStopping(kind, fields, generate->mutable_stopping()));
  SLUICE_RETURN_IF_ERROR(ReadLogprobs(kind, fields, generate));
  SLUICE_RETURN_IF_ERROR(ReadSamples(fields, generate));
  SLUICE_RETURN_IF_ERROR(ReadScheduling(fields, generate->mutable_scheduling()));
  SLUICE_RETURN_IF_ERROR(kind == ApiKind::kChat ? ReadChat(fields, &request)
                                                : ReadPrompt(fields, generate));
  return request;
}

}  // namespace sluice
