#include "service/tokenizer/tokenizer.h"

#include <cstdio>
#include <filesystem>
#include <fstream>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/service/tokenizer/tokenizer_files.h"
#include "tests/support/status_matchers.h"

namespace sluice {
namespace {

using testing::Added;
using testing::ByteLevelFile;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::Json;
using testing::Make;
using testing::SentencePieceFile;
using testing::StatusIs;

// "he" 256, "ll" 257, " w" 258; <|bos|> 259 (special), <tool> 260.
Json Small() { return ByteLevelFile({{"h", "e"}, {"l", "l"}, {" ", "w"}}); }

std::vector<TokenId> Bytes(std::string_view text) {
  std::vector<TokenId> ids;
  for (const char c : text) ids.push_back(static_cast<uint8_t>(c));
  return ids;
}

TEST(Tokenizer, EncodesAndDecodesByteLevel) {
  const auto t = Make(Small());
  EXPECT_THAT(t->Encode("hello w", false, false), ElementsAre(256, 257, 'o', 258));
  EXPECT_EQ(t->Decode({256, 257, 'o', 258}, false), "hello w");
  EXPECT_EQ(t->Encode("", false, false), std::vector<TokenId>());
}

TEST(Tokenizer, AddSpecialAppliesTheTemplate) {
  const auto t = Make(Small());
  EXPECT_THAT(t->Encode("he", true, false), ElementsAre(259, 256));
  EXPECT_THAT(t->Encode("", true, false), ElementsAre(259));
  EXPECT_EQ(t->Decode({259, 256}, /*skip_special=*/true), "he");
  EXPECT_EQ(t->Decode({259, 256}, /*skip_special=*/false), "<|bos|>he");
}

TEST(Tokenizer, SpecialTokensInTheTextNeedParseSpecial) {
  const auto t = Make(Small());
  EXPECT_THAT(t->Encode("he<|bos|>he", false, true), ElementsAre(256, 259, 256));
  EXPECT_EQ(t->Encode("<|bos|>", false, false), Bytes("<|bos|>"));
  EXPECT_THAT(t->Encode("<tool>", false, false), ElementsAre(260));
  EXPECT_EQ(t->Decode({260}, /*skip_special=*/true), "<tool>");
}

TEST(Tokenizer, InvalidUtf8IsEncodedAsReplacementCharacters) {
  const auto t = Make(Small());
  EXPECT_EQ(t->Encode("a\xFF", false, false), Bytes("a\xEF\xBF\xBD"));
  EXPECT_EQ(t->Encode("\xE2\x82", false, false), Bytes("\xEF\xBF\xBD"));
}

TEST(Tokenizer, KnowsItsVocabulary) {
  const auto t = Make(Small());
  EXPECT_EQ(t->vocab_size(), 261);
  EXPECT_EQ(t->TokenText(258), "Ġw");
  EXPECT_EQ(t->TokenText(259), "<|bos|>");
  EXPECT_EQ(t->TokenText(261), std::nullopt);
  EXPECT_EQ(t->TokenText(-5), std::nullopt);
  EXPECT_EQ(t->TokenToId("Ġw"), 258);
  EXPECT_EQ(t->TokenToId("<tool>"), 260);
  EXPECT_EQ(t->TokenToId(" w"), std::nullopt);
  EXPECT_TRUE(t->IsSpecial(259));
  EXPECT_FALSE(t->IsSpecial(260));
  EXPECT_FALSE(t->IsSpecial(-1));
}

TEST(Tokenizer, UnknownIdsDecodeToNothing) {
  const auto t = Make(Small());
  EXPECT_EQ(t->Decode({-1, 'a', 100000, 'b'}, false), "ab");
}

TEST(Tokenizer, EncodesAndDecodesSentencePieceStyle) {
  const auto t = Make(SentencePieceFile());
  const TokenId ab = *t->TokenToId("▁ab");
  const TokenId a = *t->TokenToId("▁a");
  EXPECT_THAT(t->Encode("ab ab", true, false), ElementsAre(1, ab, ab));
  EXPECT_THAT(t->Encode("a", false, false), ElementsAre(a));
  EXPECT_EQ(t->Decode({1, ab, ab}, true), "ab ab");
  EXPECT_THAT(t->Encode("a\n", false, false), ElementsAre(a, 3 + '\n'));
  EXPECT_THAT(t->Encode("", false, false), IsEmpty());
  EXPECT_EQ(t->Decode(t->Encode("  ab c😀é", true, false), true), "  ab c😀é");
}

TEST(Tokenizer, TheTextAfterASpecialTokenIsNormalizedOnItsOwn) {
  const auto t = Make(SentencePieceFile());
  const TokenId a = *t->TokenToId("▁a");
  EXPECT_THAT(t->Encode("a</s>a", false, true), ElementsAre(a, 2, a));
}

TEST(Tokenizer, IncrementalSkipsSpecialTokensAndUnknownIds) {
  const auto t = Make(SentencePieceFile());
  const auto stream = t->NewIncremental(/*skip_special=*/true);
  EXPECT_EQ(stream->Push(1), "");
  EXPECT_EQ(stream->Push(*t->TokenToId("▁ab")), "ab");
  EXPECT_EQ(stream->Push(999'999), "");
  EXPECT_EQ(stream->Push(*t->TokenToId("▁a")), " a");
  EXPECT_EQ(stream->Finish(), "");
}

TEST(Tokenizer, ABigTextIsEncodedInTime) {
  const auto bytes = Make(Small());
  const auto pieces = Make(SentencePieceFile());
  for (const char* unit : {"a", " ", "ab", "\n", "7", "é", "<", "<|bos|"}) {
    std::string text;
    while (text.size() < 300'000) text += unit;
    EXPECT_EQ(bytes->Decode(bytes->Encode(text, false, true), false), text);
    EXPECT_EQ(pieces->Decode(pieces->Encode(text, false, true), false), text);
  }
}

class TokenizerFile : public ::testing::Test {
 protected:
  void SetUp() override {
    dir_ = std::filesystem::path(::testing::TempDir()) /
           ::testing::UnitTest::GetInstance()->current_test_info()->name();
    std::filesystem::create_directories(dir_);
  }
  void TearDown() override { std::filesystem::remove_all(dir_); }

  std::filesystem::path dir_;
};

TEST_F(TokenizerFile, LoadReadsTheFileOfADirectory) {
  std::ofstream(dir_ / "tokenizer.json") << Small().dump();
  const auto t = Tokenizer::Load(dir_.string());
  ASSERT_TRUE(t.ok()) << t.status();
  EXPECT_THAT((*t)->Encode("he", false, false), ElementsAre(256));
}

TEST_F(TokenizerFile, AMissingFileIsNotFound) {
  EXPECT_THAT(Tokenizer::Load((dir_ / "none").string()),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("none/tokenizer.json")));
}

TEST_F(TokenizerFile, ATruncatedFileIsInvalidAndNamed) {
  std::ofstream(dir_ / "tokenizer.json") << Small().dump().substr(0, 100);
  EXPECT_THAT(Tokenizer::Load(dir_.string()),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       ::testing::AllOf(HasSubstr("tokenizer.json: not valid JSON"))));
}

TEST(TokenizerJson, ErrorsNameFileAndPlace) {
  const auto with = [](const char* key, const Json& value) {
    Json file = Small();
    file[key] = value;
    return Tokenizer::FromJson(file.dump(), "m/t.json").status();
  };
  const auto invalid = absl::StatusCode::kInvalidArgument;
  EXPECT_THAT(with("model", {{"type", "BPE"}}),
              StatusIs(invalid, HasSubstr("m/t.json: model: 'vocab' is missing")));
  EXPECT_THAT(with("model", nullptr), StatusIs(invalid, HasSubstr("model")));
  EXPECT_THAT(
      with("decoder", {{"type", "CTC"}}),
      StatusIs(absl::StatusCode::kUnimplemented, HasSubstr("m/t.json: decoder: decoder 'CTC'")));
  EXPECT_THAT(with("post_processor", {{"type", "BertProcessing"}}),
              StatusIs(absl::StatusCode::kUnimplemented, HasSubstr("'BertProcessing'")));
  EXPECT_THAT(Tokenizer::FromJson("[]", "x"), StatusIs(invalid, HasSubstr("x: want an object")));
  EXPECT_THAT(Tokenizer::FromJson("\xFF", "x"), StatusIs(invalid, HasSubstr("not valid JSON")));
  EXPECT_THAT(Tokenizer::FromJson(std::string(100'000, '['), "x"),
              StatusIs(invalid, HasSubstr("nested 100000 deep; the limit is 64")));
}

TEST(TokenizerJson, Templates) {
  const auto with = [](const Json& post) {
    Json file = Small();
    file["post_processor"] = post;
    return Tokenizer::FromJson(file.dump(), "t.json");
  };
  const Json bos = testing::Template("<|bos|>", 259);
  Json both = bos;
  both["single"].push_back(both["single"][0]);
  EXPECT_THAT((*with(both))->Encode("he", true, false), ElementsAre(259, 256, 259));
  const Json sequence = {{"type", "Sequence"}, {"processors", {{{"type", "ByteLevel"}}, bos}}};
  EXPECT_THAT((*with(sequence))->Encode("he", true, false), ElementsAre(259, 256));
  EXPECT_THAT((*with(nullptr))->Encode("he", true, false), ElementsAre(256));

  const auto invalid = absl::StatusCode::kInvalidArgument;
  EXPECT_THAT(with(testing::Template("<|bos|>", 261)),
              StatusIs(invalid, HasSubstr("id 261 is not in 0 to 260")));
  Json no_text = bos;
  no_text["single"].erase(1);
  EXPECT_THAT(with(no_text), StatusIs(invalid, HasSubstr("no Sequence A")));
  Json missing = bos;
  missing["special_tokens"] = Json::object();
  EXPECT_THAT(with(missing), StatusIs(invalid, HasSubstr("'<|bos|>' is missing")));
  EXPECT_THAT(with({{"type", "Sequence"}, {"processors", {bos, bos}}}),
              StatusIs(absl::StatusCode::kUnimplemented, HasSubstr("second TemplateProcessing")));
}

}  // namespace
}  // namespace sluice
