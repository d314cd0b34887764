#include "service/tokenizer/added_tokens.h"

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/service/tokenizer/tokenizer_files.h"
#include "tests/support/status_matchers.h"

namespace sluice {
namespace {

using testing::Added;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::Json;
using testing::StatusIs;

struct Fixture {
  std::unique_ptr<Normalizer> normalizer;
  std::unique_ptr<Bpe> bpe;
  absl::StatusOr<std::unique_ptr<AddedTokens>> added;
};

Fixture Parse(const Json& tokens, const Json& normalizer = nullptr) {
  const Json model = {{"vocab", {{"a", 0}, {"b", 1}}}, {"merges", Json::array()}};
  Fixture f{*ParseNormalizer(JsonNode(normalizer, "t.json")),
            *Bpe::Parse(JsonNode(model, "t.json"), false), nullptr};
  f.added = AddedTokens::Parse(JsonNode(tokens, "t.json"), *f.bpe, *f.normalizer);
  return f;
}

Json Flagged(TokenId id, const char* content, const char* flag) {
  Json token = Added(id, content, false);
  if (flag != nullptr) token[flag] = true;
  return token;
}

// The segments as text; tokens as "[id:text]".
std::vector<std::string> Cut(const TokenFinder& finder, std::string_view text,
                             bool special = true) {
  std::vector<std::string> out;
  for (const Segment& s : finder.Cut(text, special)) {
    const std::string part(text.substr(s.begin, s.end - s.begin));
    out.push_back(s.token ? absl::StrCat("[", s.token->id, ":", part, "]") : part);
  }
  return out;
}

std::vector<std::string> CutRaw(const Json& tokens, std::string_view text, bool special = true) {
  const Fixture f = Parse(tokens);
  EXPECT_TRUE(f.added.ok()) << f.added.status();
  return f.added.ok() ? Cut((*f.added)->raw_finder(), text, special) : std::vector<std::string>();
}

TEST(AddedTokens, TheLongestTokenAtTheLeftmostPlaceWins) {
  const Json tokens = {Added(5, "<x", false), Added(6, "<x>y", false), Added(7, "x>", false)};
  EXPECT_THAT(CutRaw(tokens, "a<x>yb"), ElementsAre("a", "[6:<x>y]", "b"));
  EXPECT_THAT(CutRaw(tokens, "<x>z"), ElementsAre("[5:<x]", ">z"));
  EXPECT_THAT(CutRaw(tokens, "<<x>"), ElementsAre("<", "[5:<x]", ">"));
  EXPECT_THAT(CutRaw(tokens, "none"), ElementsAre("none"));
}

TEST(AddedTokens, SpecialOnesCountOnlyIfAskedFor) {
  const Json tokens = {Added(5, "<s>", true), Added(6, "<t>", false)};
  EXPECT_THAT(CutRaw(tokens, "<s><t>", true), ElementsAre("[5:<s>]", "[6:<t>]"));
  EXPECT_THAT(CutRaw(tokens, "<s><t>", false), ElementsAre("<s>", "[6:<t>]"));
}

TEST(AddedTokens, StripFlagsTakeTheWhitespaceAlong) {
  EXPECT_THAT(CutRaw(Json::array({Flagged(5, "<t>", "lstrip")}), "a \n<t> b"),
              ElementsAre("a", "[5: \n<t>]", " b"));
  EXPECT_THAT(CutRaw(Json::array({Flagged(5, "<t>", "rstrip")}), "a <t>\xE3\x80\x80 b"),
              ElementsAre("a ", "[5:<t>\xE3\x80\x80 ]", "b"));
  Json both = Flagged(5, "<t>", "lstrip");
  both["rstrip"] = true;
  EXPECT_THAT(CutRaw(Json::array({both}), "<t>  <t>"), ElementsAre("[5:<t>  ]", "[5:<t>]"));
}

TEST(AddedTokens, ASingleWordTokenStandsAlone) {
  const Json tokens = Json::array({Flagged(5, "sun", "single_word")});
  EXPECT_THAT(CutRaw(tokens, "the sun-day"), ElementsAre("the ", "[5:sun]", "-day"));
  EXPECT_THAT(CutRaw(tokens, "sunday unsun ésun"), ElementsAre("sunday unsun ésun"));
  EXPECT_THAT(CutRaw(tokens, "sun"), ElementsAre("[5:sun]"));
}

TEST(AddedTokens, ANormalizedTokenIsLookedForInNormalizedForm) {
  const Fixture f =
      Parse({Flagged(5, "STOP", "normalized"), Added(6, "RAW", false)}, {{"type", "Lowercase"}});
  ASSERT_TRUE(f.added.ok());
  EXPECT_THAT(Cut((*f.added)->normalized_finder(), "a stop STOP"),
              ElementsAre("a ", "[5:stop]", " STOP"));
  EXPECT_THAT(Cut((*f.added)->raw_finder(), "RAW STOP"), ElementsAre("[6:RAW]", " STOP"));
}

TEST(AddedTokens, EntriesThatContradictTheVocabularyAreInvalid) {
  const auto invalid = absl::StatusCode::kInvalidArgument;
  EXPECT_THAT(Parse(Json::array({Added(3, "b", false)})).added,
              StatusIs(invalid, HasSubstr("[0]: 'b' has id 3, but")));
  EXPECT_THAT(Parse(Json::array({Added(1, "x", false)})).added,
              StatusIs(invalid, HasSubstr("belongs to 'b'")));
  EXPECT_THAT(Parse({Added(3, "x", false), Added(3, "y", false)}).added,
              StatusIs(invalid, HasSubstr("[1]: 'y' (id 3)")));
  EXPECT_THAT(Parse(Json::array({Added(-1, "x", false)})).added,
              StatusIs(invalid, HasSubstr("id -1")));
  EXPECT_THAT(Parse(Json::array({{{"id", 3}}})).added,
              StatusIs(invalid, HasSubstr("'content' is missing")));
  EXPECT_THAT(Parse("x").added, StatusIs(invalid, HasSubstr("want an array")));
}

TEST(AddedTokens, AnEntryOfTheVocabularyMayBeAdded) {
  const Fixture f = Parse(Json::array({Added(1, "b", true)}));
  ASSERT_TRUE(f.added.ok());
  EXPECT_EQ((*f.added)->Find(TokenId{1})->content, "b");
  EXPECT_EQ((*f.added)->Find("b")->id, 1);
  EXPECT_EQ((*f.added)->Find("a"), nullptr);
  EXPECT_EQ((*f.added)->end_id(), 2);
}

}  // namespace
}  // namespace sluice
