// The incremental half of decoder.h.
#include <utility>

#include "service/tokenizer/decoder.h"
#include "service/tokenizer/utf8.h"

namespace sluice {

StreamDecoder::StreamDecoder(const DecoderPlan& plan) : plan_(plan) { Reset(); }

void StreamDecoder::Reset() {
  states_.assign(plan_.token_steps.size(), StepState());
  strips_.assign(plan_.text_steps.size(), StripState());
  for (size_t i = 0; i < strips_.size(); ++i) strips_[i].start_left = plan_.text_steps[i].start;
  any_token_ = false;
  bytes_.clear();
}

std::string StreamDecoder::Push(std::string_view token) {
  RunSteps(0, std::string(token));
  return std::exchange(out_, std::string());
}

std::string StreamDecoder::Finish() {
  for (size_t step = 0; step < states_.size(); ++step) FlushRun(step);
  if (!bytes_.empty()) EmitText(kReplacementCharacter);
  // What the strips still hold is what they remove.
  Reset();
  return std::exchange(out_, std::string());
}

void StreamDecoder::RunSteps(size_t step, std::string token) {
  for (; step < plan_.token_steps.size(); ++step) {
    const TokenStep& what = plan_.token_steps[step];
    StepState& state = states_[step];
    if (const auto* replace = std::get_if<ReplaceStep>(&what)) {
      token = ReplaceInToken(*replace, token);
    } else if (const auto* metaspace = std::get_if<MetaspaceDecodeStep>(&what)) {
      token = MetaspaceInToken(*metaspace, token, std::exchange(state.at_first_token, false));
    } else if (const auto* strip = std::get_if<StripStep>(&what)) {
      token = std::string(StripText(*strip, token));
    } else if (const int byte = FallbackByte(token); byte >= 0) {
      state.run.push_back(static_cast<char>(byte));
      return;  // the end of the run decides
    } else {
      FlushRun(step);
    }
  }
  Join(token);
}

void StreamDecoder::FlushRun(size_t step) {
  const std::string run = std::exchange(states_[step].run, std::string());
  if (run.empty()) return;
  if (IsValidUtf8(run)) {
    RunSteps(step + 1, run);
    return;
  }
  for (size_t i = 0; i < run.size(); ++i) RunSteps(step + 1, std::string(kReplacementCharacter));
}

void StreamDecoder::Join(std::string_view token) {
  if (plan_.join == JoinTokens::kByteLevel) {
    EmitBytes(TokenAsBytes(token));
    return;
  }
  if (plan_.join == JoinTokens::kSpaces && std::exchange(any_token_, true)) EmitText(" ");
  EmitText(token);
}

void StreamDecoder::EmitBytes(std::string_view bytes) {
  bytes_.append(bytes);
  std::string_view rest = bytes_;
  std::string text;
  while (!rest.empty()) {
    const size_t valid = ValidUtf8Prefix(rest);
    text.append(rest.substr(0, valid));
    rest.remove_prefix(valid);
    if (rest.empty()) break;
    const Utf8Unit unit = DecodeUtf8(rest);
    if (unit.kind == Utf8Unit::Kind::kIncomplete) break;
    text.append(kReplacementCharacter);
    rest.remove_prefix(unit.size);
  }
  bytes_.erase(0, bytes_.size() - rest.size());
  EmitText(text);
}

void StreamDecoder::EmitText(std::string_view text) {
  std::string current(text);
  for (size_t i = 0; i < strips_.size(); ++i) {
    const StripStep& step = plan_.text_steps[i];
    StripState& state = strips_[i];
    std::string kept;
    for (std::string_view rest = current; !rest.empty();) {
      const std::string_view c = rest.substr(0, NextCharacter(rest).size);
      rest.remove_prefix(c.size());
      const bool strippable = c == step.content;
      if (!state.started && strippable && state.start_left > 0) {
        --state.start_left;
        continue;
      }
      state.started = true;
      if (!strippable) {
        kept.append(std::exchange(state.held, std::string()));
        kept.append(c);
        continue;
      }
      state.held.append(c);
      if (state.held.size() > step.stop * c.size()) {  // at most `stop` go; the first of them stays
        state.held.erase(0, c.size());
        kept.append(c);
      }
    }
    current = std::move(kept);
  }
  out_.append(current);
}

}  // namespace sluice
