#include "service/tokenizer/decoder.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "scheduler/base/status_macros.h"
#include "service/tokenizer/byte_alphabet.h"
#include "service/tokenizer/normalizer.h"
#include "service/tokenizer/utf8.h"

namespace sluice {
namespace {

int HexDigit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  return -1;
}

// Reads a decoder and those nested in it.
class Parser {
 public:
  absl::Status Add(const JsonNode& node) {
    SLUICE_ASSIGN_OR_RETURN(const std::string type, node.Type());
    if (type == "Sequence") return AddSequence(node);
    if (type == "Fuse") {
      joined_ = true;
      return absl::OkStatus();
    }
    if (type == "Strip") return AddStrip(node);
    if (joined_) {
      return node.Unimplemented(absl::StrCat("decoder '", type, "' after Fuse or ByteLevel"));
    }
    if (type == "ByteLevel") {
      plan_.join = JoinTokens::kByteLevel;
      joined_ = true;
      return absl::OkStatus();
    }
    if (type == "ByteFallback") {
      plan_.token_steps.emplace_back(ByteFallbackStep{});
      return absl::OkStatus();
    }
    if (type == "Metaspace") {
      SLUICE_ASSIGN_OR_RETURN(Metaspace options, ParseMetaspace(node));
      plan_.token_steps.emplace_back(MetaspaceDecodeStep{std::move(options)});
      return absl::OkStatus();
    }
    if (type == "Replace") return AddReplace(node);
    return node.Unimplemented(absl::StrCat("decoder '", type, "'"));
  }

  DecoderPlan Finish() { return std::move(plan_); }

 private:
  absl::Status AddSequence(const JsonNode& node) {
    SLUICE_ASSIGN_OR_RETURN(const JsonNode list, node.Get("decoders"));
    SLUICE_ASSIGN_OR_RETURN(const std::vector<JsonNode> elements, list.Elements());
    for (const JsonNode& element : elements) SLUICE_RETURN_IF_ERROR(Add(element));
    return absl::OkStatus();
  }

  absl::Status AddReplace(const JsonNode& node) {
    SLUICE_ASSIGN_OR_RETURN(const JsonNode pattern_node, node.Get("pattern"));
    SLUICE_ASSIGN_OR_RETURN(std::unique_ptr<Pattern> pattern, ParsePattern(pattern_node));
    SLUICE_ASSIGN_OR_RETURN(std::string content, node.String("content"));
    plan_.token_steps.emplace_back(ReplaceStep{std::move(pattern), std::move(content)});
    return absl::OkStatus();
  }

  absl::Status AddStrip(const JsonNode& node) {
    StripStep step;
    SLUICE_ASSIGN_OR_RETURN(step.content, node.String("content"));
    if (step.content.empty() || NextCharacter(step.content).size != step.content.size()) {
      return node.Invalid(absl::StrCat("content '", step.content, "' is not one character"));
    }
    SLUICE_ASSIGN_OR_RETURN(const int64_t start, node.Int("start"));
    SLUICE_ASSIGN_OR_RETURN(const int64_t stop, node.Int("stop"));
    if (start < 0 || stop < 0) return node.Invalid("start and stop must not be negative");
    step.start = static_cast<size_t>(start);
    step.stop = static_cast<size_t>(stop);
    if (joined_) {
      plan_.text_steps.push_back(std::move(step));
    } else {
      plan_.token_steps.emplace_back(std::move(step));
    }
    return absl::OkStatus();
  }

  DecoderPlan plan_;
  bool joined_ = false;
};

std::vector<std::string> JoinByteTokens(const std::vector<std::string>& tokens) {
  std::vector<std::string> out;
  std::string run;
  const auto flush = [&] {
    if (IsValidUtf8(run)) {
      if (!run.empty()) out.push_back(run);
    } else {
      out.insert(out.end(), run.size(), std::string(kReplacementCharacter));
    }
    run.clear();
  };
  for (const std::string& token : tokens) {
    const int byte = FallbackByte(token);
    if (byte >= 0) {
      run.push_back(static_cast<char>(byte));
      continue;
    }
    flush();
    out.push_back(token);
  }
  flush();
  return out;
}

std::vector<std::string> ApplyStep(const TokenStep& step, std::vector<std::string> tokens) {
  if (std::holds_alternative<ByteFallbackStep>(step)) return JoinByteTokens(tokens);
  bool first = true;
  for (std::string& token : tokens) {
    if (const auto* replace = std::get_if<ReplaceStep>(&step)) {
      token = ReplaceInToken(*replace, token);
    } else if (const auto* metaspace = std::get_if<MetaspaceDecodeStep>(&step)) {
      token = MetaspaceInToken(*metaspace, token, first);
    } else {
      token = std::string(StripText(std::get<StripStep>(step), token));
    }
    first = false;
  }
  return tokens;
}

}  // namespace

absl::StatusOr<DecoderPlan> ParseDecoder(const JsonNode& node) {
  if (node.is_null()) {
    DecoderPlan plan;
    plan.join = JoinTokens::kSpaces;
    return plan;
  }
  Parser parser;
  SLUICE_RETURN_IF_ERROR(parser.Add(node));
  return parser.Finish();
}

std::string DecodeTokens(const DecoderPlan& plan, std::vector<std::string> tokens) {
  for (const TokenStep& step : plan.token_steps) tokens = ApplyStep(step, std::move(tokens));
  std::string text;
  if (plan.join == JoinTokens::kByteLevel) {
    for (const std::string& token : tokens) text.append(TokenAsBytes(token));
    text = ReplaceInvalidUtf8(text);
  } else {
    text = absl::StrJoin(tokens, plan.join == JoinTokens::kSpaces ? " " : "");
  }
  for (const StripStep& step : plan.text_steps) text = std::string(StripText(step, text));
  return text;
}

std::string ReplaceInToken(const ReplaceStep& step, std::string_view token) {
  return ReplaceMatches(token, *step.pattern, step.content);
}

std::string MetaspaceInToken(const MetaspaceDecodeStep& step, std::string_view token, bool first) {
  const bool drop = first && step.options.prepend != PrependScheme::kNever;
  const std::string& mark = step.options.mark;
  std::string out;
  for (size_t at = 0; at < token.size();) {
    const size_t next = token.find(mark, at);
    out.append(token.substr(at, next - at));  // to the end if there is none
    if (next == std::string_view::npos) break;
    if (!drop) out.push_back(' ');
    at = next + mark.size();
  }
  return out;
}

int FallbackByte(std::string_view token) {
  if (token.size() != 6 || token.substr(0, 3) != "<0x" || token[5] != '>') return -1;
  const int high = HexDigit(token[3]);
  const int low = HexDigit(token[4]);
  return high < 0 || low < 0 ? -1 : high * 16 + low;
}

std::string TokenAsBytes(std::string_view token) {
  std::optional<std::string> bytes = TextAsBytes(token);
  return bytes.has_value() ? *std::move(bytes) : std::string(token);
}

std::string_view StripText(const StripStep& step, std::string_view text) {
  const std::string& c = step.content;
  for (size_t i = 0; i < step.start && text.substr(0, c.size()) == c; ++i) {
    text.remove_prefix(c.size());
  }
  for (size_t i = 0;
       i < step.stop && text.size() >= c.size() && text.substr(text.size() - c.size()) == c; ++i) {
    text.remove_suffix(c.size());
  }
  return text;
}

}  // namespace sluice
