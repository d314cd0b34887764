#include "service/tokenizer/normalizer.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "scheduler/base/status_macros.h"
#include "service/tokenizer/unicode_form.h"
#include "service/tokenizer/utf8.h"

namespace sluice {
namespace {

class Identity : public Normalizer {
 public:
  std::string Normalize(std::string text) const override { return text; }
};

class Sequence : public Normalizer {
 public:
  explicit Sequence(std::vector<std::unique_ptr<Normalizer>> steps) : steps_(std::move(steps)) {}
  std::string Normalize(std::string text) const override {
    for (const auto& step : steps_) text = step->Normalize(std::move(text));
    return text;
  }

 private:
  const std::vector<std::unique_ptr<Normalizer>> steps_;
};

class Unicode : public Normalizer {
 public:
  explicit Unicode(UnicodeForm form) : form_(form) {}
  std::string Normalize(std::string text) const override {
    return ToUnicodeForm(std::move(text), form_);
  }

 private:
  const UnicodeForm form_;
};

class Lowercase : public Normalizer {
 public:
  std::string Normalize(std::string text) const override {
    std::string out;
    out.reserve(text.size());
    for (std::string_view rest = text; !rest.empty();) {
      const Utf8Unit c = NextCharacter(rest);
      AppendLowercase(c.code_point, &out);
      rest.remove_prefix(c.size);
    }
    return out;
  }
};

class Prepend : public Normalizer {
 public:
  explicit Prepend(std::string prefix) : prefix_(std::move(prefix)) {}
  std::string Normalize(std::string text) const override {
    if (!text.empty()) text.insert(0, prefix_);
    return text;
  }

 private:
  const std::string prefix_;
};

class Replace : public Normalizer {
 public:
  Replace(std::unique_ptr<Pattern> pattern, std::string content)
      : pattern_(std::move(pattern)), content_(std::move(content)) {}
  std::string Normalize(std::string text) const override {
    return ReplaceMatches(text, *pattern_, content_);
  }

 private:
  const std::unique_ptr<Pattern> pattern_;
  const std::string content_;
};

class Strip : public Normalizer {
 public:
  Strip(bool left, bool right) : left_(left), right_(right) {}
  std::string Normalize(std::string text) const override {
    std::string_view rest = text;
    while (left_ && !rest.empty()) {
      const Utf8Unit c = NextCharacter(rest);
      if (!IsWhitespace(c.code_point)) break;
      rest.remove_prefix(c.size);
    }
    while (right_ && !rest.empty()) {
      const size_t last = LastCharacterStart(rest);
      if (!IsWhitespace(NextCharacter(rest.substr(last)).code_point)) break;
      rest = rest.substr(0, last);
    }
    return std::string(rest);
  }

 private:
  const bool left_;
  const bool right_;
};

absl::StatusOr<std::unique_ptr<Normalizer>> ParseSequence(const JsonNode& node) {
  SLUICE_ASSIGN_OR_RETURN(const JsonNode list, node.Get("normalizers"));
  SLUICE_ASSIGN_OR_RETURN(const std::vector<JsonNode> elements, list.Elements());
  std::vector<std::unique_ptr<Normalizer>> steps;
  for (const JsonNode& element : elements) {
    SLUICE_ASSIGN_OR_RETURN(std::unique_ptr<Normalizer> step, ParseNormalizer(element));
    steps.push_back(std::move(step));
  }
  return std::make_unique<Sequence>(std::move(steps));
}

absl::StatusOr<std::unique_ptr<Normalizer>> ParseReplace(const JsonNode& node) {
  SLUICE_ASSIGN_OR_RETURN(const JsonNode pattern_node, node.Get("pattern"));
  SLUICE_ASSIGN_OR_RETURN(std::unique_ptr<Pattern> pattern, ParsePattern(pattern_node));
  SLUICE_ASSIGN_OR_RETURN(std::string content, node.String("content"));
  return std::make_unique<Replace>(std::move(pattern), std::move(content));
}

absl::StatusOr<std::unique_ptr<Normalizer>> ParseStrip(const JsonNode& node) {
  SLUICE_ASSIGN_OR_RETURN(const bool left, node.BoolOr("strip_left", true));
  SLUICE_ASSIGN_OR_RETURN(const bool right, node.BoolOr("strip_right", true));
  return std::make_unique<Strip>(left, right);
}

}  // namespace

absl::StatusOr<std::unique_ptr<Normalizer>> ParseNormalizer(const JsonNode& node) {
  if (node.is_null()) return std::make_unique<Identity>();
  SLUICE_ASSIGN_OR_RETURN(const std::string type, node.Type());
  if (type == "Sequence") return ParseSequence(node);
  if (type == "NFC") return std::make_unique<Unicode>(UnicodeForm::kNfc);
  if (type == "NFD") return std::make_unique<Unicode>(UnicodeForm::kNfd);
  if (type == "NFKC") return std::make_unique<Unicode>(UnicodeForm::kNfkc);
  if (type == "NFKD") return std::make_unique<Unicode>(UnicodeForm::kNfkd);
  if (type == "Lowercase") return std::make_unique<Lowercase>();
  if (type == "Replace") return ParseReplace(node);
  if (type == "Strip") return ParseStrip(node);
  if (type == "Prepend") {
    SLUICE_ASSIGN_OR_RETURN(std::string prefix, node.String("prepend"));
    return std::make_unique<Prepend>(std::move(prefix));
  }
  return node.Unimplemented(absl::StrCat("normalizer '", type, "'"));
}

absl::StatusOr<std::unique_ptr<Pattern>> ParsePattern(const JsonNode& node) {
  if (node.Find("Regex").has_value()) {
    SLUICE_ASSIGN_OR_RETURN(const std::string regex, node.String("Regex"));
    absl::StatusOr<std::unique_ptr<Pattern>> pattern = CompileRegex(regex);
    if (!pattern.ok()) return node.Annotate(pattern.status());
    return pattern;
  }
  SLUICE_ASSIGN_OR_RETURN(std::string literal, node.String("String"));
  if (literal.empty()) return node.Unimplemented("an empty pattern");
  return LiteralPattern(std::move(literal));
}

std::string ReplaceMatches(std::string_view text, const Pattern& pattern,
                           std::string_view content) {
  std::string out;
  out.reserve(text.size());
  for (const Span& span : pattern.Cut(text)) {
    out.append(span.is_match ? content : text.substr(span.begin, span.end - span.begin));
  }
  return out;
}

}  // namespace sluice
