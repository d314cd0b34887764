#include "service/tokenizer/regex.h"

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/status_matchers.h"

namespace sluice {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::IsOk;
using testing::StatusIs;

// The texts of the spans; matches in brackets.
std::vector<std::string> Cut(std::string_view regex, std::string_view text) {
  const auto pattern = CompileRegex(regex);
  EXPECT_THAT(pattern, IsOk());
  if (!pattern.ok()) return {};
  std::vector<std::string> out;
  for (const Span& s : (*pattern)->Cut(text)) {
    const std::string part(text.substr(s.begin, s.end - s.begin));
    out.push_back(s.is_match ? absl::StrCat("[", part, "]") : part);
  }
  return out;
}

TEST(Regex, SpansCoverTheText) {
  EXPECT_THAT(Cut("b+", "abbcb"), ElementsAre("a", "[bb]", "c", "[b]"));
  EXPECT_THAT(Cut("x", "abc"), ElementsAre("abc"));
  EXPECT_THAT(Cut("x", ""), IsEmpty());
}

TEST(Regex, AnEmptyMatchCountsUnlessItFollowsAMatch) {
  EXPECT_THAT(Cut("a*", "baac"), ElementsAre("[]", "b", "[aa]", "c", "[]"));
  EXPECT_THAT(Cut("", "é"), ElementsAre("[]", "é", "[]"));
}

TEST(Regex, WhitespaceIsUnicodeWhiteSpace) {
  EXPECT_THAT(Cut("\\s", "a\xC2\x85\xE3\x80\x80z"),
              ElementsAre("a", "[\xC2\x85]", "[\xE3\x80\x80]", "z"));
  EXPECT_THAT(Cut("\\s", "a\xE1\xA0\x8Ez"), ElementsAre("a\xE1\xA0\x8Ez"));  // U+180E is none
  EXPECT_THAT(Cut("[^\\s]", " a"), ElementsAre(" ", "[a]"));
}

TEST(Regex, WordCharactersIncludeMarks) {
  EXPECT_THAT(Cut("\\w+", "e\xCC\x81_9-"), ElementsAre("[e\xCC\x81_9]", "-"));
  EXPECT_THAT(Cut("\\W", "a-"), ElementsAre("a", "[-]"));
}

TEST(Regex, RubyEscapesKeepTheirMeaning) {
  EXPECT_THAT(Cut("\\h+", "xBEEF9 y"), ElementsAre("x", "[BEEF9]", " y"));
  EXPECT_THAT(Cut("[\\h]", "g0"), ElementsAre("g", "[0]"));
  EXPECT_THAT(Cut("\\v", "\n\x0B"), ElementsAre("\n", "[\x0B]"));
  EXPECT_THAT(Cut("\\u00e9", "aé"), ElementsAre("a", "[é]"));
  EXPECT_THAT(Cut("^b$", "a\nb\nc"), ElementsAre("a\n", "[b]", "\nc"));
  EXPECT_THAT(Cut("[]a]+", "x]a"), ElementsAre("x", "[]a]"));
}

TEST(Regex, WhatPcreWouldMisunderstandIsRefusedByName) {
  for (const auto& [regex, name] :
       std::vector<std::pair<std::string, std::string>>{{"\\p{N}{1,3}+", "{n,m}"},
                                                        {"[a[bc]]", "class inside"},
                                                        {"[a-z&&[^b]]", "&&"},
                                                        {"\\bx", "\\b"},
                                                        {"\\K", "\\K"},
                                                        {"(?m:.)", "(?m)"},
                                                        {"[\\W]", "\\W"},
                                                        {"a\\", "\\"}}) {
    SCOPED_TRACE(regex);
    EXPECT_THAT(TranslateRegex(regex), StatusIs(absl::StatusCode::kUnimplemented, HasSubstr(name)));
  }
  EXPECT_THAT(TranslateRegex("\\p{L}+\\p{N}{1,3}[[:alpha:]]\\}+"), IsOk());
}

TEST(Regex, APatternThatDoesNotCompileIsInvalid) {
  EXPECT_THAT(CompileRegex("(a"), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("byte")));
}

TEST(Regex, ARunawayMatchIsGivenUpAndTheRestIsOneSpan) {
  EXPECT_THAT(Cut("(a+a+)+b", std::string(64, 'a')), ElementsAre(std::string(64, 'a')));
}

TEST(Regex, AMegabyteOfOneClassIsCutInLinearTime) {
  constexpr std::string_view kLlama3 =
      "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| "
      "?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
  for (const char c : {' ', 'a', '\n', '!', '7'}) {
    const std::vector<std::string> parts = Cut(kLlama3, std::string(1 << 20, c));
    EXPECT_EQ(parts.size(), c == '7' ? size_t{((1 << 20) + 2) / 3} : 1u);
  }
}

TEST(Literal, OccurrencesDoNotOverlap) {
  const auto pattern = LiteralPattern("aa");
  EXPECT_THAT(pattern->Cut("aaab"), ElementsAre(Span{0, 2, true}, Span{2, 4, false}));
}

TEST(Characters, EachMatchingCharacterIsAMatch) {
  const auto pattern = CharacterPattern([](char32_t c) { return c == U'é'; });
  EXPECT_THAT(pattern->Cut("éé!"),
              ElementsAre(Span{0, 2, true}, Span{2, 4, true}, Span{4, 5, false}));
}

}  // namespace
}  // namespace sluice
