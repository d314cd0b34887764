// The rewriting half of regex.h. Differences handled here, Oniguruma 6.9 (Ruby) against
// PCRE2 10.42:
//   \s \S   White_Space; PCRE2's also has U+180E
//   \w \W   letters, marks, decimal digits, connectors; PCRE2's has no marks
//   \h \H   a hexadecimal digit; PCRE2: horizontal space
//   \v      U+000B; PCRE2: any vertical space
//   \uHHHH  PCRE2: not an escape
//   [[a]b]  nested classes and && are set operations; PCRE2: ordinary characters
//   a{1,3}+ a repeated repeat; PCRE2: possessive
//   (?m)    '.' matches a newline; PCRE2: ^ and $ match at every line (they always do in Ruby)
#include <cctype>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "scheduler/base/status_macros.h"
#include "service/tokenizer/regex.h"

namespace sluice {
namespace {

constexpr std::string_view kWord = "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}";

class Translator {
 public:
  explicit Translator(std::string_view in) : in_(in) {}

  absl::StatusOr<std::string> Run() {
    while (at_ < in_.size()) SLUICE_RETURN_IF_ERROR(Step());
    return std::move(out_);
  }

 private:
  absl::Status Step() {
    const char c = in_[at_];
    if (c == '\\') return Escape();
    if (in_class_) return ClassCharacter(c);
    if (c == '[') return OpenClass();
    if (c == '}' && Peek(1) == '+' && EndsInterval()) {
      return Refuse("a '+' after a {n,m} repeat");
    }
    if (c == '(' && Peek(1) == '?') SLUICE_RETURN_IF_ERROR(CheckGroup());
    Copy(1);
    return absl::OkStatus();
  }

  // (?m...) lets '.' match a newline in Ruby; in PCRE2 it moves ^ and $.
  absl::Status CheckGroup() const {
    for (size_t i = 2; std::isalpha(static_cast<unsigned char>(Peek(i))) != 0; ++i) {
      if (Peek(i) == 'm') return Refuse("the option (?m)");
    }
    return absl::OkStatus();
  }

  // "[", "[^" and a "]" that is the first member.
  absl::Status OpenClass() {
    in_class_ = true;
    Copy(1);
    if (Peek(0) == '^') Copy(1);
    if (Peek(0) == ']') Copy(1);
    return absl::OkStatus();
  }

  absl::Status ClassCharacter(char c) {
    if (c == '[' && Peek(1) == ':') return PosixClass();
    if (c == '[') return Refuse("a class inside a class");
    if (c == '&' && Peek(1) == '&') return Refuse("'&&' inside a class");
    if (c == ']') in_class_ = false;
    Copy(1);
    return absl::OkStatus();
  }

  absl::Status PosixClass() {
    const size_t end = in_.find(":]", at_);
    if (end == std::string_view::npos) return Refuse("'[:' inside a class");
    Copy(end + 2 - at_);
    return absl::OkStatus();
  }

  absl::Status Escape() {
    const char c = Peek(1);
    switch (c) {
      case 's':
        return Replace("\\p{White_Space}");
      case 'S':
        return Replace("\\P{White_Space}");
      case 'w':
        return Replace(in_class_ ? std::string(kWord) : absl::StrCat("[", std::string(kWord), "]"));
      case 'W':
        if (in_class_) return Refuse("\\W inside a class");
        return Replace(absl::StrCat("[^", std::string(kWord), "]"));
      case 'h':
        return Replace(in_class_ ? "0-9A-Fa-f" : "[0-9A-Fa-f]");
      case 'v':
        return Replace("\\x0B");
      case 'u':
        return UnicodeEscape();
      default:
        break;
    }
    const bool is_letter_or_digit = std::isalnum(static_cast<unsigned char>(c)) != 0;
    constexpr std::string_view kSame = "dDpPrntfaexAzZ";
    if (c == '\0' || (is_letter_or_digit && kSame.find(c) == std::string_view::npos)) {
      return Refuse(absl::StrCat("\\", std::string(1, c)));
    }
    Copy(2);
    return absl::OkStatus();
  }

  absl::Status UnicodeEscape() {
    for (size_t i = 2; i < 6; ++i) {
      if (std::isxdigit(static_cast<unsigned char>(Peek(i))) == 0) {
        return Refuse("\\u without four hexadecimal digits");
      }
    }
    absl::StrAppend(&out_, "\\x{", std::string(in_.substr(at_ + 2, 4)), "}");
    at_ += 6;
    return absl::OkStatus();
  }

  // Whether the '}' here closes a repeat and not a \p{...} or \x{...}.
  bool EndsInterval() const {
    const size_t open = in_.rfind('{', at_);
    if (open == std::string_view::npos) return false;
    return in_.substr(open + 1, at_ - open - 1).find_first_not_of("0123456789,") ==
               std::string_view::npos &&
           !(open >= 2 && in_[open - 2] == '\\');
  }

  absl::Status Replace(std::string_view with) {
    out_.append(with);
    at_ += 2;
    return absl::OkStatus();
  }

  void Copy(size_t n) {
    out_.append(in_.substr(at_, n));
    at_ += n;
  }

  char Peek(size_t ahead) const { return at_ + ahead < in_.size() ? in_[at_ + ahead] : '\0'; }

  absl::Status Refuse(std::string_view what) const {
    return absl::UnimplementedError(absl::StrCat("regex at byte ", at_, ": ", std::string(what),
                                                 " is not supported: ", std::string(in_)));
  }

  const std::string_view in_;
  size_t at_ = 0;
  bool in_class_ = false;
  std::string out_;
};

}  // namespace

absl::StatusOr<std::string> TranslateRegex(std::string_view onig) { return Translator(onig).Run(); }

}  // namespace sluice
