#include "service/grpc/text_stream.h"

#include <algorithm>
#include <utility>

namespace sluice {

TextStream::TextStream(const Tokenizer& tokenizer, std::shared_ptr<const StopMatcher> stops,
                       std::vector<TokenId> stop_ids, bool include_stop)
    : tokenizer_(tokenizer),
      stops_(std::move(stops)),
      stop_ids_(std::move(stop_ids)),
      include_stop_(include_stop),
      detokenizer_(tokenizer.NewIncremental(/*skip_special=*/true)) {}

std::string TextStream::Push(TokenId id) {
  if (stopped()) return "";
  if (!std::binary_search(stop_ids_.begin(), stop_ids_.end(), id)) {
    return Advance(detokenizer_->Push(id));
  }
  if (!include_stop_) return "";
  if (!tokenizer_.IsSpecial(id)) return Advance(detokenizer_->Push(id));
  // The detokenizer skips special tokens; this one was asked for.
  std::string text = Advance(Flush());
  if (!stopped()) text += Advance(tokenizer_.TokenText(id).value_or(""));
  return text;
}

std::string TextStream::Finish() {
  if (stopped()) return "";
  std::string text = Advance(Flush());
  if (!stopped()) text += std::exchange(held_, "");
  return text;
}

std::string TextStream::Flush() {
  return std::exchange(flushed_, true) ? "" : detokenizer_->Finish();
}

std::string TextStream::Advance(const std::string& text) {
  if (stops_->empty()) return text;
  const size_t before = held_.size();
  held_ += text;
  for (size_t i = before; i < held_.size(); ++i) {
    state_ = stops_->Next(state_, held_[i]);
    matched_ = stops_->Matched(state_);
    if (matched_ != nullptr) {
      const size_t end = i + 1;
      return std::exchange(held_, "").substr(0, include_stop_ ? end : end - matched_->size());
    }
  }
  const size_t keep = stops_->HeldBack(state_);
  std::string certain = held_.substr(0, held_.size() - keep);
  held_.erase(0, certain.size());
  return certain;
}

}  // namespace sluice
