// The bodies of /v1/completions and /v1/chat/completions to the request of our own API, which then
// takes the same checks and the same way as one that came by gRPC.
//
// Fields are those of OpenAI, and of vLLM's extensions (top_k, min_p, repetition_penalty,
// ignore_eos, min_tokens, stop_token_ids, include_stop_str_in_output, cache_salt, priority,
// chat_template_kwargs). What is not known is ignored, as clients of other versions expect; what is
// known, not supported, and would change the answer (tools, response_format, images, ...) is
// refused by name.
//
// Pure.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "service/chat/chat_template.h"
#include "sluice/v1/inference.pb.h"

namespace sluice {

enum class ApiKind { kCompletion, kChat };

struct ApiRequest {
  ApiKind kind = ApiKind::kCompletion;
  std::string model;  // empty: whatever is served

  // Of a chat, without its prompt, which takes a template.
  v1::GenerateRequest generate;

  // Of a chat.
  std::vector<ChatMessage> messages;
  nlohmann::json template_variables;  // an object, or null
  bool add_generation_prompt = true;

  bool stream = false;
  bool include_usage = false;  // in a stream: a last chunk with the usage
};

// Returns INVALID_ARGUMENT, beginning with the field's name, for a wrong type or a value that is
// not supported. Ranges that both APIs know are left to CheckGenerateRequest().
absl::StatusOr<ApiRequest> ParseApiRequest(ApiKind kind, std::string_view body);

}  // namespace sluice
