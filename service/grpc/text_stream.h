// TextStream turns the tokens of one sample into the text its client sees: detokenized, never half
// a character, and ending before (or after, if asked) the first stop string.
//
// Text that may turn out to be the beginning of a stop string is held back until that is decided;
// a stop string may span any number of tokens.
//
// Thread-compatible.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "scheduler/base/units.h"
#include "service/grpc/stop_matcher.h"
#include "service/tokenizer/tokenizer.h"

namespace sluice {

class TextStream {
 public:
  // `tokenizer` must outlive this. `stop_ids`, sorted, are the tokens that end the sample: their
  // text is left out unless `include_stop`. `stops` is not null.
  TextStream(const Tokenizer& tokenizer, std::shared_ptr<const StopMatcher> stops,
             std::vector<TokenId> stop_ids, bool include_stop);

  // The text that has become certain with `id`; often empty. Nothing once stopped().
  std::string Push(TokenId id);

  // No more tokens: what was held back, which may still complete a stop string.
  std::string Finish();

  // The stop string that was found, or null. It lives as long as the matcher.
  const std::string* matched() const { return matched_; }
  bool stopped() const { return matched_ != nullptr; }

 private:
  // The detokenizer's last text, the first time.
  std::string Flush();

  // Appends `text` to what is held back, and takes out what is certain.
  std::string Advance(const std::string& text);

  const Tokenizer& tokenizer_;
  std::shared_ptr<const StopMatcher> stops_;
  std::vector<TokenId> stop_ids_;
  const bool include_stop_;
  std::unique_ptr<Tokenizer::Incremental> detokenizer_;

  bool flushed_ = false;
  std::string held_;  // the longest end of the text that begins a stop string
  StopMatcher::State state_ = StopMatcher::kStart;
  const std::string* matched_ = nullptr;
};

}  // namespace sluice
