// ChatTemplate: a conversation to the prompt text that the model was trained on, by the template
// that comes with the model (chat_template.jinja, or "chat_template" in tokenizer_config.json).
//
// Templates are Jinja. Ours is an interpreter of the subset that chat templates use; where it
// supports a template, the text is byte for byte what Hugging Face's apply_chat_template gives. A
// template with anything else is refused when the model is loaded, with the line and the construct,
// and chat then says so; everything else works.
//
// A model without a template gets Fallback(): a line "role: content" per message, then
// "assistant:".
//
// Immutable, so thread-safe. Rendering is bounded in time and memory (interpreter.h).
#pragma once

#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "service/chat/syntax.h"
#include "service/chat/value.h"

namespace sluice {

struct ChatMessage {
  std::string role;
  std::string content;
  std::optional<std::string> name;
};

struct ChatOptions {
  // End with the beginning of an answer. Off, with a last message of the assistant that is to be
  // continued, is what few templates do well.
  bool add_generation_prompt = true;
  // More variables for the template ("enable_thinking"); an object, or null.
  const nlohmann::json* variables = nullptr;
  // For templates that print the date, in the time zone of the process.
  absl::Time now;
};

class ChatTemplate {
 public:
  // Reads the files of the model in `dir`. Never fails: without a template it is Fallback(), and
  // one that cannot be used makes status() and Render() return why.
  static ChatTemplate Load(const std::string& dir);
  static ChatTemplate Fallback();
  // `variables` are bos_token and so on. `where` names the template in errors.
  static ChatTemplate FromSource(std::string_view source, jinja::Dict variables,
                                 const std::string& where);

  // OK, or UNIMPLEMENTED or INVALID_ARGUMENT with the file, the line and the reason.
  const absl::Status& status() const { return status_; }
  // Where the template comes from: "tokenizer_config.json", "fallback".
  const std::string& origin() const { return origin_; }
  // Whether the text leaves BOS to the tokenizer; templates write it themselves.
  bool needs_bos() const { return body_ == nullptr; }

  // Returns status() if that is not OK, and INVALID_ARGUMENT if the template refuses the
  // conversation or runs into a limit.
  absl::StatusOr<std::string> Render(const std::vector<ChatMessage>& messages,
                                     const ChatOptions& options) const;

 private:
  std::string origin_ = "fallback";
  absl::Status status_;
  jinja::Dict variables_;
  std::shared_ptr<const jinja::Body> body_;  // null: the fallback
};

}  // namespace sluice
