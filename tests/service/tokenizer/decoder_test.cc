#include "service/tokenizer/decoder.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/status_matchers.h"

namespace sluice {
namespace {

using nlohmann::json;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::StatusIs;

const char* const kBad = "\xEF\xBF\xBD";

json Sequence(const json& decoders) { return {{"type", "Sequence"}, {"decoders", decoders}}; }
json Strip(int start, int stop) {
  return {{"type", "Strip"}, {"content", " "}, {"start", start}, {"stop", stop}};
}
const json kFuse = {{"type", "Fuse"}};
const json kByteFallback = {{"type", "ByteFallback"}};
const json kByteLevel = {{"type", "ByteLevel"}};
json Llama2() {
  return Sequence({{{"type", "Replace"}, {"pattern", {{"String", "▁"}}}, {"content", " "}},
                   kByteFallback,
                   kFuse,
                   Strip(1, 0)});
}

DecoderPlan Plan(const json& component) {
  auto plan = ParseDecoder(JsonNode(component, "t.json"));
  EXPECT_TRUE(plan.ok()) << plan.status();
  return plan.ok() ? *std::move(plan) : DecoderPlan();
}

// What each push returns, then what Finish returns. Checks against DecodeTokens.
std::vector<std::string> Stream(const json& component, const std::vector<std::string>& tokens) {
  const DecoderPlan plan = Plan(component);
  StreamDecoder stream(plan);
  std::vector<std::string> out;
  std::string all;
  for (const std::string& token : tokens) all += out.emplace_back(stream.Push(token));
  all += out.emplace_back(stream.Finish());
  EXPECT_EQ(all, DecodeTokens(plan, tokens));
  return out;
}

TEST(Decoder, NullPutsSpacesBetweenTokens) {
  EXPECT_THAT(Stream(nullptr, {"a", "b", ""}), ElementsAre("a", " b", " ", ""));
}

TEST(Decoder, ByteLevelHoldsBackPartsOfCharacters) {
  EXPECT_THAT(Stream(kByteLevel, {"a", "Ã", "©", "Ġb"}), ElementsAre("a", "", "é", " b", ""));
  EXPECT_THAT(Stream(kByteLevel, {"ð", "Ł", "ĺ", "Ģ!"}), ElementsAre("", "", "", "😀!", ""));
}

TEST(Decoder, ByteLevelReplacesWhatCannotBecomeACharacter) {
  EXPECT_THAT(Stream(kByteLevel, {"Ã", "a"}), ElementsAre("", std::string(kBad) + "a", ""));
  EXPECT_THAT(Stream(kByteLevel, {"a", "ð", "Ł"}), ElementsAre("a", "", "", kBad));
  EXPECT_THAT(Stream(kByteLevel, {"ÿ"}), ElementsAre(kBad, ""));
}

TEST(Decoder, ByteLevelShowsOtherTokensAsTheyAre) {
  EXPECT_THAT(Stream(kByteLevel, {"Ġa", "<|日本|> x"}), ElementsAre(" a", "<|日本|> x", ""));
}

TEST(Decoder, Llama2StripsOneSpaceAtTheBeginning) {
  EXPECT_THAT(Stream(Llama2(), {"▁▁a", "▁b"}), ElementsAre(" a", " b", ""));
  EXPECT_THAT(Stream(Llama2(), {"▁", "▁"}), ElementsAre("", " ", ""));
  EXPECT_THAT(Stream(Llama2(), {"a", "▁b"}), ElementsAre("a", " b", ""));
}

TEST(Decoder, ByteTokensBecomeTextWhenTheirRunEnds) {
  EXPECT_THAT(Stream(Llama2(), {"a", "<0xC3>", "<0xA9>", "b"}), ElementsAre("a", "", "", "éb", ""));
  EXPECT_THAT(Stream(Llama2(), {"<0xC3>", "<0xA9>"}), ElementsAre("", "", "é"));
  EXPECT_THAT(Stream(Llama2(), {"<0x20>", "<0x61>"}), ElementsAre("", "", "a"));
}

TEST(Decoder, AnInvalidRunOfByteTokensIsReplacedByteByByte) {
  const std::string bad = kBad;
  EXPECT_THAT(Stream(Llama2(), {"<0xC3>", "<0xA9>", "<0xFF>", "x"}),
              ElementsAre("", "", "", bad + bad + bad + "x", ""));
  EXPECT_THAT(Stream(Llama2(), {"<0xE2>", "<0x82>"}), ElementsAre("", "", bad + bad));
}

TEST(Decoder, OnlySixCharactersMakeAByteToken) {
  EXPECT_EQ(FallbackByte("<0x0A>"), 10);
  EXPECT_EQ(FallbackByte("<0xff>"), 255);
  for (const char* s : {"<0x0>", "<0x0AA>", "<0xZZ>", "0x0A", "<0x0A", "<1x0A>", "<0x+1>"}) {
    EXPECT_EQ(FallbackByte(s), -1) << s;
  }
}

TEST(Decoder, MetaspaceDropsTheMarksOfTheFirstToken) {
  const json always = {{"type", "Metaspace"}, {"replacement", "▁"}, {"prepend_scheme", "always"}};
  const json never = {{"type", "Metaspace"}, {"replacement", "▁"}, {"prepend_scheme", "never"}};
  EXPECT_THAT(Stream(always, {"▁a▁b", "▁c"}), ElementsAre("ab", " c", ""));
  EXPECT_THAT(Stream(never, {"▁a", "▁c"}), ElementsAre(" a", " c", ""));
}

TEST(Decoder, StripAtTheEndHoldsBackWhatItMayRemove) {
  EXPECT_THAT(Stream(Sequence({kFuse, Strip(0, 1)}), {"a ", "b ", " "}),
              ElementsAre("a", " b", " ", ""));
  EXPECT_THAT(Stream(Sequence({kFuse, Strip(2, 1)}), {" ", "   ", "a", " "}),
              ElementsAre("", " ", " a", "", ""));
  EXPECT_THAT(Stream(Sequence(json::array({Strip(1, 1)})), {" a ", "  b"}),
              ElementsAre("a", " b", ""));
}

TEST(Decoder, TwoStripsRunOneAfterTheOther) {
  json underscore = Strip(1, 1);
  underscore["content"] = "_";
  EXPECT_THAT(Stream(Sequence({kByteLevel, Strip(1, 1), underscore}), {"Ġ_", "a", "_", "Ġ"}),
              ElementsAre("", "a", "", "", ""));
}

TEST(Decoder, AStreamStartsAnewAfterFinish) {
  const DecoderPlan plan = Plan(Llama2());
  StreamDecoder stream(plan);
  EXPECT_EQ(stream.Push("▁a") + stream.Finish(), "a");
  EXPECT_EQ(stream.Push("▁a") + stream.Finish(), "a");
}

TEST(Decoder, ErrorsNameTheComponent) {
  const auto parse = [](const json& j) { return ParseDecoder(JsonNode(j, "t.json")).status(); };
  const auto unimplemented = absl::StatusCode::kUnimplemented;
  EXPECT_THAT(parse({{"type", "WordPiece"}}), StatusIs(unimplemented, HasSubstr("'WordPiece'")));
  EXPECT_THAT(parse(Sequence({kFuse, kByteFallback})),
              StatusIs(unimplemented, HasSubstr("decoders[1]: decoder 'ByteFallback' after Fuse")));
  EXPECT_THAT(parse({{"type", "Strip"}, {"content", ""}, {"start", 1}, {"stop", 0}}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("one character")));
  EXPECT_THAT(parse(Strip(-1, 0)),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("negative")));
}

}  // namespace
}  // namespace sluice
