#include "service/tokenizer/utf8.h"

#include <utility>
#include <vector>

#include "absl/strings/str_replace.h"
#include "gtest/gtest.h"
#include "service/tokenizer/byte_alphabet.h"

namespace sluice {
namespace {

TEST(Utf8, EveryCodePointSurvivesEncodingAndDecoding) {
  for (char32_t c = 0; c <= 0x10FFFF; ++c) {
    if (c >= 0xD800 && c < 0xE000) continue;
    std::string text;
    AppendUtf8(c, &text);
    const Utf8Unit unit = DecodeUtf8(text);
    ASSERT_EQ(unit.kind, Utf8Unit::Kind::kValid) << std::hex << static_cast<uint32_t>(c);
    ASSERT_EQ(unit.code_point, c);
    ASSERT_EQ(unit.size, text.size());
    for (size_t n = 1; n < text.size(); ++n) {
      ASSERT_EQ(DecodeUtf8(text.substr(0, n)).kind, Utf8Unit::Kind::kIncomplete);
    }
  }
}

TEST(Utf8, SurrogatesOverlongFormsAndHugeValuesAreInvalid) {
  for (const std::string_view s : {"\xED\xA0\x80", "\xC0\xAF", "\xC1\xBF", "\xE0\x9F\xBF",
                                   "\xF0\x8F\xBF\xBF", "\xF4\x90\x80\x80", "\xF8\x88", "\x80"}) {
    EXPECT_EQ(DecodeUtf8(s).kind, Utf8Unit::Kind::kInvalid);
    EXPECT_EQ(DecodeUtf8(s).size, 1u);
    EXPECT_FALSE(IsValidUtf8(s));
  }
}

TEST(Utf8, OneReplacementPerMaximalPart) {
  // "#" stands for U+FFFD.
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"abc é €", "abc é €"},  {"a\xFF!", "a#!"},
      {"\xE2\x82", "#"},  // incomplete at the end: one part
      {"\xE2\x82x", "#x"},     {"\xF0\x9F\x98\xE2\x82\xAC", "#€"},
      {"\xED\xA0\x80", "###"},                                 // a surrogate has no valid beginning
      {"\xC0\xAF", "##"},      {"12345678\x80", "12345678#"},  // after a run of ASCII
  };
  for (const auto& [bytes, shown] : cases) {
    const std::string want = absl::StrReplaceAll(shown, {{"#", "\xEF\xBF\xBD"}});
    EXPECT_EQ(ReplaceInvalidUtf8(bytes), want);
  }
}

TEST(Utf8, LastCharacterStartFindsTheLeadByte) {
  EXPECT_EQ(LastCharacterStart("a"), 0u);
  EXPECT_EQ(LastCharacterStart("ab"), 1u);
  EXPECT_EQ(LastCharacterStart("a€"), 1u);
}

TEST(Utf8, CharacterClasses) {
  for (const char32_t c : {0x09, 0x0A, 0x0D, 0x20, 0x85, 0xA0, 0x2003, 0x2028, 0x3000}) {
    EXPECT_TRUE(IsWhitespace(c)) << static_cast<uint32_t>(c);
  }
  for (const char32_t c : {0x00, 0x08, 0x41, 0x180E, 0x200B, 0xFEFF}) EXPECT_FALSE(IsWhitespace(c));
  EXPECT_TRUE(IsNumeric(U'7') && IsNumeric(U'٣') && IsNumeric(U'½') && IsNumeric(U'Ⅳ'));
  EXPECT_FALSE(IsNumeric(U'a'));
  EXPECT_TRUE(IsPunctuation(U'!') && IsPunctuation(U'$') && IsPunctuation(U'。'));
  EXPECT_FALSE(IsPunctuation(U'a') || IsPunctuation(U'€') || IsPunctuation(U'0'));
  EXPECT_TRUE(IsWordCharacter(U'_') && IsWordCharacter(U'é') && IsWordCharacter(0x301));
  EXPECT_FALSE(IsWordCharacter(U' ') || IsWordCharacter(U'-') || IsWordCharacter(U'½'));
}

TEST(Utf8, OneUpperCaseLetterHasATwoCharacterLowerCase) {
  std::string text;
  for (const char32_t c : {U'A', U'É', U'Σ', char32_t{0x130}, U'1'}) AppendLowercase(c, &text);
  EXPECT_EQ(text, "aéσi\u03071");
}

TEST(ByteAlphabet, EveryByteHasOneCharacterAndBack) {
  for (int b = 0; b < 256; ++b) {
    const std::string byte(1, static_cast<char>(b));
    EXPECT_EQ(TextAsBytes(ByteAsText(static_cast<uint8_t>(b))), byte);
  }
}

TEST(ByteAlphabet, KnownCharacters) {
  std::string text;
  AppendBytesAsText("a \n\x7F\xAD\xFF", &text);
  EXPECT_EQ(text, "aĠĊġŃÿ");
}

TEST(ByteAlphabet, OtherCharactersStandForNoByte) {
  EXPECT_FALSE(TextAsBytes("a b").has_value());
  EXPECT_FALSE(TextAsBytes("▁").has_value());
  EXPECT_EQ(TextAsBytes(""), "");
}

}  // namespace
}  // namespace sluice
