// Answers of /v1/completions and /v1/chat/completions, whole and as chunks of a stream, from the
// Output and Finished messages of our own API.
//
// Thread-compatible.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "service/http/openai_request.h"
#include "service/tokenizer/tokenizer.h"
#include "sluice/v1/inference.pb.h"

namespace sluice {

// What all parts of one answer have in common.
struct AnswerFacts {
  ApiKind kind = ApiKind::kCompletion;
  std::string id;       // "chatcmpl-..."
  int64_t created = 0;  // seconds since 1970
  std::string model;
  std::string fingerprint;
  bool logprobs = false;  // were asked for
  bool include_usage = false;
};

class AnswerWriter {
 public:
  // `tokenizer` must outlive this. `samples`: choices of the answer.
  AnswerWriter(AnswerFacts facts, const Tokenizer& tokenizer, size_t samples);

  // ---- A stream: events "data: {...}\n\n" ----

  // Nothing but the role, for every choice of a chat; empty for a completion.
  std::string FirstEvents() const;
  std::string OutputEvent(const v1::Output& output);
  std::string FinishEvent(const v1::Finished& finished);
  // After all samples: the usage, if it was asked for, and the end mark.
  std::string LastEvents() const;

  // ---- A whole answer: the same calls, then Whole() ----

  void Add(const v1::Output& output);
  void Add(const v1::Finished& finished);
  std::string Whole() const;

 private:
  struct Choice {
    std::string text;
    nlohmann::json logprobs;
    nlohmann::json finish_reason;
    nlohmann::json stop_reason;
    int64_t text_offset = 0;  // of the next token, in characters
  };

  nlohmann::json Base(const char* object) const;
  nlohmann::json Chunk(nlohmann::json choices) const;
  nlohmann::json Usage() const;
  nlohmann::json Logprobs(const v1::Output& output, Choice* choice) const;
  void NoteFinished(const v1::Finished& finished);

  const AnswerFacts facts_;
  const Tokenizer& tokenizer_;
  std::vector<Choice> choices_;
  int64_t prompt_tokens_ = 0;
  int64_t cached_tokens_ = 0;
  int64_t output_tokens_ = 0;
};

// `json` as an event of a stream.
std::string EventText(const nlohmann::json& json);

}  // namespace sluice
