#include "service/tokenizer/regex.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <array>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "scheduler/base/check.h"
#include "scheduler/base/status_macros.h"
#include "service/tokenizer/utf8.h"

namespace sluice {
namespace {

struct FreeCode {
  void operator()(pcre2_code* p) const { pcre2_code_free(p); }
};
struct FreeMatchData {
  void operator()(pcre2_match_data* p) const { pcre2_match_data_free(p); }
};
struct FreeMatchContext {
  void operator()(pcre2_match_context* p) const { pcre2_match_context_free(p); }
};
using Code = std::unique_ptr<pcre2_code, FreeCode>;
using MatchData = std::unique_ptr<pcre2_match_data, FreeMatchData>;
using MatchContext = std::unique_ptr<pcre2_match_context, FreeMatchContext>;

constexpr uint32_t kHeapLimitKiB = 64 * 1024;

// Collects spans so that they cover the text.
class SpanList {
 public:
  void AddMatch(size_t begin, size_t end) {
    if (begin > covered_) spans_.push_back({covered_, begin, false});
    spans_.push_back({begin, end, true});
    covered_ = end;
  }
  std::vector<Span> Finish(size_t text_size) {
    if (covered_ < text_size) spans_.push_back({covered_, text_size, false});
    return std::move(spans_);
  }

 private:
  std::vector<Span> spans_;
  size_t covered_ = 0;
};

class RegexPattern : public Pattern {
 public:
  RegexPattern(Code code, MatchContext context)
      : code_(std::move(code)), context_(std::move(context)) {}

  // As Oniguruma's Rust binding walks a text: an empty match right after a match does not count.
  std::vector<Span> Cut(std::string_view text) const override {
    const MatchData data(pcre2_match_data_create_from_pattern(code_.get(), nullptr));
    SLUICE_CHECK(data != nullptr);
    SpanList spans;
    size_t at = 0;
    std::optional<size_t> last_end;
    while (at <= text.size()) {
      if (!Match(text, at, data.get())) break;
      const PCRE2_SIZE* where = pcre2_get_ovector_pointer(data.get());
      const size_t begin = where[0];
      const size_t end = where[1];
      if (end < begin || end < at) break;  // \K in a lookahead; the translator lets none through
      if (begin == end && last_end == end) {
        if (at == text.size()) break;
        at += NextCharacter(text.substr(at)).size;
        continue;
      }
      spans.AddMatch(begin, end);
      at = end;
      last_end = end;
    }
    return spans.Finish(text.size());
  }

 private:
  // Tries the compiled code first; a pattern too deep for its small stack is interpreted.
  bool Match(std::string_view text, size_t at, pcre2_match_data* data) const {
    const auto* subject = reinterpret_cast<PCRE2_SPTR>(text.data());
    int rc = pcre2_match(code_.get(), subject, text.size(), at, PCRE2_NO_UTF_CHECK, data,
                         context_.get());
    if (rc == PCRE2_ERROR_JIT_STACKLIMIT) {
      rc = pcre2_match(code_.get(), subject, text.size(), at, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT,
                       data, context_.get());
    }
    return rc >= 0;
  }

  const Code code_;
  const MatchContext context_;  // read only while matching
};

class Literal : public Pattern {
 public:
  explicit Literal(std::string literal) : literal_(std::move(literal)) {}

  std::vector<Span> Cut(std::string_view text) const override {
    SpanList spans;
    for (size_t at = text.find(literal_); at != std::string_view::npos;
         at = text.find(literal_, at + literal_.size())) {
      spans.AddMatch(at, at + literal_.size());
    }
    return spans.Finish(text.size());
  }

 private:
  const std::string literal_;
};

class Characters : public Pattern {
 public:
  explicit Characters(std::function<bool(char32_t)> is_match) : is_match_(std::move(is_match)) {}

  std::vector<Span> Cut(std::string_view text) const override {
    SpanList spans;
    for (size_t at = 0; at < text.size();) {
      const Utf8Unit c = NextCharacter(text.substr(at));
      if (is_match_(c.code_point)) spans.AddMatch(at, at + c.size);
      at += c.size;
    }
    return spans.Finish(text.size());
  }

 private:
  const std::function<bool(char32_t)> is_match_;
};

std::string ErrorText(int code) {
  std::array<PCRE2_UCHAR, 256> buffer = {};
  pcre2_get_error_message(code, buffer.data(), buffer.size());
  return reinterpret_cast<const char*>(buffer.data());
}

}  // namespace

absl::StatusOr<std::unique_ptr<Pattern>> CompileRegex(std::string_view onig) {
  SLUICE_ASSIGN_OR_RETURN(const std::string pattern, TranslateRegex(onig));
  int error = 0;
  PCRE2_SIZE offset = 0;
  Code code(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(),
                          PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C, &error,
                          &offset, nullptr));
  if (code == nullptr) {
    return absl::InvalidArgumentError(absl::StrCat("regex does not compile: ", ErrorText(error),
                                                   " at byte ", offset, " of ", pattern));
  }
  pcre2_jit_compile(code.get(), PCRE2_JIT_COMPLETE);  // without it, matching is merely slower
  MatchContext context(pcre2_match_context_create(nullptr));
  SLUICE_CHECK(context != nullptr);
  pcre2_set_match_limit(context.get(), kRegexMatchLimit);
  pcre2_set_heap_limit(context.get(), kHeapLimitKiB);
  return std::make_unique<RegexPattern>(std::move(code), std::move(context));
}

std::unique_ptr<Pattern> LiteralPattern(std::string literal) {
  SLUICE_CHECK(!literal.empty());
  return std::make_unique<Literal>(std::move(literal));
}

std::unique_ptr<Pattern> CharacterPattern(std::function<bool(char32_t)> is_match) {
  return std::make_unique<Characters>(std::move(is_match));
}

}  // namespace sluice
