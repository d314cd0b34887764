#include "service/tokenizer/bpe.h"

#include <map>

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

json Model() {
  return {
      {"type", "BPE"},
      {"vocab",
       {{"a", 0}, {"b", 1}, {"c", 2}, {"ab", 3}, {"bc", 4}, {"abc", 5}, {"aa", 6}, {"<unk>", 7}}},
      {"merges", {"b c", "a b", {"a", "bc"}, "a a"}}};
}

std::unique_ptr<Bpe> Make(const json& model, bool byte_level = false) {
  auto bpe = Bpe::Parse(JsonNode(model, "t.json"), byte_level);
  EXPECT_THAT(bpe, IsOk());
  return bpe.ok() ? *std::move(bpe) : nullptr;
}

std::vector<TokenId> Encode(const json& model, std::string_view piece, bool byte_level = false) {
  std::vector<TokenId> ids;
  if (const auto bpe = Make(model, byte_level)) bpe->Encode(piece, &ids);
  return ids;
}

absl::Status Error(const json& model) {
  return Bpe::Parse(JsonNode(model, "t.json"), /*byte_level=*/false).status();
}

TEST(Bpe, MergesByRankNotByPlace) {
  EXPECT_THAT(Encode(Model(), "abc"), ElementsAre(5));  // b+c first, then a+bc
  EXPECT_THAT(Encode(Model(), "ab"), ElementsAre(3));
  EXPECT_THAT(Encode(Model(), "abab"), ElementsAre(3, 3));
  EXPECT_THAT(Encode(Model(), "aaa"), ElementsAre(6, 0));  // equal ranks: leftmost first
  EXPECT_THAT(Encode(Model(), "aab"), ElementsAre(0, 3));  // a+b beats a+a
  EXPECT_THAT(Encode(Model(), ""), IsEmpty());
}

TEST(Bpe, AnEntryThatTheMergesDoNotBuildIsUsedOnlyWithIgnoreMerges) {
  json model = Model();
  model["vocab"]["cab"] = 8;
  EXPECT_THAT(Encode(model, "cab"), ElementsAre(2, 3));
  model["ignore_merges"] = true;
  EXPECT_THAT(Encode(model, "cab"), ElementsAre(8));
  EXPECT_THAT(Encode(model, "cabc"), ElementsAre(2, 5));
}

TEST(Bpe, UnknownCharactersVanishOrBecomeTheUnknownToken) {
  json model = Model();
  EXPECT_THAT(Encode(model, "a??b"),
              ElementsAre(3));  // dropped before merging, as the original does
  model["unk_token"] = "<unk>";
  EXPECT_THAT(Encode(model, "a?é"), ElementsAre(0, 7, 7));
  EXPECT_THAT(Encode(model, "?a??b"), ElementsAre(7, 0, 7, 7, 1));
  model["fuse_unk"] = true;
  EXPECT_THAT(Encode(model, "?a??b"), ElementsAre(7, 0, 7, 1));
}

TEST(Bpe, ByteFallbackNeedsAllBytesOfTheCharacter) {
  json model = Model();
  model["byte_fallback"] = true;
  model["unk_token"] = "<unk>";
  model["vocab"]["<0xC3>"] = 8;
  EXPECT_THAT(Encode(model, "aé"), ElementsAre(0, 7));
  model["vocab"]["<0xA9>"] = 9;
  EXPECT_THAT(Encode(model, "aéb"), ElementsAre(0, 8, 9, 1));
}

TEST(Bpe, ByteLevelWorksOnBytes) {
  const json model = {{"vocab", {{"Ġ", 0}, {"a", 1}, {"Ã", 2}, {"©", 3}, {"Ġa", 4}, {"Ã©", 5}}},
                      {"merges", {"Ġ a", "Ã ©"}}};
  EXPECT_THAT(Encode(model, " aé\xC3", /*byte_level=*/true), ElementsAre(4, 5, 2));
}

TEST(Bpe, TextAndIdAreInverse) {
  const auto bpe = Make(Model());
  for (TokenId id = 0; id < bpe->size(); ++id) EXPECT_EQ(bpe->Find(*bpe->Text(id)), id);
  EXPECT_EQ(bpe->size(), 8);
  EXPECT_FALSE(bpe->Text(8).has_value());
  EXPECT_FALSE(bpe->Text(-1).has_value());
  EXPECT_FALSE(bpe->Find("zz").has_value());
}

TEST(Bpe, AHoleInTheIdsHasNoText) {
  const auto bpe = Make({{"vocab", {{"a", 0}, {"b", 3}}}, {"merges", json::array()}});
  EXPECT_EQ(bpe->size(), 4);
  EXPECT_FALSE(bpe->Text(2).has_value());
}

TEST(Bpe, ALongPieceIsEncodedInTime) {
  // 2^20 symbols that merge level by level; each level is one entry.
  json model = {{"vocab", {{"a", 0}}}, {"merges", json::array()}};
  std::string text = "a";
  for (int level = 1; level <= 10; ++level) {
    model["merges"].push_back(text + " " + text);
    text += text;
    model["vocab"][text] = level;
  }
  const std::vector<TokenId> ids = Encode(model, std::string((1 << 20) + 3, 'a'));
  ASSERT_EQ(ids.size(), 1026u);  // 1024 of the longest, then "aa", "a"
  EXPECT_EQ(ids[0], 10);
  EXPECT_EQ(ids[1023], 10);
  EXPECT_EQ(ids[1024], 1);
  EXPECT_EQ(ids[1025], 0);
}

TEST(Bpe, TheFirstLineOfAMergesFileIsNoMerge) {
  json model = Model();
  model["merges"].insert(model["merges"].begin(), "#version: 0.2");
  EXPECT_THAT(Encode(model, "abc"), ElementsAre(5));
}

TEST(Bpe, BadFilesNameThePlace) {
  const auto with = [](const char* key, const json& value) {
    json model = Model();
    model[key] = value;
    return Error(model);
  };
  const auto invalid = absl::StatusCode::kInvalidArgument;
  const auto unimplemented = absl::StatusCode::kUnimplemented;
  EXPECT_THAT(with("type", "Unigram"),
              StatusIs(unimplemented, HasSubstr("t.json: model 'Unigram'")));
  EXPECT_THAT(with("dropout", 0.1), StatusIs(unimplemented, HasSubstr("dropout")));
  EXPECT_THAT(with("dropout", 0.0), IsOk());
  EXPECT_THAT(with("continuing_subword_prefix", "##"), StatusIs(unimplemented, HasSubstr("'##'")));
  EXPECT_THAT(with("end_of_word_suffix", "</w>"), StatusIs(unimplemented, HasSubstr("'</w>'")));
  EXPECT_THAT(with("end_of_word_suffix", ""), IsOk());
  EXPECT_THAT(with("unk_token", "?"), StatusIs(invalid, HasSubstr("unk_token '?'")));
  EXPECT_THAT(with("byte_fallback", 1), StatusIs(invalid, HasSubstr("byte_fallback: want true")));
  EXPECT_THAT(with("vocab", 3), StatusIs(invalid, HasSubstr("vocab: want an object")));
  EXPECT_THAT(with("vocab", {{"a", -1}}), StatusIs(invalid, HasSubstr("id of 'a' is -1")));
  EXPECT_THAT(with("vocab", {{"a", 1e30}}), StatusIs(invalid, HasSubstr("id of 'a'")));
  EXPECT_THAT(with("vocab", {{"a", 1LL << 40}}), StatusIs(invalid, HasSubstr("id of 'a'")));
  EXPECT_THAT(with("vocab", {{"a", 1}, {"b", 1}}), StatusIs(invalid, HasSubstr("the same id 1")));
  EXPECT_THAT(with("merges", json::array({"a  b"})),
              StatusIs(invalid, HasSubstr("merges: [0]: 'a  b'")));
  EXPECT_THAT(with("merges", json::array({"a b", "a z"})),
              StatusIs(invalid, HasSubstr("[1]: token 'z'")));
  EXPECT_THAT(with("merges", json::array({"c a"})),
              StatusIs(invalid, HasSubstr("token 'ca' is not in vocab")));
  EXPECT_THAT(with("merges", json::array({json::array({"a"})})),
              StatusIs(invalid, HasSubstr("two strings")));
  EXPECT_THAT(with("merges", json::array({7})), StatusIs(invalid, HasSubstr("have number")));
}

}  // namespace
}  // namespace sluice
