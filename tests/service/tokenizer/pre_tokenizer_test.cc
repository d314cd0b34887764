#include "service/tokenizer/pre_tokenizer.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/status_matchers.h"

namespace sluice {
namespace {

using nlohmann::json;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::IsOk;
using testing::StatusIs;

std::vector<std::string> Split(const json& component, std::string_view text, bool at_start = true) {
  const auto pre = ParsePreTokenizer(JsonNode(component, "t.json"));
  EXPECT_THAT(pre, IsOk());
  if (!pre.ok()) return {};
  std::deque<std::string> storage;
  std::vector<std::string> out;
  for (const Piece& piece : (*pre)->Split(text, at_start, &storage)) out.emplace_back(piece.text);
  return out;
}

json SplitOn(const char* behavior, bool invert = false) {
  return {{"type", "Split"},
          {"pattern", {{"String", "-"}}},
          {"behavior", behavior},
          {"invert", invert}};
}

json MetaspaceOf(const char* scheme, bool split) {
  return {
      {"type", "Metaspace"}, {"replacement", "▁"}, {"prepend_scheme", scheme}, {"split", split}};
}

TEST(PreTokenizer, NullGivesOnePieceAndAnEmptyTextNone) {
  EXPECT_THAT(Split(nullptr, "a b"), ElementsAre("a b"));
  EXPECT_THAT(Split(nullptr, ""), IsEmpty());
}

// The example of the `tokenizers` documentation.
TEST(PreTokenizer, SplitBehaviors) {
  const std::string text = "the-final--countdown";
  EXPECT_THAT(Split(SplitOn("Removed"), text), ElementsAre("the", "final", "countdown"));
  EXPECT_THAT(Split(SplitOn("Isolated"), text),
              ElementsAre("the", "-", "final", "-", "-", "countdown"));
  EXPECT_THAT(Split(SplitOn("MergedWithPrevious"), text),
              ElementsAre("the-", "final-", "-", "countdown"));
  EXPECT_THAT(Split(SplitOn("MergedWithNext"), text),
              ElementsAre("the", "-final", "-", "-countdown"));
  EXPECT_THAT(Split(SplitOn("Contiguous"), text),
              ElementsAre("the", "-", "final", "--", "countdown"));
}

TEST(PreTokenizer, InvertSwapsMatchesAndTheRest) {
  EXPECT_THAT(Split(SplitOn("Removed", true), "a-b--"), ElementsAre("-", "-", "-"));
  EXPECT_THAT(Split(SplitOn("MergedWithNext", true), "a-b"), ElementsAre("a-", "b"));
}

TEST(PreTokenizer, ByteLevelSplitsAsGpt2Does) {
  const json gpt2 = {{"type", "ByteLevel"}, {"add_prefix_space", false}};
  EXPECT_THAT(Split(gpt2, "Hello  world, it's 2024!\n\n x"),
              ElementsAre("Hello", " ", " world", ",", " it", "'s", " 2024", "!", "\n\n", " x"));
  EXPECT_THAT(Split(gpt2, "WE'LL 'll"), ElementsAre("WE", "'", "LL", " '", "ll"));
}

TEST(PreTokenizer, ByteLevelAddsASpaceUnlessThereIsOne) {
  const json gpt2 = {{"type", "ByteLevel"}, {"add_prefix_space", true}, {"use_regex", false}};
  EXPECT_THAT(Split(gpt2, "a b"), ElementsAre(" a b"));
  EXPECT_THAT(Split(gpt2, " a"), ElementsAre(" a"));
  EXPECT_THAT(Split(gpt2, "\na"), ElementsAre(" \na"));
}

TEST(PreTokenizer, Llama3Pattern) {
  const json llama3 = {{"type", "Split"},
                       {"pattern",
                        {{"Regex",
                          "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| "
                          "?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"}}},
                       {"behavior", "Isolated"}};
  EXPECT_THAT(Split(llama3, "I'M 12345   ok!\n\n\"q\""),
              ElementsAre("I", "'M", " ", "123", "45", "  ", " ok", "!\n\n", "\"q", "\""));
}

TEST(PreTokenizer, MetaspaceSchemes) {
  EXPECT_THAT(Split(MetaspaceOf("always", true), "a  b"), ElementsAre("▁a", "▁", "▁b"));
  EXPECT_THAT(Split(MetaspaceOf("always", false), "a b"), ElementsAre("▁a▁b"));
  EXPECT_THAT(Split(MetaspaceOf("never", true), "a b"), ElementsAre("a", "▁b"));
  EXPECT_THAT(Split(MetaspaceOf("always", true), " a"), ElementsAre("▁a"));
  EXPECT_THAT(Split(MetaspaceOf("first", false), "a", /*at_start=*/true), ElementsAre("▁a"));
  EXPECT_THAT(Split(MetaspaceOf("first", false), "a", /*at_start=*/false), ElementsAre("a"));
}

TEST(PreTokenizer, MetaspaceWithTheOldMember) {
  json old = {{"type", "Metaspace"}, {"replacement", "▁"}, {"add_prefix_space", false}};
  EXPECT_THAT(Split(old, "a"), ElementsAre("a"));
  old["add_prefix_space"] = true;
  EXPECT_THAT(Split(old, "a"), ElementsAre("▁a"));
  old["add_prefix_space"] = false;
  old["prepend_scheme"] = "first";
  EXPECT_THAT(ParsePreTokenizer(JsonNode(old, "t.json")),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("add_prefix_space is false")));
}

TEST(PreTokenizer, CharacterClasses) {
  EXPECT_THAT(Split({{"type", "Digits"}, {"individual_digits", true}}, "ab12٣"),
              ElementsAre("ab", "1", "2", "٣"));
  EXPECT_THAT(Split({{"type", "Digits"}}, "ab12c"), ElementsAre("ab", "12", "c"));
  EXPECT_THAT(Split({{"type", "Punctuation"}}, "a,b。"), ElementsAre("a", ",", "b", "。"));
  EXPECT_THAT(Split({{"type", "WhitespaceSplit"}}, " a \n b"), ElementsAre("a", "b"));
}

TEST(PreTokenizer, ASequenceSplitsThePiecesOfItsFirstStep) {
  const json steps = {{"type", "Sequence"},
                      {"pretokenizers",
                       {{{"type", "WhitespaceSplit"}},
                        {{"type", "Digits"}, {"individual_digits", true}},
                        MetaspaceOf("first", true)}}};
  EXPECT_THAT(Split(steps, "a1 b"), ElementsAre("▁a", "1", "b"));
}

TEST(PreTokenizer, ErrorsNameTheComponent) {
  const auto parse = [](const json& j) {
    return ParsePreTokenizer(JsonNode(j, "t.json")).status();
  };
  EXPECT_THAT(parse({{"type", "BertPreTokenizer"}}),
              StatusIs(absl::StatusCode::kUnimplemented, HasSubstr("'BertPreTokenizer'")));
  EXPECT_THAT(parse({{"type", "Sequence"},
                     {"pretokenizers", {{{"type", "ByteLevel"}}, {{"type", "Digits"}}}}}),
              StatusIs(absl::StatusCode::kUnimplemented, HasSubstr("after ByteLevel")));
  EXPECT_THAT(parse(SplitOn("Sideways")),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("'Sideways'")));
  EXPECT_THAT(parse({{"type", "Metaspace"}, {"replacement", "ab"}}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("not one character")));
  EXPECT_THAT(parse({{"type", "Metaspace"}, {"replacement", "▁"}, {"prepend_scheme", "last"}}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("'last'")));
  EXPECT_THAT(parse({{"kind", "Digits"}}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("'type' is missing")));
}

}  // namespace
}  // namespace sluice
