#include "service/workload/prompt_shape.h"

#include <algorithm>

#include "gtest/gtest.h"
#include "service/workload/random.h"

namespace sluice {
namespace {

PromptShape Shape(const std::vector<std::pair<uint64_t, int64_t>>& parts) {
  PromptShape shape;
  for (const auto& [owner, count] : parts) shape.Append(owner, Tokens(count));
  return shape;
}

TEST(PromptShapeTest, MergesNeighboursOfOneTextAndLeavesOutEmptyParts) {
  const PromptShape shape = Shape({{7, 3}, {7, 4}, {9, 0}, {7, 1}, {8, 2}});
  ASSERT_EQ(shape.segments().size(), 2U);
  EXPECT_EQ(shape.segments()[0], (PromptShape::Segment{7, Tokens(8)}));
  EXPECT_EQ(shape.segments()[1], (PromptShape::Segment{8, Tokens(10)}));
  EXPECT_EQ(shape.length(), Tokens(10));
  EXPECT_EQ(PromptShape().length(), Tokens(0));
}

TEST(PromptShapeTest, PrefixCutsAtAnyToken) {
  const PromptShape shape = Shape({{1, 3}, {2, 4}});
  EXPECT_EQ(shape.Prefix(Tokens(0)), PromptShape());
  EXPECT_EQ(shape.Prefix(Tokens(3)), Shape({{1, 3}}));
  EXPECT_EQ(shape.Prefix(Tokens(4)), Shape({{1, 3}, {2, 1}}));
  EXPECT_EQ(shape.Prefix(Tokens(7)), shape);
}

TEST(PromptShapeTest, TheSameTextAtAnotherPositionIsNoCommonPrefix) {
  EXPECT_EQ(CommonPrefix(Shape({{1, 3}, {2, 4}}), Shape({{1, 2}, {2, 5}})), Tokens(2));
  EXPECT_EQ(CommonPrefix(Shape({{1, 3}, {2, 4}}), Shape({{1, 3}, {2, 1}, {3, 9}})), Tokens(4));
  EXPECT_EQ(CommonPrefix(Shape({{1, 3}}), Shape({{2, 3}})), Tokens(0));
  EXPECT_EQ(CommonPrefix(Shape({{1, 3}}), PromptShape()), Tokens(0));
}

// Random shapes over few texts, so that prefixes are often equal.
TEST(PromptShapeTest, EqualPrefixesGiveEqualTokensAndOthersDiffer) {
  constexpr int32_t kVocabulary = 1 << 30U;  // so large that no two tokens are equal by chance
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    SCOPED_TRACE(::testing::Message() << "seed " << seed);
    Random random(seed);
    const auto draw = [&random] {
      PromptShape shape;
      for (uint64_t i = random.Below(5) + 1; i > 0; --i) {
        shape.Append(random.Below(2), Tokens(static_cast<int64_t>(random.Below(4))));
      }
      return shape;
    };
    for (int i = 0; i < 50; ++i) {
      const PromptShape a = draw(), b = draw();
      const std::vector<TokenId> x = MakePrompt(a, kVocabulary), y = MakePrompt(b, kVocabulary);
      ASSERT_EQ(x.size(), a.length().size());
      const auto [in_x, in_y] = std::mismatch(x.begin(), x.end(), y.begin(), y.end());
      ASSERT_EQ(in_x - x.begin(), CommonPrefix(a, b).value());
      ASSERT_EQ(in_y - y.begin(), CommonPrefix(a, b).value());
    }
  }
}

TEST(PromptShapeTest, TokensCoverTheVocabularyEvenly) {
  constexpr int32_t kVocabulary = 100;
  const std::vector<TokenId> tokens = MakePrompt(Shape({{5, 60000}, {6, 40000}}), kVocabulary);
  std::vector<int> counts(kVocabulary);
  for (const TokenId token : tokens) {
    ASSERT_GE(token, 0);
    ASSERT_LT(token, kVocabulary);
    ++counts[static_cast<size_t>(token)];
  }
  // 1,000 of each, give or take five standard deviations of 32.
  EXPECT_GT(*std::min_element(counts.begin(), counts.end()), 840);
  EXPECT_LT(*std::max_element(counts.begin(), counts.end()), 1160);
  EXPECT_EQ(MakePrompt(Shape({{5, 3}}), 1), (std::vector<TokenId>{0, 0, 0}));
}

// Traces and their results are compared across builds: the numbers must never change.
TEST(PromptShapeTest, TokensAreTheSameOnEveryMachine) {
  EXPECT_EQ(MakePrompt(Shape({{0, 3}, {42, 3}}), 128256),
            (std::vector<TokenId>{8489, 82798, 100822, 37793, 50113, 23864}));
}

TEST(RandomTest, NumbersAreTheSameOnEveryMachine) {
  Random random(1);
  EXPECT_EQ(random.Bits(), 0xB3F2AF6D0FC710C5U);
  EXPECT_EQ(random.Bits(), 0x853B559647364CEAU);
}

}  // namespace
}  // namespace sluice
