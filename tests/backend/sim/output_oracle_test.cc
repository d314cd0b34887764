#include "backend/sim/output_oracle.h"

#include <set>

#include "gmock/gmock.h"

namespace sluice {
namespace {

constexpr TokenId kStop = 7;

SamplingParams Stopping() {
  SamplingParams params;
  params.stop_ids = {kStop};
  return params;
}

// Tokens up to and with the stop id, at most `limit`.
int64_t LengthOf(const OutputOracle& oracle, RequestId id, const SamplingParams& params,
                 int64_t limit) {
  for (int64_t i = 0; i < limit; ++i) {
    if (oracle.Draw(id, i, params) == kStop) return i + 1;
  }
  return limit;
}

TEST(OutputOracleTest, TheStopIdIsDrawnLastAndNeverBefore) {
  OutputOracle oracle(1, 50, 0);
  for (int64_t id = 0; id < 200; ++id) {
    oracle.SetLength(RequestId(id), Tokens(1 + id % 90));
    EXPECT_EQ(LengthOf(oracle, RequestId(id), Stopping(), 1000), 1 + id % 90);
  }
}

TEST(OutputOracleTest, WithoutStopIdsOrLengthAnswersGoOn) {
  OutputOracle oracle(1, 50, 0);
  EXPECT_EQ(LengthOf(oracle, RequestId(1), Stopping(), 500), 500);
  oracle.SetLength(RequestId(2), Tokens(3));
  SamplingParams none;
  std::set<TokenId> seen;
  for (int64_t i = 0; i < 500; ++i) seen.insert(oracle.Draw(RequestId(2), i, none));
  EXPECT_GT(seen.size(), 40u);  // all kinds of tokens, the stop id's number among them
  EXPECT_LT(*seen.rbegin(), 50);
  EXPECT_GE(*seen.begin(), 0);
}

TEST(OutputOracleTest, TheFirstTokensOfAnAnswerCannotStopItIfTheClientSaysSo) {
  OutputOracle oracle(1, 50, 0);
  oracle.SetLength(RequestId(1), Tokens(3));
  SamplingParams params = Stopping();
  params.min_tokens = 10;
  EXPECT_EQ(LengthOf(oracle, RequestId(1), params, 1000), 11);
}

TEST(OutputOracleTest, TheSameRequestGetsTheSameAnswerAgain) {
  const OutputOracle a(3, 1000, 20);
  const OutputOracle b(3, 1000, 20);
  int64_t different = 0;
  for (int64_t i = 0; i < 100; ++i) {
    EXPECT_EQ(a.Draw(RequestId(5), i, Stopping()), b.Draw(RequestId(5), i, Stopping()));
    different += a.Draw(RequestId(5), i, Stopping()) != a.Draw(RequestId(6), i, Stopping());
  }
  EXPECT_GT(different, 90);
}

TEST(OutputOracleTest, UnsetLengthsAreGeometricAroundTheMean) {
  const OutputOracle oracle(9, 1000, 20);
  double sum = 0;
  constexpr int64_t kRequests = 20000;
  for (int64_t id = 0; id < kRequests; ++id) {
    sum += static_cast<double>(LengthOf(oracle, RequestId(id), Stopping(), 10000));
  }
  EXPECT_NEAR(sum / kRequests, 20, 0.7);  // five standard errors
}

TEST(OutputOracleTest, ForgettingARequestForgetsItsLength) {
  OutputOracle oracle(1, 50, 0);
  oracle.SetLength(RequestId(1), Tokens(3));
  oracle.Forget(RequestId(1));
  EXPECT_EQ(LengthOf(oracle, RequestId(1), Stopping(), 100), 100);
}

}  // namespace
}  // namespace sluice
