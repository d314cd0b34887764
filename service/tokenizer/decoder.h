// Decoders: token texts back to text. A decoder is a list of steps on single tokens (Replace,
// ByteFallback, Metaspace, Strip), then a way to join the tokens, then Strip steps on the whole.
// Every decoder of byte-level and SentencePiece-style tokenizers has this shape; others are
// refused.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "service/tokenizer/json_node.h"
#include "service/tokenizer/pre_tokenizer.h"
#include "service/tokenizer/regex.h"

namespace sluice {

// Each match of `pattern` in a token becomes `content`.
struct ReplaceStep {
  std::shared_ptr<const Pattern> pattern;
  std::string content;
};

// A run of byte tokens ("<0xE2>") becomes the characters it spells, or, if the run as a whole is
// not valid UTF-8, one U+FFFD for each byte.
struct ByteFallbackStep {};

// Marks become spaces; those of the first token vanish if the pre-tokenizer puts one there.
struct MetaspaceDecodeStep {
  Metaspace options;
};

// Removes up to `start` characters `content` from the front, and up to `stop` from the back.
struct StripStep {
  std::string content;  // one character
  size_t start = 0;
  size_t stop = 0;
};

using TokenStep = std::variant<ReplaceStep, ByteFallbackStep, MetaspaceDecodeStep, StripStep>;

enum class JoinTokens {
  kText,       // one after the other
  kSpaces,     // with a space between them: a file without a decoder
  kByteLevel,  // as the bytes they stand for (byte_alphabet.h); invalid UTF-8 becomes U+FFFD
};

struct DecoderPlan {
  std::vector<TokenStep> token_steps;
  JoinTokens join = JoinTokens::kText;
  std::vector<StripStep> text_steps;
};

// Reads the "decoder" member of a tokenizer.json; null means JoinTokens::kSpaces. Returns
// INVALID_ARGUMENT, or UNIMPLEMENTED naming the type or the order that is not supported.
absl::StatusOr<DecoderPlan> ParseDecoder(const JsonNode& node);

// Decodes all of `tokens` at once. Pure. The result is valid UTF-8.
std::string DecodeTokens(const DecoderPlan& plan, std::vector<std::string> tokens);

// Parts that both kinds of decoding share.
std::string ReplaceInToken(const ReplaceStep& step, std::string_view token);
std::string MetaspaceInToken(const MetaspaceDecodeStep& step, std::string_view token, bool first);
// The byte that a token like "<0xE2>" names, or -1.
int FallbackByte(std::string_view token);
std::string TokenAsBytes(std::string_view token);
std::string_view StripText(const StripStep& step, std::string_view text);

// Decodes token by token and returns the text that no later token can change. All that Push and
// Finish return, together, is DecodeTokens of the same tokens.
//
// Not thread-safe. REQUIRES: `plan` outlives this.
class StreamDecoder {
 public:
  explicit StreamDecoder(const DecoderPlan& plan);

  std::string Push(std::string_view token);
  // Text held back until now. The stream is then at its beginning again.
  std::string Finish();

 private:
  // What a token step remembers.
  struct StepState {
    std::string run;             // ByteFallback: bytes of the current run
    bool at_first_token = true;  // Metaspace
  };

  // Sends `token` through the token steps from `step` on.
  void RunSteps(size_t step, std::string token);
  void FlushRun(size_t step);
  void Join(std::string_view token);
  void EmitBytes(std::string_view bytes);
  void EmitText(std::string_view text);
  void Reset();

  const DecoderPlan& plan_;
  std::vector<StepState> states_;  // per token step
  bool any_token_ = false;         // kSpaces: whether a space is due before the next token
  std::string bytes_;              // kByteLevel: the beginning of a character
  // One per text step: characters still to be removed at the front, and those at the back that a
  // later character may keep.
  struct StripState {
    size_t start_left = 0;
    std::string held;
    bool started = false;
  };
  std::vector<StripState> strips_;
  std::string out_;
};

}  // namespace sluice
