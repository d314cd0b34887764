#include "service/simulation/fairness.h"

#include "gtest/gtest.h"

namespace sluice {
namespace {

RequestRecord Record(int32_t tenant, double arrival, double first_token, double device_s) {
  RequestRecord record;
  record.tenant = tenant;
  record.arrival = arrival;
  record.admitted = first_token;
  record.first_token = first_token;
  record.finished = first_token;
  record.device_s = device_s;
  record.ended = true;
  return record;
}

TEST(JainIndexTest, IsOneForEqualsAndOneOverNForOneWinner) {
  EXPECT_DOUBLE_EQ(JainIndex({2, 2, 2}), 1);
  EXPECT_DOUBLE_EQ(JainIndex({3, 0, 0}), 1.0 / 3);
  EXPECT_DOUBLE_EQ(JainIndex({1, 2}), 9.0 / 10);
  EXPECT_DOUBLE_EQ(JainIndex({}), 1);
  EXPECT_DOUBLE_EQ(JainIndex({0, 0}), 1);
}

// Both have a request waiting all the time; one is served every second, the other once at the end.
TEST(FairnessTest, AStarvedTenantShows) {
  std::vector<RequestRecord> records;
  for (int i = 0; i < 10; ++i) records.push_back(Record(0, 0, i + 0.5, 1));
  records.push_back(Record(0, 0, 10, 1));
  records.push_back(Record(1, 0, 10, 1));
  const Fairness fairness = FairnessOf(records, {}, 10);
  EXPECT_EQ(fairness.contended_windows, 9);  // nobody waits at the end of the last
  EXPECT_DOUBLE_EQ(fairness.jain, 0.5);
  ASSERT_EQ(fairness.dominant_share.size(), 2u);
  EXPECT_NEAR(fairness.dominant_share[0], 11.0 / 12, 1e-12);
}

TEST(FairnessTest, TakingTurnsIsFair) {
  std::vector<RequestRecord> records;
  for (int i = 0; i < 20; ++i) records.push_back(Record(i % 2, 0, i / 2.0 + 0.25, 1));
  EXPECT_DOUBLE_EQ(FairnessOf(records, {}, 5).jain, 1);
}

TEST(FairnessTest, WeightsAreWhatIsFair) {
  std::vector<RequestRecord> records;
  for (int i = 0; i < 30; ++i) records.push_back(Record(i % 3 == 0 ? 1 : 0, 0, i + 0.5, 1));
  EXPECT_LT(FairnessOf(records, {}, 5).jain, 0.95);
  EXPECT_DOUBLE_EQ(FairnessOf(records, {2, 1}, 5).jain, 1);
}

TEST(FairnessTest, WithoutContentionNobodyIsUnfair) {
  const Fairness fairness = FairnessOf({Record(0, 0, 1, 5), Record(1, 8, 9, 1)}, {}, 10);
  EXPECT_EQ(fairness.contended_windows, 0);
  EXPECT_DOUBLE_EQ(fairness.jain, 1);
}

}  // namespace
}  // namespace sluice
