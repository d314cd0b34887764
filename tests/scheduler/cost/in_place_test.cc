// What attending in place costs, by the host's cores and by the device's own kernels.
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "scheduler/cost/coefficients.h"
#include "scheduler/cost/online_calibration.h"
#include "tests/support/status_matchers.h"

namespace sluice::testing {
namespace {

using ::testing::HasSubstr;

// Attention per pair 1 us; a context token in place 10 us for 8 query tokens, 4 us for 8 more.
CostCoefficients Cpu() {
  CostCoefficients cost;
  cost.per_pair = Seconds(1e-6);
  cost.per_context_token = Seconds(0);
  cost.in_place_on_device = true;
  cost.per_in_place_read = Seconds(10e-6);
  cost.per_in_place_reread = Seconds(4e-6);
  cost.in_place_tile = Tokens(8);
  return cost;
}

TEST(InPlaceTest, TheDeviceReadsOncePerTileOfAChunkAndOncePerDecode) {
  const CostCoefficients cost = Cpu();
  EXPECT_TRUE(cost.attends_in_place());
  const auto prefill = [&](int64_t fresh) {
    return InPlaceTime(cost, Tokens(100), Tokens(fresh), 0).value();
  };
  EXPECT_DOUBLE_EQ(prefill(1), 1e-3);
  EXPECT_DOUBLE_EQ(prefill(8), 1e-3);
  EXPECT_DOUBLE_EQ(prefill(9), 1.4e-3);
  EXPECT_DOUBLE_EQ(prefill(64), 1e-3 + 7 * 0.4e-3);
  EXPECT_DOUBLE_EQ(prefill(0), 0);
  EXPECT_DOUBLE_EQ(InPlaceTime(cost, Tokens(100), Tokens(8), 5).value(), 6e-3);
}

TEST(InPlaceTest, OnTheDeviceItComesOnTopOfAttentionToAllOfTheContext) {
  const CostCoefficients cost = Cpu();
  const Seconds resident = AttentionTime(cost, {Tokens(100), Tokens(16), Tokens(0)});
  const Seconds in_place = AttentionTime(cost, {Tokens(100), Tokens(16), Tokens(60)});
  EXPECT_DOUBLE_EQ((in_place - resident).value(), 60 * 14e-6);
}

TEST(InPlaceTest, ByTheHostItRunsBesideAttentionToTheRest) {
  CostCoefficients cost = Cpu();
  cost.in_place_on_device = false;
  EXPECT_FALSE(cost.attends_in_place());
  cost.per_in_place_token = Seconds(3e-6);
  EXPECT_TRUE(cost.attends_in_place());
  EXPECT_DOUBLE_EQ(InPlaceTime(cost, Tokens(100), Tokens(9), 1).value(), 3e-3);
  EXPECT_DOUBLE_EQ(AttentionTime(cost, {Tokens(100), Tokens(10), Tokens(100)}).value(), 3e-3)
      << "the host is the slower one";
  EXPECT_DOUBLE_EQ(AttentionTime(cost, {Tokens(100), Tokens(10), Tokens(10)}).value(), 955e-6)
      << "90 pairs each on the device, and those among themselves";
}

TEST(InPlaceTest, ATileOfNoTokensIsRefused) {
  CostCoefficients cost = Cpu();
  cost.in_place_tile = Tokens(0);
  EXPECT_THAT(cost.Validate(), StatusIs(absl::StatusCode::kInvalidArgument,
                                        HasSubstr("in_place_tile: 0, want at least 1 token")));
}

TEST(InPlaceTest, WhatReadingInPlaceTakesIsLearnt) {
  const CostCoefficients start = Cpu();
  CostCoefficients truth = start;
  truth.per_in_place_read = start.per_in_place_read * 3;
  truth.per_in_place_reread = start.per_in_place_reread * 3;
  OnlineCalibration calibration(start);
  for (int i = 0; i < 400; ++i) {
    const Tokens first(500 + 37 * (i % 29));
    const std::vector<StepPart> parts = {
        {first, Tokens(1 + i % 40), i % 2 == 0 ? first : Tokens(0)}};
    StepEstimate step(truth);
    step.Add(parts[0]);
    calibration.ObserveStep(parts, step.time());
  }
  EXPECT_NEAR(calibration.current().per_in_place_read / truth.per_in_place_read, 1, 0.05);
  EXPECT_NEAR(calibration.current().per_in_place_reread / truth.per_in_place_reread, 1, 0.05);
  EXPECT_NEAR(calibration.current().per_pair / truth.per_pair, 1, 0.05);
  EXPECT_EQ(calibration.current().per_in_place_token, Seconds(0));
}

}  // namespace
}  // namespace sluice::testing
