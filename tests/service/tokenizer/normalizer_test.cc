#include "service/tokenizer/normalizer.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "service/tokenizer/unicode_form.h"
#include "tests/support/status_matchers.h"

namespace sluice {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;
using testing::IsOk;
using testing::StatusIs;

std::string Normalize(const json& component, const std::string& text) {
  const auto normalizer = ParseNormalizer(JsonNode(component, "t.json"));
  EXPECT_THAT(normalizer, IsOk());
  return normalizer.ok() ? (*normalizer)->Normalize(text) : "";
}

json Of(const char* type) { return {{"type", type}}; }

TEST(Normalizer, NullChangesNothing) { EXPECT_EQ(Normalize(nullptr, " É "), " É "); }

TEST(Normalizer, UnicodeForms) {
  const std::string composed = "\xC3\x85";      // Å
  const std::string decomposed = "A\xCC\x8A";   // A, COMBINING RING ABOVE
  const std::string angstrom = "\xE2\x84\xAB";  // ANGSTROM SIGN
  for (const std::string& text : {composed, decomposed, angstrom}) {
    EXPECT_EQ(Normalize(Of("NFC"), text), composed);
    EXPECT_EQ(Normalize(Of("NFD"), text), decomposed);
    EXPECT_EQ(Normalize(Of("NFKC"), text), composed);
    EXPECT_EQ(Normalize(Of("NFKD"), text), decomposed);
  }
  EXPECT_EQ(Normalize(Of("NFC"), "ﬁ ½"), "ﬁ ½");
  EXPECT_EQ(Normalize(Of("NFKC"), "ﬁ ½"), "fi 1⁄2");
  EXPECT_EQ(Normalize(Of("NFC"), "\xE1\x84\x80\xE1\x85\xA1\xE1\x86\xA8"), "각");
  EXPECT_EQ(Normalize(Of("NFD"), "각"), "\xE1\x84\x80\xE1\x85\xA1\xE1\x86\xA8");
}

TEST(Normalizer, MarksAreSortedByCombiningClass) {
  // U+0307 (above, 230) and U+0323 (below, 220) in either order.
  EXPECT_EQ(Normalize(Of("NFD"), "q\xCC\x87\xCC\xA3"), "q\xCC\xA3\xCC\x87");
  EXPECT_EQ(Normalize(Of("NFC"), "q\xCC\x87\xCC\xA3"), "q\xCC\xA3\xCC\x87");
}

TEST(Normalizer, ALongRunOfMarksIsNotQuadratic) {
  std::string text;
  for (int i = 0; i < 200'000; ++i) text += "\xCC\x87\xCC\xA3";
  const std::string sorted = ToUnicodeForm(text, UnicodeForm::kNfd);  // quadratic: minutes
  EXPECT_EQ(sorted.size(), text.size());
  EXPECT_EQ(sorted.substr(0, 4), "\xCC\xA3\xCC\xA3");
}

TEST(Normalizer, Lowercase) { EXPECT_EQ(Normalize(Of("Lowercase"), "ÀB ΣΑΣ"), "àb σασ"); }

TEST(Normalizer, PrependLeavesAnEmptyTextAlone) {
  const json prepend = {{"type", "Prepend"}, {"prepend", "▁"}};
  EXPECT_EQ(Normalize(prepend, "a"), "▁a");
  EXPECT_EQ(Normalize(prepend, ""), "");
}

TEST(Normalizer, ReplaceByStringAndByRegex) {
  EXPECT_EQ(
      Normalize({{"type", "Replace"}, {"pattern", {{"String", "."}}}, {"content", "!"}}, "a.b"),
      "a!b");
  EXPECT_EQ(
      Normalize({{"type", "Replace"}, {"pattern", {{"Regex", "."}}}, {"content", "!"}}, "a.\n"),
      "!!\n");
  EXPECT_EQ(Normalize({{"type", "Replace"}, {"pattern", {{"Regex", "\\s+"}}}, {"content", " "}},
                      "a \n\t b"),
            "a b");
}

TEST(Normalizer, StripTakesUnicodeWhitespaceFromTheChosenSides) {
  const std::string text = "\xE3\x80\x80 a b\n ";
  EXPECT_EQ(Normalize({{"type", "Strip"}, {"strip_left", true}, {"strip_right", false}}, text),
            "a b\n ");
  EXPECT_EQ(Normalize({{"type", "Strip"}, {"strip_left", false}, {"strip_right", true}}, text),
            "\xE3\x80\x80 a b");
  EXPECT_EQ(Normalize({{"type", "Strip"}, {"strip_left", true}, {"strip_right", true}}, " \n "),
            "");
}

TEST(Normalizer, ASequenceAppliesItsStepsInOrder) {
  const json lower_then_strip = {
      {"type", "Sequence"},
      {"normalizers",
       {{{"type", "Prepend"}, {"prepend", " X"}}, {{"type", "Lowercase"}}, {{"type", "Strip"}}}}};
  EXPECT_EQ(Normalize(lower_then_strip, "A "), "xa");
}

TEST(Normalizer, ErrorsNameFilePlaceAndComponent) {
  const json precompiled = {{"type", "Sequence"}, {"normalizers", {Of("NFC"), Of("Precompiled")}}};
  EXPECT_THAT(ParseNormalizer(JsonNode(precompiled, "t.json")),
              StatusIs(absl::StatusCode::kUnimplemented,
                       HasSubstr("t.json: normalizers[1]: normalizer 'Precompiled'")));
  const json no_content = {{"type", "Replace"}, {"pattern", {{"String", "x"}}}};
  EXPECT_THAT(ParseNormalizer(JsonNode(no_content, "t.json")),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("'content' is missing")));
  const json bad_regex = {{"type", "Replace"}, {"pattern", {{"Regex", "("}}}, {"content", ""}};
  EXPECT_THAT(ParseNormalizer(JsonNode(bad_regex, "t.json")),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("t.json: pattern: regex")));
  EXPECT_THAT(ParseNormalizer(JsonNode(json(7), "t.json")),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("want an object")));
}

}  // namespace
}  // namespace sluice
