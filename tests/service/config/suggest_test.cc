#include "service/config/suggest.h"

#include <random>

#include "gtest/gtest.h"

namespace sluice {
namespace {

// The definition itself: try every way to match the two ends.
int SlowDistance(std::string_view a, std::string_view b) {
  if (a.empty() || b.empty()) return static_cast<int>(a.size() + b.size());
  const std::string_view a1 = a.substr(1), b1 = b.substr(1);
  int best = SlowDistance(a1, b1) + (a[0] == b[0] ? 0 : 1);
  best = std::min(best, SlowDistance(a1, b) + 1);
  best = std::min(best, SlowDistance(a, b1) + 1);
  if (a.size() > 1 && b.size() > 1 && a[0] == b[1] && a[1] == b[0]) {
    best = std::min(best, SlowDistance(a.substr(2), b.substr(2)) + 1);
  }
  return best;
}

TEST(EditDistanceTest, CountsInsertionsDeletionsSubstitutionsAndSwaps) {
  EXPECT_EQ(EditDistance("", ""), 0);
  EXPECT_EQ(EditDistance("port", "port"), 0);
  EXPECT_EQ(EditDistance("prot", "port"), 1);
  EXPECT_EQ(EditDistance("por", "port"), 1);
  EXPECT_EQ(EditDistance("ports", "port"), 1);
  EXPECT_EQ(EditDistance("part", "port"), 1);
  EXPECT_EQ(EditDistance("", "port"), 4);
}

TEST(EditDistanceTest, AgreesWithTheDefinitionOnRandomWords) {
  for (uint32_t seed = 0; seed < 300; ++seed) {
    SCOPED_TRACE(::testing::Message() << "seed " << seed);
    std::mt19937 rng(seed);
    std::string a, b;
    for (uint32_t n = rng() % 7; n > 0; --n) a += static_cast<char>('a' + rng() % 3);
    for (uint32_t n = rng() % 7; n > 0; --n) b += static_cast<char>('a' + rng() % 3);
    EXPECT_EQ(EditDistance(a, b), SlowDistance(a, b)) << a << " " << b;
  }
}

TEST(SuggestTest, FindsTheNearestWord) {
  const std::vector<std::string> words = {"host", "port", "metrics-port", "max-model-len"};
  EXPECT_EQ(Suggest("prot", words), "port");
  EXPECT_EQ(Suggest("max-model-length", words), "max-model-len");
  EXPECT_EQ(Suggest("max-model", words), "max-model-len");
  EXPECT_EQ(Suggest("metric-port", words), "metrics-port");
}

TEST(SuggestTest, StaysSilentWhenNothingIsNear) {
  EXPECT_EQ(Suggest("temperature", {"host", "port"}), std::nullopt);
  EXPECT_EQ(Suggest("x", {}), std::nullopt);
}

TEST(SuggestTest, DidYouMeanIsAHalfSentence) {
  EXPECT_EQ(DidYouMean("prot", {"port"}, "--"), "; did you mean --port?");
  EXPECT_EQ(DidYouMean("zzzzzz", {"port"}, "--"), "");
}

}  // namespace
}  // namespace sluice
