#include "service/grpc/text_stream.h"

#include <algorithm>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "service/tokenizer/utf8.h"
#include "tests/service/grpc/fake_tokenizer.h"

namespace sluice {
namespace {

using testing::FakeTokenizer;

// The definition, read off the whole text: of all occurrences the one that ends first, of those the
// longest.
struct Cut {
  std::string text;
  std::optional<std::string> stop;
};
Cut NaiveCut(const std::string& text, const std::vector<std::string>& stops, bool include_stop) {
  for (size_t end = 1; end <= text.size(); ++end) {
    std::optional<std::string> best;
    for (const std::string& stop : stops) {
      const bool ends_here =
          stop.size() <= end && text.compare(end - stop.size(), stop.size(), stop) == 0;
      if (ends_here && (!best || stop.size() > best->size())) best = stop;
    }
    if (best) return {text.substr(0, include_stop ? end : end - best->size()), best};
  }
  return {text, std::nullopt};
}

struct Streamed {
  std::string text;
  std::optional<std::string> stop;
  size_t pushed = 0;  // tokens until the stop was seen
  std::vector<std::string> pieces;
};
Streamed Stream(const std::vector<TokenId>& ids, const std::vector<std::string>& stops,
                bool include_stop, const std::vector<TokenId>& stop_ids = {}) {
  const FakeTokenizer tokenizer;
  TextStream stream(tokenizer, std::make_shared<const StopMatcher>(stops), stop_ids, include_stop);
  Streamed run;
  for (const TokenId id : ids) {
    run.pieces.push_back(stream.Push(id));
    ++run.pushed;
    if (stream.stopped()) break;
  }
  run.pieces.push_back(stream.Finish());
  for (const std::string& piece : run.pieces) run.text += piece;
  if (stream.stopped()) run.stop = *stream.matched();
  return run;
}

std::vector<TokenId> Ids(const std::string& text) {
  return FakeTokenizer().Encode(text, false, false);
}

TEST(TextStreamTest, WithoutStopsEveryTokenComesOutAtOnce) {
  const Streamed run = Stream(Ids("hi"), {}, false);
  EXPECT_THAT(run.pieces, ::testing::ElementsAre("h", "i", ""));
}

TEST(TextStreamTest, StopStringThatSpansTokensIsCutOff) {
  const Streamed run = Stream(Ids("one\n\nUser: two"), {"\n\nUser:"}, false);
  EXPECT_EQ(run.text, "one");
  EXPECT_EQ(run.stop, "\n\nUser:");
  EXPECT_EQ(run.pushed, std::string("one\n\nUser:").size());
}

TEST(TextStreamTest, StopStringInsideOneTokenCutsTheToken) {
  // "hello" is one token; "ll" is in its middle.
  const Streamed run = Stream(Ids("hello"), {"ll"}, false);
  EXPECT_EQ(run.text, "he");
}

TEST(TextStreamTest, IncludeStopKeepsTheStopStringAndNothingAfterIt) {
  EXPECT_EQ(Stream(Ids("hello"), {"ll"}, true).text, "hell");
}

TEST(TextStreamTest, HoldsBackOnlyWhatMayBecomeAStopString) {
  const Streamed run = Stream(Ids("xSTOy"), {"STOP"}, false);
  EXPECT_THAT(run.pieces, ::testing::ElementsAre("x", "", "", "", "STOy", ""));
}

TEST(TextStreamTest, HeldBackTextComesOutAtTheEnd) {
  const Streamed run = Stream(Ids("xSTO"), {"STOP"}, false);
  EXPECT_EQ(run.text, "xSTO");
  EXPECT_EQ(run.stop, std::nullopt);
}

TEST(TextStreamTest, OverlappingPrefixesAreFound) {
  EXPECT_EQ(Stream(Ids("zaabaaac"), {"aaac"}, false).text, "zaab");
  EXPECT_EQ(Stream(Ids("abcabcabd!"), {"abcabd"}, false).text, "abc");
}

TEST(TextStreamTest, TheStopThatEndsFirstWinsAndOfThoseTheLongest) {
  const Streamed inner = Stream(Ids("xabcdx"), {"abcd", "bc"}, false);
  EXPECT_EQ(inner.stop, "bc");
  EXPECT_EQ(inner.text, "xa");
  const Streamed longest = Stream(Ids("xabcx"), {"c", "bc", "abc"}, false);
  EXPECT_EQ(longest.stop, "abc");
  EXPECT_EQ(longest.text, "x");
}

TEST(TextStreamTest, StopTokenHasNoTextUnlessIncluded) {
  const std::vector<TokenId> ids = {'a', 'b', FakeTokenizer::kEos};
  EXPECT_EQ(Stream(ids, {}, false, {FakeTokenizer::kEos}).text, "ab");
  EXPECT_EQ(Stream(ids, {}, true, {FakeTokenizer::kEos}).text, "ab<eos>");
  EXPECT_EQ(Stream({'a', 'b'}, {}, false, {'b'}).text, "a");
  EXPECT_EQ(Stream({'a', 'b'}, {}, true, {'b'}).text, "ab");
}

TEST(TextStreamTest, HeldBackTextIsNotLostBeforeAnIncludedStopToken) {
  const std::vector<TokenId> ids = {'S', 'T', 0xC3, FakeTokenizer::kEos};
  EXPECT_EQ(Stream(ids, {"STOP"}, true, {FakeTokenizer::kEos}).text, "ST\xEF\xBF\xBD<eos>");
}

TEST(TextStreamTest, NothingComesOutAfterAStop) {
  const FakeTokenizer tokenizer;
  TextStream stream(tokenizer, std::make_shared<const StopMatcher>(std::vector<std::string>{"b"}),
                    {}, false);
  EXPECT_EQ(stream.Push('a'), "a");
  EXPECT_EQ(stream.Push('b'), "");
  ASSERT_TRUE(stream.stopped());
  EXPECT_EQ(stream.Push('c'), "");
  EXPECT_EQ(stream.Finish(), "");
}

// Random tokens over a tiny alphabet (so that stops do occur, overlap and span), cut characters
// included, against the definition above.
class TextStreamPropertyTest : public ::testing::TestWithParam<uint32_t> {};

TEST_P(TextStreamPropertyTest, ConcatenatedPiecesAreTheTextUpToTheFirstStop) {
  std::mt19937 rng(GetParam());
  const FakeTokenizer tokenizer;
  const auto pick = [&](size_t n) { return static_cast<size_t>(rng() % n); };
  const std::vector<std::string> atoms = {"a", "b", "ab", "\xC3\xA9", "\xE6\x97\xA5", "E", "N"};
  const std::vector<TokenId> alphabet = {'a', 'b', 'E', 'N', 'D', 259,  261,  262,  263,  264,
                                         265, 266, 267, 268, 269, 0xC3, 0xA9, 0xE6, 0x97, 256};
  int found = 0;
  for (int round = 0; round < 400; ++round) {
    std::vector<std::string> stops(pick(5));
    for (std::string& stop : stops) {
      for (size_t k = 0; k <= pick(4); ++k) stop += atoms[pick(atoms.size())];
    }
    std::vector<TokenId> ids(pick(40));
    for (TokenId& id : ids) id = alphabet[pick(alphabet.size())];
    const bool include_stop = pick(2) == 1;
    SCOPED_TRACE(::testing::Message()
                 << "seed " << GetParam() << " round " << round << " stops "
                 << ::testing::PrintToString(stops) << " ids " << ::testing::PrintToString(ids));
    const Cut want = NaiveCut(tokenizer.Decode(ids, true), stops, include_stop);
    const Streamed got = Stream(ids, stops, include_stop);
    ASSERT_EQ(got.text, want.text);
    ASSERT_EQ(got.stop, want.stop);
    for (const std::string& piece : got.pieces) ASSERT_TRUE(IsValidUtf8(piece));
    found += want.stop.has_value() ? 1 : 0;
  }
  EXPECT_GT(found, 40) << "the test must find stops to mean anything";
}

INSTANTIATE_TEST_SUITE_P(Seeds, TextStreamPropertyTest, ::testing::Range(0U, 20U),
                         [](const auto& seed) { return "seed" + std::to_string(seed.param); });

}  // namespace
}  // namespace sluice
