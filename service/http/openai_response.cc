#include "service/http/openai_response.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "service/http/api_error.h"
#include "service/tokenizer/utf8.h"

namespace sluice {
namespace {

using nlohmann::json;

int64_t CharacterCount(const std::string& text) {
  return std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xC0) != 0x80; });
}

// The bytes of a token's text; null for a token that is part of a character, whose bytes its text
// does not tell.
json BytesOf(const std::string& text) {
  if (text.find(kReplacementCharacter) != std::string::npos) return nullptr;
  json bytes = json::array();
  for (const char c : text) bytes.push_back(static_cast<unsigned char>(c));
  return bytes;
}

json TokenEntry(const std::string& text, float logprob) {
  return {{"token", text}, {"logprob", logprob}, {"bytes", BytesOf(text)}};
}

// Moves the lists of `more` to the ends of those of `whole`.
void AppendLists(json more, json* whole) {
  if (more.is_null()) return;
  if (whole->is_null()) {
    *whole = std::move(more);
    return;
  }
  for (auto& [name, list] : more.items()) {
    if (!list.is_array()) continue;
    json& target = (*whole)[name];
    target.insert(target.end(), list.begin(), list.end());
  }
}

json FinishReasonOf(const v1::Finished& finished) {
  return finished.finish_reason() == v1::FINISH_REASON_LENGTH ? "length" : "stop";
}

json StopReasonOf(const v1::Finished& finished) {
  if (finished.has_matched_stop()) return finished.matched_stop();
  if (finished.has_matched_stop_token_id()) return finished.matched_stop_token_id();
  return nullptr;
}

}  // namespace

std::string EventText(const json& value) { return absl::StrCat("data: ", JsonText(value), "\n\n"); }

AnswerWriter::AnswerWriter(AnswerFacts facts, const Tokenizer& tokenizer, size_t samples)
    : facts_(std::move(facts)), tokenizer_(tokenizer), choices_(samples) {}

json AnswerWriter::Base(const char* object) const {
  return {{"id", facts_.id},
          {"object", object},
          {"created", facts_.created},
          {"model", facts_.model},
          {"system_fingerprint", facts_.fingerprint}};
}

json AnswerWriter::Chunk(json choices) const {
  json chunk = Base(facts_.kind == ApiKind::kChat ? "chat.completion.chunk" : "text_completion");
  chunk["choices"] = std::move(choices);
  if (facts_.include_usage) chunk["usage"] = nullptr;
  return chunk;
}

std::string AnswerWriter::FirstEvents() const {
  std::string events;
  if (facts_.kind != ApiKind::kChat) return events;
  for (size_t i = 0; i < choices_.size(); ++i) {
    events += EventText(Chunk({{{"index", i},
                                {"delta", {{"role", "assistant"}, {"content", ""}}},
                                {"logprobs", nullptr},
                                {"finish_reason", nullptr}}}));
  }
  return events;
}

std::string AnswerWriter::OutputEvent(const v1::Output& output) {
  json choice = {{"index", output.index()},
                 {"logprobs", Logprobs(output, &choices_[output.index()])},
                 {"finish_reason", nullptr}};
  if (facts_.kind == ApiKind::kChat) {
    choice["delta"] = {{"content", output.text()}};
  } else {
    choice["text"] = output.text();
  }
  return EventText(Chunk(json::array({std::move(choice)})));
}

std::string AnswerWriter::FinishEvent(const v1::Finished& finished) {
  NoteFinished(finished);
  json choice = {{"index", finished.index()},
                 {"logprobs", nullptr},
                 {"finish_reason", FinishReasonOf(finished)},
                 {"stop_reason", StopReasonOf(finished)}};
  if (facts_.kind == ApiKind::kChat) {
    choice["delta"] = json::object();
  } else {
    choice["text"] = "";
  }
  return EventText(Chunk(json::array({std::move(choice)})));
}

std::string AnswerWriter::LastEvents() const {
  std::string events;
  if (facts_.include_usage) {
    json chunk = Chunk(json::array());
    chunk["usage"] = Usage();
    events = EventText(chunk);
  }
  return events + "data: [DONE]\n\n";
}

void AnswerWriter::Add(const v1::Output& output) {
  Choice& choice = choices_[output.index()];
  choice.text += output.text();
  AppendLists(Logprobs(output, &choice), &choice.logprobs);
}

void AnswerWriter::Add(const v1::Finished& finished) {
  NoteFinished(finished);
  choices_[finished.index()].finish_reason = FinishReasonOf(finished);
  choices_[finished.index()].stop_reason = StopReasonOf(finished);
}

std::string AnswerWriter::Whole() const {
  const bool chat = facts_.kind == ApiKind::kChat;
  json answer = Base(chat ? "chat.completion" : "text_completion");
  answer["choices"] = json::array();
  for (size_t i = 0; i < choices_.size(); ++i) {
    const Choice& choice = choices_[i];
    json out = {{"index", i},
                {"logprobs", choice.logprobs},
                {"finish_reason", choice.finish_reason},
                {"stop_reason", choice.stop_reason}};
    if (chat) {
      out["message"] = {{"role", "assistant"}, {"content", choice.text}, {"refusal", nullptr}};
    } else {
      out["text"] = choice.text;
    }
    answer["choices"].push_back(std::move(out));
  }
  answer["usage"] = Usage();
  return JsonText(answer);
}

json AnswerWriter::Usage() const {
  return {{"prompt_tokens", prompt_tokens_},
          {"completion_tokens", output_tokens_},
          {"total_tokens", prompt_tokens_ + output_tokens_},
          {"prompt_tokens_details", {{"cached_tokens", cached_tokens_}}}};
}

// The samples have one prompt, which counts once; what was cached counts as of the first.
void AnswerWriter::NoteFinished(const v1::Finished& finished) {
  const v1::Usage& usage = finished.usage();
  output_tokens_ += usage.output_tokens();
  if (finished.index() != 0) return;
  prompt_tokens_ = usage.prompt_tokens();
  cached_tokens_ = int64_t{usage.cached_device_tokens()} + usage.cached_host_tokens() +
                   usage.cached_disk_tokens() + usage.cached_remote_tokens();
}

json AnswerWriter::Logprobs(const v1::Output& output, Choice* choice) const {
  if (!facts_.logprobs || output.logprobs_size() == 0) return nullptr;
  json content = json::array();  // of a chat; the other four of a completion
  json tokens = json::array();
  json token_logprobs = json::array();
  json top_logprobs = json::array();
  json text_offset = json::array();
  for (int i = 0; i < output.logprobs_size(); ++i) {
    const v1::Logprobs& at = output.logprobs(i);
    const std::string text =
        tokenizer_.Decode({static_cast<TokenId>(output.token_ids(i))}, /*skip_special=*/false);
    json entry = TokenEntry(text, at.logprob());
    json top = json::array();
    json top_map = json::object();
    for (const v1::TopLogprob& likely : at.top()) {
      top.push_back(TokenEntry(likely.text(), likely.logprob()));
      if (!top_map.contains(likely.text())) top_map[likely.text()] = likely.logprob();
    }
    entry["top_logprobs"] = std::move(top);
    content.push_back(std::move(entry));
    tokens.push_back(text);
    token_logprobs.push_back(at.logprob());
    top_logprobs.push_back(std::move(top_map));
    text_offset.push_back(choice->text_offset);
    choice->text_offset += CharacterCount(text);
  }
  if (facts_.kind == ApiKind::kChat) return {{"content", content}, {"refusal", nullptr}};
  return {{"tokens", tokens},
          {"token_logprobs", token_logprobs},
          {"top_logprobs", top_logprobs},
          {"text_offset", text_offset}};
}

}  // namespace sluice
