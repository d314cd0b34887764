#include "service/tokenizer/pre_tokenizer.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "scheduler/base/status_macros.h"
#include "service/tokenizer/normalizer.h"
#include "service/tokenizer/utf8.h"

namespace sluice {
namespace {

// GPT-2's pattern, fixed for ByteLevel with use_regex.
constexpr std::string_view kGpt2Regex =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

void Emit(const Piece& piece, const std::vector<Span>& spans, std::vector<Piece>* out) {
  for (const Span& span : spans) {
    out->push_back(
        {piece.text.substr(span.begin, span.end - span.begin), piece.at_start && span.begin == 0});
  }
}

class PatternStep : public SplitStep {
 public:
  PatternStep(std::unique_ptr<Pattern> pattern, SplitBehavior behavior, bool invert = false)
      : pattern_(std::move(pattern)), behavior_(behavior), invert_(invert) {}

  void Split(const Piece& piece, std::deque<std::string>* /*storage*/,
             std::vector<Piece>* out) const override {
    std::vector<Span> spans = pattern_->Cut(piece.text);
    if (invert_) {
      for (Span& span : spans) span.is_match = !span.is_match;
    }
    Emit(piece, ApplyBehavior(spans, behavior_), out);
  }

 private:
  const std::unique_ptr<Pattern> pattern_;
  const SplitBehavior behavior_;
  const bool invert_;
};

// The splitting half of ByteLevel; the bytes become characters inside the model.
class ByteLevelStep : public SplitStep {
 public:
  // `regex` may be null: no splitting.
  ByteLevelStep(bool add_prefix_space, std::unique_ptr<Pattern> regex)
      : add_prefix_space_(add_prefix_space), regex_(std::move(regex)) {}

  void Split(const Piece& in, std::deque<std::string>* storage,
             std::vector<Piece>* out) const override {
    Piece piece = in;
    if (add_prefix_space_ && piece.text.front() != ' ') {
      piece.text = storage->emplace_back(absl::StrCat(" ", std::string(in.text)));
    }
    if (regex_ == nullptr) {
      out->push_back(piece);
    } else {
      Emit(piece, ApplyBehavior(regex_->Cut(piece.text), SplitBehavior::kIsolated), out);
    }
  }

 private:
  const bool add_prefix_space_;
  const std::unique_ptr<Pattern> regex_;
};

class MetaspaceStep : public SplitStep {
 public:
  explicit MetaspaceStep(Metaspace options)
      : options_(std::move(options)),
        space_(LiteralPattern(" ")),
        mark_(LiteralPattern(options_.mark)) {}

  void Split(const Piece& in, std::deque<std::string>* storage,
             std::vector<Piece>* out) const override {
    std::string& text = storage->emplace_back(ReplaceMatches(in.text, *space_, options_.mark));
    const bool wanted = options_.prepend == PrependScheme::kAlways ||
                        (options_.prepend == PrependScheme::kFirst && in.at_start);
    if (wanted && text.compare(0, options_.mark.size(), options_.mark) != 0) {
      text.insert(0, options_.mark);
    }
    const Piece piece = {text, in.at_start};
    if (!options_.split) {
      out->push_back(piece);
    } else {
      Emit(piece, ApplyBehavior(mark_->Cut(text), SplitBehavior::kMergedWithNext), out);
    }
  }

 private:
  const Metaspace options_;
  const std::unique_ptr<Pattern> space_;
  const std::unique_ptr<Pattern> mark_;
};

// A match joins the span before it in `list`, unless that is a match as well.
std::vector<Span> JoinMatches(const std::vector<Span>& list, bool backwards) {
  std::vector<Span> out;
  bool previous_match = false;
  for (const Span& span : list) {
    if (span.is_match && !previous_match && !out.empty()) {
      (backwards ? out.back().begin : out.back().end) = backwards ? span.begin : span.end;
    } else {
      out.push_back(span);
    }
    previous_match = span.is_match;
  }
  return out;
}

std::vector<Span> JoinAlike(const std::vector<Span>& spans) {
  std::vector<Span> out;
  for (const Span& span : spans) {
    if (!out.empty() && out.back().is_match == span.is_match) {
      out.back().end = span.end;
    } else {
      out.push_back(span);
    }
  }
  return out;
}

absl::StatusOr<SplitBehavior> ParseBehavior(const JsonNode& node) {
  SLUICE_ASSIGN_OR_RETURN(const std::string name, node.String("behavior"));
  if (name == "Isolated") return SplitBehavior::kIsolated;
  if (name == "Removed") return SplitBehavior::kRemoved;
  if (name == "MergedWithPrevious") return SplitBehavior::kMergedWithPrevious;
  if (name == "MergedWithNext") return SplitBehavior::kMergedWithNext;
  if (name == "Contiguous") return SplitBehavior::kContiguous;
  return node.Invalid(absl::StrCat("behavior '", name,
                                   "' is not one of Isolated, Removed, MergedWithPrevious, "
                                   "MergedWithNext, Contiguous"));
}

// Collects the steps of nested sequences in order.
class Parser {
 public:
  absl::Status Add(const JsonNode& node) {
    const absl::StatusOr<std::string> type = node.Type();
    if (!type.ok()) return type.status();
    if (*type == "Sequence") return AddSequence(node);
    if (byte_level_) return node.Unimplemented("a pre-tokenizer after ByteLevel");
    SLUICE_ASSIGN_OR_RETURN(std::unique_ptr<SplitStep> step, ParseStep(*type, node));
    steps_.push_back(std::move(step));
    byte_level_ = *type == "ByteLevel";
    return absl::OkStatus();
  }

  std::unique_ptr<PreTokenizer> Finish() {
    return std::make_unique<PreTokenizer>(std::move(steps_), byte_level_);
  }

 private:
  absl::Status AddSequence(const JsonNode& node) {
    SLUICE_ASSIGN_OR_RETURN(const JsonNode list, node.Get("pretokenizers"));
    SLUICE_ASSIGN_OR_RETURN(const std::vector<JsonNode> elements, list.Elements());
    for (const JsonNode& element : elements) SLUICE_RETURN_IF_ERROR(Add(element));
    return absl::OkStatus();
  }

  static absl::StatusOr<std::unique_ptr<SplitStep>> ParseStep(const std::string& type,
                                                              const JsonNode& node) {
    if (type == "ByteLevel") return ParseByteLevel(node);
    if (type == "Split") return ParseSplit(node);
    if (type == "Metaspace") {
      SLUICE_ASSIGN_OR_RETURN(Metaspace options, ParseMetaspace(node));
      return std::make_unique<MetaspaceStep>(std::move(options));
    }
    if (type == "Digits") {
      SLUICE_ASSIGN_OR_RETURN(const bool single, node.BoolOr("individual_digits", false));
      return std::make_unique<PatternStep>(
          CharacterPattern(IsNumeric),
          single ? SplitBehavior::kIsolated : SplitBehavior::kContiguous);
    }
    if (type == "Punctuation") {
      SplitBehavior behavior = SplitBehavior::kIsolated;
      if (node.Find("behavior").has_value()) {
        SLUICE_ASSIGN_OR_RETURN(behavior, ParseBehavior(node));
      }
      return std::make_unique<PatternStep>(CharacterPattern(IsPunctuation), behavior);
    }
    if (type == "WhitespaceSplit") {
      return std::make_unique<PatternStep>(CharacterPattern(IsWhitespace), SplitBehavior::kRemoved);
    }
    return node.Unimplemented(absl::StrCat("pre-tokenizer '", type, "'"));
  }

  static absl::StatusOr<std::unique_ptr<SplitStep>> ParseByteLevel(const JsonNode& node) {
    SLUICE_ASSIGN_OR_RETURN(const bool add_prefix_space, node.BoolOr("add_prefix_space", true));
    SLUICE_ASSIGN_OR_RETURN(const bool use_regex, node.BoolOr("use_regex", true));
    std::unique_ptr<Pattern> regex;
    if (use_regex) {
      SLUICE_ASSIGN_OR_RETURN(regex, CompileRegex(kGpt2Regex));
    }
    return std::make_unique<ByteLevelStep>(add_prefix_space, std::move(regex));
  }

  static absl::StatusOr<std::unique_ptr<SplitStep>> ParseSplit(const JsonNode& node) {
    SLUICE_ASSIGN_OR_RETURN(const JsonNode pattern_node, node.Get("pattern"));
    SLUICE_ASSIGN_OR_RETURN(std::unique_ptr<Pattern> pattern, ParsePattern(pattern_node));
    SLUICE_ASSIGN_OR_RETURN(const SplitBehavior behavior, ParseBehavior(node));
    SLUICE_ASSIGN_OR_RETURN(const bool invert, node.BoolOr("invert", false));
    return std::make_unique<PatternStep>(std::move(pattern), behavior, invert);
  }

  std::vector<std::unique_ptr<SplitStep>> steps_;
  bool byte_level_ = false;
};

}  // namespace

std::vector<Span> ApplyBehavior(const std::vector<Span>& spans, SplitBehavior behavior) {
  std::vector<Span> out;
  switch (behavior) {
    case SplitBehavior::kIsolated:
    case SplitBehavior::kRemoved:
      out = spans;
      break;
    case SplitBehavior::kMergedWithPrevious:
      out = JoinMatches(spans, /*backwards=*/false);
      break;
    case SplitBehavior::kMergedWithNext:
      out = JoinMatches({spans.rbegin(), spans.rend()}, /*backwards=*/true);
      std::reverse(out.begin(), out.end());
      break;
    case SplitBehavior::kContiguous:
      out = JoinAlike(spans);
      break;
  }
  const bool drop_matches = behavior == SplitBehavior::kRemoved;
  out.erase(std::remove_if(out.begin(), out.end(),
                           [drop_matches](const Span& s) {
                             return s.begin == s.end || (drop_matches && s.is_match);
                           }),
            out.end());
  return out;
}

std::vector<Piece> PreTokenizer::Split(std::string_view text, bool at_start,
                                       std::deque<std::string>* storage) const {
  std::vector<Piece> pieces;
  if (!text.empty()) pieces.push_back({text, at_start});
  for (const auto& step : steps_) {
    std::vector<Piece> next;
    next.reserve(pieces.size());
    for (const Piece& piece : pieces) step->Split(piece, storage, &next);
    pieces = std::move(next);
  }
  return pieces;
}

absl::StatusOr<std::unique_ptr<PreTokenizer>> ParsePreTokenizer(const JsonNode& node) {
  Parser parser;
  if (!node.is_null()) SLUICE_RETURN_IF_ERROR(parser.Add(node));
  return parser.Finish();
}

absl::StatusOr<Metaspace> ParseMetaspace(const JsonNode& node) {
  Metaspace out;
  SLUICE_ASSIGN_OR_RETURN(out.mark, node.String("replacement"));
  if (out.mark.empty() || NextCharacter(out.mark).size != out.mark.size()) {
    return node.Invalid(absl::StrCat("replacement '", out.mark, "' is not one character"));
  }
  SLUICE_ASSIGN_OR_RETURN(out.split, node.BoolOr("split", true));
  SLUICE_ASSIGN_OR_RETURN(const bool add_prefix, node.BoolOr("add_prefix_space", true));
  if (!node.Find("prepend_scheme").has_value()) {  // files from before the member existed
    out.prepend = add_prefix ? PrependScheme::kAlways : PrependScheme::kNever;
    return out;
  }
  SLUICE_ASSIGN_OR_RETURN(const std::string scheme, node.String("prepend_scheme"));
  if (scheme == "first") {
    out.prepend = PrependScheme::kFirst;
  } else if (scheme == "never") {
    out.prepend = PrependScheme::kNever;
  } else if (scheme != "always") {
    return node.Invalid(
        absl::StrCat("prepend_scheme '", scheme, "' is not one of first, never, always"));
  }
  if (!add_prefix && out.prepend != PrependScheme::kNever) {
    return node.Invalid(absl::StrCat("add_prefix_space is false, but prepend_scheme is '", scheme,
                                     "', not 'never'"));
  }
  return out;
}

}  // namespace sluice
