#include "service/chat/chat_template.h"

#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/str_cat.h"
#include "scheduler/base/status_macros.h"
#include "service/chat/interpreter.h"
#include "service/chat/parser.h"

namespace sluice {
namespace {

constexpr char kTemplateFile[] = "chat_template.jinja";
constexpr char kConfigFile[] = "tokenizer_config.json";
constexpr size_t kMaxSourceBytes = size_t{1} << 20;

// The special tokens that Hugging Face lets templates see.
constexpr const char* kTokenNames[] = {"bos_token", "eos_token", "unk_token", "sep_token",
                                       "pad_token", "cls_token", "mask_token"};

std::optional<std::string> ReadFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return std::nullopt;
  return std::string(std::istreambuf_iterator<char>(file), {});
}

// A token is a string, or an object whose "content" is.
jinja::Dict SpecialTokens(const nlohmann::json& config) {
  jinja::Dict tokens;
  for (const char* name : kTokenNames) {
    const auto found = config.find(name);
    if (found == config.end()) continue;
    const nlohmann::json& token =
        found->is_object() && found->contains("content") ? (*found)["content"] : *found;
    if (token.is_string()) tokens.emplace_back(name, token.get<std::string>());
  }
  return tokens;
}

// "chat_template" is a string, or a list of {"name": ..., "template": ...}, of which "default" is
// for conversations without tools. Nothing if there is none.
absl::StatusOr<std::optional<std::string>> TemplateOf(const nlohmann::json& config) {
  const auto found = config.find("chat_template");
  if (found == config.end() || found->is_null()) return std::optional<std::string>();
  if (found->is_string()) return std::optional(found->get<std::string>());
  if (found->is_array()) {
    for (const nlohmann::json& entry : *found) {
      if (!entry.is_object() || !entry.contains("template")) continue;
      const bool wanted = found->size() == 1 || entry.value("name", "") == "default";
      if (wanted && entry["template"].is_string()) {
        return std::optional(entry["template"].get<std::string>());
      }
    }
  }
  return absl::InvalidArgumentError(
      "chat_template is neither a string nor a list with a template named \"default\"");
}

jinja::Value MessagesFor(const std::vector<ChatMessage>& messages) {
  jinja::List list;
  for (const ChatMessage& message : messages) {
    jinja::Dict dict;
    dict.emplace_back("role", message.role);
    dict.emplace_back("content", message.content);
    if (message.name.has_value()) dict.emplace_back("name", *message.name);
    list.push_back(std::move(dict));
  }
  return list;
}

std::string RenderFallback(const std::vector<ChatMessage>& messages, bool add_generation_prompt) {
  std::string text;
  for (const ChatMessage& message : messages) {
    absl::StrAppend(&text, message.role, ": ", message.content, "\n");
  }
  if (add_generation_prompt) text += "assistant:";
  return text;
}

}  // namespace

ChatTemplate ChatTemplate::Fallback() { return {}; }

ChatTemplate ChatTemplate::FromSource(std::string_view source, jinja::Dict variables,
                                      const std::string& where) {
  ChatTemplate result;
  result.origin_ = where;
  result.variables_ = std::move(variables);
  absl::StatusOr<jinja::Body> body =
      source.size() <= kMaxSourceBytes
          ? jinja::Parse(source)
          : absl::InvalidArgumentError(
                absl::StrCat(source.size(), " bytes are more than ", kMaxSourceBytes));
  if (body.ok()) {
    result.body_ = std::make_shared<const jinja::Body>(*std::move(body));
  } else {
    result.status_ =
        absl::Status(body.status().code(),
                     absl::StrCat("chat template (", where, "): ", body.status().message()));
  }
  return result;
}

ChatTemplate ChatTemplate::Load(const std::string& dir) {
  const std::optional<std::string> config_text = ReadFile(absl::StrCat(dir, "/", kConfigFile));
  nlohmann::json config = nlohmann::json::object();
  if (config_text.has_value()) {
    config = nlohmann::json::parse(*config_text, nullptr, /*allow_exceptions=*/false);
  }
  ChatTemplate unusable;
  unusable.origin_ = kConfigFile;
  if (!config.is_object()) {
    unusable.status_ = absl::InvalidArgumentError(
        absl::StrCat("chat template (", kConfigFile, "): the file is not a JSON object"));
    return unusable;
  }
  const std::optional<std::string> file = ReadFile(absl::StrCat(dir, "/", kTemplateFile));
  if (file.has_value()) return FromSource(*file, SpecialTokens(config), kTemplateFile);
  const absl::StatusOr<std::optional<std::string>> source = TemplateOf(config);
  if (!source.ok()) {
    unusable.status_ = absl::Status(
        source.status().code(),
        absl::StrCat("chat template (", kConfigFile, "): ", source.status().message()));
    return unusable;
  }
  if (!source->has_value()) return Fallback();
  return FromSource(**source, SpecialTokens(config), kConfigFile);
}

absl::StatusOr<std::string> ChatTemplate::Render(const std::vector<ChatMessage>& messages,
                                                 const ChatOptions& options) const {
  SLUICE_RETURN_IF_ERROR(status_);
  if (body_ == nullptr) return RenderFallback(messages, options.add_generation_prompt);
  // The first of a name wins, so variables of a client hide nothing.
  jinja::Dict globals = variables_;
  globals.emplace_back("messages", MessagesFor(messages));
  globals.emplace_back("add_generation_prompt", options.add_generation_prompt);
  if (options.variables != nullptr && options.variables->is_object()) {
    for (const auto& [name, value] : options.variables->items()) {
      globals.emplace_back(name, jinja::Value::FromJson(value));
    }
  }
  globals.emplace_back("tools", jinja::Value());
  globals.emplace_back("documents", jinja::Value());
  const auto strftime = [&](const std::string& format) {
    return absl::FormatTime(format, options.now, absl::LocalTimeZone());
  };
  jinja::Interpreter interpreter({}, std::move(globals), strftime);
  absl::StatusOr<std::string> text = interpreter.Run(*body_);
  if (text.ok()) return text;
  return absl::Status(text.status().code(),
                      absl::StrCat("chat template (", origin_, "): ", text.status().message()));
}

}  // namespace sluice
