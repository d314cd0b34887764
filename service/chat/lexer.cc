#include "service/chat/lexer.h"

#include <algorithm>
#include <cstdint>
#include <optional>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "scheduler/base/status_macros.h"
#include "service/chat/cat.h"
#include "service/tokenizer/utf8.h"

namespace sluice::jinja {
namespace {

bool IsNameStart(char c) { return absl::ascii_isalpha(static_cast<unsigned char>(c)) || c == '_'; }
bool IsDigit(char c) { return absl::ascii_isdigit(static_cast<unsigned char>(c)); }
bool IsNamePart(char c) { return IsNameStart(c) || IsDigit(c); }
bool IsSpace(char c) { return absl::ascii_isspace(static_cast<unsigned char>(c)); }

std::string_view StripLeadingSpace(std::string_view text) {
  while (!text.empty() && IsSpace(text.front())) text.remove_prefix(1);
  return text;
}

std::string_view StripTrailingSpace(std::string_view text) {
  while (!text.empty() && IsSpace(text.back())) text.remove_suffix(1);
  return text;
}

bool ConsumePrefix(std::string_view* text, std::string_view prefix) {
  if (!text->starts_with(prefix)) return false;
  text->remove_prefix(prefix.size());
  return true;
}

std::string NormalizeNewlines(std::string_view source) {
  std::string out;
  out.reserve(source.size());
  for (size_t i = 0; i < source.size(); ++i) {
    if (source[i] != '\r') {
      out += source[i];
    } else {
      out += '\n';
      if (i + 1 < source.size() && source[i + 1] == '\n') ++i;
    }
  }
  if (!out.empty() && out.back() == '\n') out.pop_back();
  return out;
}

class Lexer {
 public:
  explicit Lexer(std::string source) : source_(std::move(source)) {}

  absl::StatusOr<std::vector<Token>> Run() {
    while (pos_ < source_.size()) SLUICE_RETURN_IF_ERROR(TextAndTag());
    Add(Token::Type::kEnd, "");
    return std::move(tokens_);
  }

 private:
  std::string_view rest() const { return std::string_view(source_).substr(pos_); }

  absl::Status Error(std::string_view what) const {
    return absl::InvalidArgumentError(Cat("line ", line_, ": ", what));
  }

  void Add(Token::Type type, std::string text) {
    tokens_.push_back({type, std::move(text), line_});
  }

  void Advance(size_t bytes) {
    const std::string_view skipped = rest().substr(0, bytes);
    line_ += static_cast<int>(std::count(skipped.begin(), skipped.end(), '\n'));
    pos_ += skipped.size();
  }

  // Where the next tag begins, or the end.
  size_t NextTag() const {
    for (size_t at = source_.find('{', pos_); at != std::string::npos;
         at = source_.find('{', at + 1)) {
      if (at + 1 < source_.size() && absl::StrContains("{%#", source_[at + 1])) return at;
    }
    return source_.size();
  }

  // Text up to the next tag, and the tag.
  absl::Status TextAndTag() {
    const size_t tag = NextTag();
    std::string_view text = std::string_view(source_).substr(pos_, tag - pos_);
    if (tag < source_.size()) text = StripBeforeTag(text, tag);
    if (!text.empty()) Add(Token::Type::kText, std::string(text));
    Advance(tag - pos_);
    if (pos_ == source_.size()) return absl::OkStatus();
    if (source_[pos_ + 1] == '#') return Comment();
    if (source_[pos_ + 1] == '{') return Output();
    if (const size_t raw = RawTag("raw"); raw > 0) return Raw(raw);
    return Block();
  }

  // `text` without what the tag at `tag` takes away.
  std::string_view StripBeforeTag(std::string_view text, size_t tag) const {
    const char sign = tag + 2 < source_.size() ? source_[tag + 2] : ' ';
    if (sign == '-') return StripTrailingSpace(text);
    if (sign == '+' || source_[tag + 1] == '{') return text;
    const size_t newline = text.rfind('\n');
    const size_t line = newline == std::string_view::npos ? 0 : newline + 1;
    if (line == 0 && !at_line_start_) return text;
    const std::string_view before = text.substr(line);
    return std::all_of(before.begin(), before.end(), IsSpace) ? text.substr(0, line) : text;
  }

  // Skips the end of a tag that is `size` bytes, and what whitespace it takes along.
  void EndTag(size_t size, bool strip, bool trim_newline) {
    Advance(size);
    size_t more = 0;
    if (strip) {
      while (more < rest().size() && IsSpace(rest()[more])) ++more;
    } else if (trim_newline && rest().starts_with("\n")) {
      more = 1;
    }
    at_line_start_ = more > 0 && rest()[more - 1] == '\n';
    Advance(more);
  }

  absl::Status Comment() {
    const size_t end = source_.find("#}", pos_ + 2);
    if (end == std::string::npos) return Error("the comment does not end; \"#}\" is missing");
    const char sign = end > pos_ + 2 ? source_[end - 1] : ' ';
    EndTag(end + 2 - pos_, sign == '-', sign != '+');
    return absl::OkStatus();
  }

  // The size of the tag `{% name %}` here; 0 if there is none.
  size_t RawTag(std::string_view name) const {
    std::string_view text = rest();
    const auto skip_spaces = [&] { text = StripLeadingSpace(text); };
    if (!ConsumePrefix(&text, "{%")) return 0;
    if (!text.empty() && (text[0] == '-' || text[0] == '+')) text.remove_prefix(1);
    skip_spaces();
    if (!ConsumePrefix(&text, name)) return 0;
    skip_spaces();
    if (!text.empty() && (text[0] == '-' || text[0] == '+')) text.remove_prefix(1);
    if (!ConsumePrefix(&text, "%}")) return 0;
    return rest().size() - text.size();
  }

  absl::Status Raw(size_t begin_size) {
    EndTag(begin_size, source_[pos_ + begin_size - 3] == '-', /*trim_newline=*/false);
    const size_t begin = pos_;
    for (size_t at = source_.find("{%", pos_); at != std::string::npos;
         at = source_.find("{%", at + 1)) {
      Advance(at - pos_);
      const size_t end_size = RawTag("endraw");
      if (end_size == 0) continue;
      const auto text = StripBeforeTag(std::string_view(source_).substr(begin, at - begin), at);
      if (!text.empty()) Add(Token::Type::kText, std::string(text));
      const char sign = source_[pos_ + end_size - 3];
      EndTag(end_size, sign == '-', sign != '+');
      return absl::OkStatus();
    }
    return Error("{% raw %} does not end; {% endraw %} is missing");
  }

  absl::Status Output() {
    Add(Token::Type::kOutputBegin, "{{");
    Advance(2);
    if (rest().starts_with("-") || rest().starts_with("+")) Advance(1);
    SLUICE_RETURN_IF_ERROR(Expression("}}"));
    Add(Token::Type::kOutputEnd, "}}");
    const bool strip = rest()[0] == '-';
    EndTag(strip ? 3 : 2, strip, /*trim_newline=*/false);
    return absl::OkStatus();
  }

  absl::Status Block() {
    Add(Token::Type::kBlockBegin, "{%");
    Advance(2);
    if (rest().starts_with("-") || rest().starts_with("+")) Advance(1);
    SLUICE_RETURN_IF_ERROR(Expression("%}"));
    Add(Token::Type::kBlockEnd, "%}");
    const char sign = rest()[0];
    EndTag(sign == '%' ? 2 : 3, sign == '-', sign != '+');
    return absl::OkStatus();
  }

  bool AtEnd(std::string_view end) const {
    if (rest().starts_with(end)) return true;
    const bool sign = rest().starts_with("-") || (end == "%}" && rest().starts_with("+"));
    return sign && rest().substr(1).starts_with(end);
  }

  // Tokens up to `end`, which is left in place.
  absl::Status Expression(std::string_view end) {
    int open = 0;  // brackets
    const int begin_line = line_;
    for (;;) {
      while (!rest().empty() && IsSpace(rest()[0])) Advance(1);
      if (rest().empty()) {
        return absl::InvalidArgumentError(
            Cat("line ", begin_line, ": the tag does not end; \"", end, "\" is missing"));
      }
      if (open == 0 && AtEnd(end)) return absl::OkStatus();
      const char c = rest()[0];
      if (IsNameStart(c)) {
        Name();
      } else if (IsDigit(c)) {
        SLUICE_RETURN_IF_ERROR(Number());
      } else if (c == '"' || c == '\'') {
        SLUICE_RETURN_IF_ERROR(String());
      } else {
        if (absl::StrContains("([{", c)) ++open;
        if (absl::StrContains(")]}", c)) --open;
        SLUICE_RETURN_IF_ERROR(Operator());
      }
    }
  }

  void Name() {
    size_t size = 1;
    while (size < rest().size() && IsNamePart(rest()[size])) ++size;
    Add(Token::Type::kName, std::string(rest().substr(0, size)));
    Advance(size);
  }

  absl::Status Number() {
    const std::string_view text = rest();
    const auto digits = [&](size_t from) {
      while (from < text.size() && (IsDigit(text[from]) || text[from] == '_')) ++from;
      return from;
    };
    size_t size = digits(0);
    bool is_float = false;
    if (size + 1 < text.size() && text[size] == '.' && IsDigit(text[size + 1])) {
      is_float = true;
      size = digits(size + 1);
    }
    if (size < text.size() && (text[size] == 'e' || text[size] == 'E')) {
      const size_t sign = size + 1 < text.size() && absl::StrContains("+-", text[size + 1]) ? 2 : 1;
      if (const size_t end = digits(size + sign); end > size + sign) {
        is_float = true;
        size = end;
      }
    }
    if (size < text.size() && IsNamePart(text[size])) {
      return Error("a number runs into a name; only decimal numbers are supported");
    }
    std::string number(text.substr(0, size));
    number.erase(std::remove(number.begin(), number.end(), '_'), number.end());
    int64_t integer = 0;
    if (!is_float && !absl::SimpleAtoi(number, &integer)) {
      return Error(Cat("the number ", number, " is too large"));
    }
    Add(is_float ? Token::Type::kFloat : Token::Type::kInteger, std::move(number));
    Advance(size);
    return absl::OkStatus();
  }

  absl::Status String() {
    const char quote = rest()[0];
    std::string value;
    size_t i = 1;
    const std::string_view text = rest();
    while (i < text.size() && text[i] != quote) {
      if (text[i] == '\\') {
        i += Escape(text.substr(i), &value);
      } else {
        value += text[i++];
      }
    }
    if (i >= text.size()) return Error("the string does not end; a quote is missing");
    Add(Token::Type::kString, std::move(value));
    Advance(i + 1);
    return absl::OkStatus();
  }

  // Appends what the escape at the beginning of `text` means; returns its size. Python keeps the
  // backslash of escapes that it does not know.
  static size_t Escape(std::string_view text, std::string* out) {
    static constexpr std::string_view kNames = "ntrabfv0\\'\"\n";
    static constexpr std::string_view kMeanings("\n\t\r\a\b\f\v\0\\'\"", 11);
    const char c = text.size() > 1 ? text[1] : '\\';
    if (const size_t known = kNames.find(c); known != std::string_view::npos) {
      if (known < kMeanings.size()) *out += kMeanings[known];
      return 2;
    }
    const size_t digits = c == 'x' ? 2 : c == 'u' ? 4 : c == 'U' ? 8 : 0;
    uint32_t code = 0;
    if (digits > 0 && text.size() >= 2 + digits &&
        absl::SimpleHexAtoi(std::string(text.substr(2, digits)), &code) && code <= 0x10FFFF &&
        (code < 0xD800 || code > 0xDFFF)) {
      AppendUtf8(static_cast<char32_t>(code), out);
      return 2 + digits;
    }
    *out += '\\';
    return 1;
  }

  absl::Status Operator() {
    static constexpr std::string_view kLong[] = {"//", "**", "==", "!=", "<=", ">="};
    for (const std::string_view op : kLong) {
      if (!rest().starts_with(op)) continue;
      Add(Token::Type::kOperator, std::string(op));
      Advance(2);
      return absl::OkStatus();
    }
    if (!absl::StrContains("+-/*%~[](){}<>=.:|,", rest()[0])) {
      return Error(Cat("unexpected character '", rest().substr(0, 1), "'"));
    }
    Add(Token::Type::kOperator, std::string(rest().substr(0, 1)));
    Advance(1);
    return absl::OkStatus();
  }

  const std::string source_;
  size_t pos_ = 0;
  int line_ = 1;
  bool at_line_start_ = true;  // the text from here on begins a line
  std::vector<Token> tokens_;
};

}  // namespace

absl::StatusOr<std::vector<Token>> Tokenize(std::string_view source) {
  return Lexer(NormalizeNewlines(source)).Run();
}

}  // namespace sluice::jinja
