#include "scheduler/cost/online_calibration.h"

#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "gtest/gtest.h"

namespace sluice::testing {
namespace {

constexpr auto kLoad = static_cast<size_t>(LinkDirection::kHostToDevice);
constexpr auto kStore = static_cast<size_t>(LinkDirection::kDeviceToHost);

// A model of 150 M parameters on two CPU cores, roughly.
CostCoefficients Machine() {
  CostCoefficients cost;
  cost.launch = Seconds(1e-3);
  cost.floor = Seconds(2e-3);
  cost.weight_read = Seconds(5e-3);
  cost.per_token = Seconds(4e-4);
  cost.per_pair = Seconds(4e-7);
  cost.per_context_token = Seconds(6e-7);
  cost.per_in_place_token = Seconds(3e-6);
  cost.window_share = 0.5;
  cost.window = Tokens(256);
  cost.layers = 12;
  for (LinkCoefficients& link : cost.links) {
    link = {Seconds(1 / 5e9), Seconds(2e-6), Seconds(1e-4)};
  }
  cost.duplex_share = 0.7;
  return cost;
}

// A number in [0, end).
int64_t Draw(std::mt19937& rng, int64_t end) {
  return static_cast<int64_t>(rng() % static_cast<uint64_t>(end));
}

std::vector<StepPart> RandomStep(std::mt19937& rng) {
  std::vector<StepPart> parts;
  const int64_t kind = Draw(rng, 3);  // decode, prefill, both
  if (kind != 1) {
    for (int64_t n = 1 + Draw(rng, 16); n > 0; --n) {
      const Tokens first(Draw(rng, 3000));
      parts.push_back({first, Tokens(1), Draw(rng, 8) == 0 ? first : Tokens(0)});
    }
  }
  if (kind != 0) {
    const Tokens first(Draw(rng, 2) == 0 ? 0 : Draw(rng, 3000));
    parts.push_back({first, Tokens(1 + Draw(rng, 400)), Tokens(0)});
  }
  return parts;
}

Seconds TimeOf(const CostCoefficients& cost, const std::vector<StepPart>& parts) {
  StepEstimate step(cost);
  for (const StepPart& part : parts) step.Add(part);
  return step.time();
}

Seconds TimeOf(const CostCoefficients& cost, const CopyObservation& copy) {
  LinkCoefficients link = cost.links[static_cast<size_t>(copy.direction)];
  if (copy.other_direction_busy) link.per_byte = link.per_byte / cost.duplex_share;
  return CopyTime(link, copy.bytes, copy.runs);
}

CopyObservation RandomCopy(std::mt19937& rng) {
  CopyObservation copy;
  copy.direction = Draw(rng, 2) == 0 ? LinkDirection::kHostToDevice : LinkDirection::kDeviceToHost;
  copy.runs = 1 + Draw(rng, 64);
  copy.bytes = Bytes(copy.runs * (Draw(rng, 2) == 0 ? 1024 : 393216));
  copy.other_direction_busy = Draw(rng, 3) == 0;
  return copy;
}

// Every coefficient times a factor in [1/spread, spread].
CostCoefficients Distort(CostCoefficients cost, double spread, std::mt19937& rng) {
  std::uniform_real_distribution<double> exponent(-1, 1);
  const auto factor = [&] { return std::pow(spread, exponent(rng)); };
  for (Seconds* s : {&cost.launch, &cost.floor, &cost.weight_read, &cost.per_token, &cost.per_pair,
                     &cost.per_context_token, &cost.per_in_place_token}) {
    *s = *s * factor();
  }
  for (LinkCoefficients& link : cost.links) {
    link.per_byte = link.per_byte * factor();
    link.per_run = link.per_run * factor();
    link.latency = link.latency * factor();
  }
  cost.duplex_share = std::min(1.0, cost.duplex_share * factor());
  return cost;
}

// A measurement of `truth`: some noise, and one in ten up to five times as long.
Seconds Measured(Seconds truth, std::mt19937& rng) {
  std::normal_distribution<double> noise(0, 0.05);
  const double disturbed =
      Draw(rng, 10) == 0 ? 1 + 4 * static_cast<double>(Draw(rng, 1000)) / 1000 : 1;
  return truth * std::exp(noise(rng)) * disturbed;
}

void ExpectWithinBounds(const CostCoefficients& now, const CostCoefficients& start) {
  const auto check = [](double value, double from) {
    EXPECT_GE(value, from / OnlineCalibration::kLimit * (1 - 1e-12));
    EXPECT_LE(value, from * OnlineCalibration::kLimit * (1 + 1e-12));
  };
  check(now.launch.value(), start.launch.value());
  check(now.floor.value(), start.floor.value());
  check(now.weight_read.value(), start.weight_read.value());
  check(now.per_token.value(), start.per_token.value());
  check(now.per_pair.value(), start.per_pair.value());
  check(now.per_context_token.value(), start.per_context_token.value());
  check(now.per_in_place_token.value(), start.per_in_place_token.value());
  for (size_t d = 0; d < now.links.size(); ++d) {
    check(now.links[d].per_byte.value(), start.links[d].per_byte.value());
    check(now.links[d].per_run.value(), start.links[d].per_run.value());
    check(now.links[d].latency.value(), start.links[d].latency.value());
  }
  check(now.duplex_share, start.duplex_share);
  EXPECT_TRUE(now.Validate().ok()) << now.Validate();
}

TEST(OnlineCalibrationTest, StartsWithWhatItWasGiven) {
  const OnlineCalibration calibration(Machine());
  EXPECT_EQ(calibration.current().per_token, Machine().per_token);
  EXPECT_EQ(calibration.stats().steps, 0);
  EXPECT_FALSE(calibration.stats().step_error.has_value());
  EXPECT_FALSE(calibration.stats().copy_error.has_value());
}

class OnlineCalibrationPropertyTest : public ::testing::TestWithParam<unsigned> {};

TEST_P(OnlineCalibrationPropertyTest, PredictsWhatTheCostModelPredicts) {
  SCOPED_TRACE(::testing::Message() << "seed " << GetParam());
  std::mt19937 rng(GetParam());
  OnlineCalibration calibration(Distort(Machine(), 4, rng));
  for (int i = 0; i < 200; ++i) {
    const std::vector<StepPart> parts = RandomStep(rng);
    const double expected = TimeOf(calibration.current(), parts).value();
    ASSERT_NEAR(calibration.ObserveStep(parts, Measured(Seconds(expected), rng)).value(), expected,
                1e-9 * expected);
    CopyObservation copy = RandomCopy(rng);
    const double copy_expected = TimeOf(calibration.current(), copy).value();
    copy.measured = Measured(Seconds(copy_expected), rng);
    ASSERT_NEAR(calibration.ObserveCopy(copy).value(), copy_expected, 1e-9 * copy_expected);
  }
}

TEST_P(OnlineCalibrationPropertyTest, FindsTheMachineBehindNoisyStepsAndCopies) {
  SCOPED_TRACE(::testing::Message() << "seed " << GetParam());
  std::mt19937 rng(GetParam());
  const CostCoefficients truth = Machine();
  const CostCoefficients start = Distort(truth, 5, rng);
  OnlineCalibration calibration(start);
  for (int i = 0; i < 500; ++i) {
    const std::vector<StepPart> parts = RandomStep(rng);
    calibration.ObserveStep(parts, Measured(TimeOf(truth, parts), rng));
    CopyObservation copy = RandomCopy(rng);
    copy.measured = Measured(TimeOf(truth, copy), rng);
    calibration.ObserveCopy(copy);
    ExpectWithinBounds(calibration.current(), start);
  }
  EXPECT_LT(*calibration.stats().step_error, 0.10);
  EXPECT_LT(*calibration.stats().copy_error, 0.10);
  EXPECT_GT(calibration.stats().outliers, 20);
  // What was learnt holds for steps and copies without noise, too: in the median, and in the worst
  // case of regimes seldom seen.
  ErrorWindow steps;
  ErrorWindow copies;
  for (int i = 0; i < 200; ++i) {
    const std::vector<StepPart> parts = RandomStep(rng);
    steps.Add(TimeOf(calibration.current(), parts), TimeOf(truth, parts));
    const CopyObservation copy = RandomCopy(rng);
    copies.Add(TimeOf(calibration.current(), copy), TimeOf(truth, copy));
  }
  EXPECT_LT(*steps.Median(), 0.06);
  EXPECT_LT(*copies.Median(), 0.06);
}

TEST_P(OnlineCalibrationPropertyTest, FollowsAMachineThatChanges) {
  SCOPED_TRACE(::testing::Message() << "seed " << GetParam());
  std::mt19937 rng(GetParam());
  OnlineCalibration calibration(Machine());
  const auto run = [&](double slowdown, int steps) {
    for (int i = 0; i < steps; ++i) {
      const std::vector<StepPart> parts = RandomStep(rng);
      calibration.ObserveStep(parts, Measured(TimeOf(Machine(), parts) * slowdown, rng));
    }
  };
  run(1, 300);
  EXPECT_LT(*calibration.stats().step_error, 0.10);
  run(2, 150);
  const std::vector<StepPart> decode(8, StepPart{Tokens(500), Tokens(1), Tokens(0)});
  EXPECT_NEAR(TimeOf(calibration.current(), decode) / TimeOf(Machine(), decode), 2, 0.3);
  run(2, 256);
  EXPECT_LT(*calibration.stats().step_error, 0.12);
}

TEST_P(OnlineCalibrationPropertyTest, SameObservationsGiveTheSameCoefficients) {
  const auto run = [&] {
    std::mt19937 rng(GetParam());
    OnlineCalibration calibration(Distort(Machine(), 5, rng));
    for (int i = 0; i < 100; ++i) {
      const std::vector<StepPart> parts = RandomStep(rng);
      calibration.ObserveStep(parts, Measured(TimeOf(Machine(), parts), rng));
    }
    return calibration.current();
  };
  const CostCoefficients a = run();
  const CostCoefficients b = run();
  EXPECT_EQ(a.launch, b.launch);
  EXPECT_EQ(a.per_pair, b.per_pair);
  EXPECT_EQ(a.weight_read, b.weight_read);
}

TEST_P(OnlineCalibrationPropertyTest, NoMeasurementsLeadBeyondTheBounds) {
  SCOPED_TRACE(::testing::Message() << "seed " << GetParam());
  std::mt19937 rng(GetParam());
  OnlineCalibration calibration(Machine());
  std::uniform_real_distribution<double> exponent(-12, 12);
  for (int i = 0; i < 500; ++i) {
    calibration.ObserveStep(RandomStep(rng), Seconds(std::pow(10, exponent(rng))));
    CopyObservation copy = RandomCopy(rng);
    copy.measured = Seconds(std::pow(10, exponent(rng)));
    calibration.ObserveCopy(copy);
    ExpectWithinBounds(calibration.current(), Machine());
  }
}

INSTANTIATE_TEST_SUITE_P(Seeds, OnlineCalibrationPropertyTest, ::testing::Range(1U, 21U),
                         ::testing::PrintToStringParamName());

TEST(OnlineCalibrationTest, AMachineTenTimesSlowerEndsAtTheLimit) {
  OnlineCalibration calibration(Machine());
  std::mt19937 rng(1);
  for (int i = 0; i < 1000; ++i) {
    const std::vector<StepPart> parts = {{Tokens(0), Tokens(256), Tokens(0)}};
    calibration.ObserveStep(parts, TimeOf(Machine(), parts) * 100);
  }
  EXPECT_NEAR(calibration.current().per_token / Machine().per_token, OnlineCalibration::kLimit,
              1e-9);
}

TEST(OnlineCalibrationTest, WhatIsNoMeasurementIsIgnoredAndCounted) {
  OnlineCalibration calibration(Machine());
  const std::vector<StepPart> step = {{Tokens(100), Tokens(1), Tokens(0)}};
  const double infinity = std::numeric_limits<double>::infinity();
  for (const double bad : {0.0, -1.0, infinity, -infinity, std::nan("")}) {
    EXPECT_EQ(calibration.ObserveStep(step, Seconds(bad)), Seconds(0));
    EXPECT_EQ(calibration.ObserveCopy({.bytes = Bytes(1 << 20), .measured = Seconds(bad)}),
              Seconds(0));
  }
  EXPECT_EQ(calibration.ObserveStep({}, Seconds(1)), Seconds(0));
  EXPECT_EQ(calibration.ObserveCopy({.bytes = Bytes(0), .measured = Seconds(1)}), Seconds(0));
  EXPECT_EQ(calibration.ObserveCopy({.bytes = Bytes(1), .runs = 0, .measured = Seconds(1)}),
            Seconds(0));
  EXPECT_EQ(calibration.stats().ignored, 13);
  EXPECT_EQ(calibration.stats().steps, 0);
  EXPECT_EQ(calibration.current().launch, Machine().launch);
  EXPECT_EQ(calibration.current().links[kLoad].per_byte, Machine().links[kLoad].per_byte);
}

TEST(OnlineCalibrationTest, OneAbsurdStepMovesPredictionsLittle) {
  OnlineCalibration calibration(Machine());
  const std::vector<StepPart> decode(4, StepPart{Tokens(500), Tokens(1), Tokens(0)});
  const Seconds truth = TimeOf(Machine(), decode);
  for (int i = 0; i < 200; ++i) calibration.ObserveStep(decode, truth);
  calibration.ObserveStep(decode, truth * 1000);
  EXPECT_EQ(calibration.stats().outliers, 1);
  EXPECT_NEAR(TimeOf(calibration.current(), decode) / truth, 1, 0.05);
}

TEST(OnlineCalibrationTest, WhatIsFreeStaysFree) {
  CostCoefficients start = Machine();
  start.launch = Seconds(0);
  start.per_in_place_token = Seconds(0);
  start.links[kLoad].latency = Seconds(0);
  OnlineCalibration calibration(start);
  std::mt19937 rng(1);
  for (int i = 0; i < 100; ++i) {
    const std::vector<StepPart> parts = RandomStep(rng);
    calibration.ObserveStep(parts, TimeOf(start, parts) * 3);
    CopyObservation copy = RandomCopy(rng);
    copy.measured = TimeOf(start, copy) * 3;
    calibration.ObserveCopy(copy);
  }
  EXPECT_EQ(calibration.current().launch, Seconds(0));
  EXPECT_EQ(calibration.current().per_in_place_token, Seconds(0));
  EXPECT_EQ(calibration.current().links[kLoad].latency, Seconds(0));
}

TEST(OnlineCalibrationTest, DirectionsOfALinkAreLearntApart) {
  OnlineCalibration calibration(Machine());
  for (int i = 0; i < 100; ++i) {
    CopyObservation load;
    load.bytes = MiB(64);
    load.measured = TimeOf(Machine(), load) * 2;
    calibration.ObserveCopy(load);
  }
  EXPECT_NEAR(calibration.current().links[kLoad].per_byte / Machine().links[kLoad].per_byte, 2,
              0.1);
  EXPECT_EQ(calibration.current().links[kStore].per_byte, Machine().links[kStore].per_byte);
}

TEST(ErrorWindowTest, KnowsTheMedianOfTheLast256) {
  ErrorWindow errors;
  EXPECT_FALSE(errors.Median().has_value());
  errors.Add(Seconds(3), Seconds(1));
  EXPECT_DOUBLE_EQ(*errors.Median(), 2);
  for (int i = 0; i < 128; ++i) errors.Add(Seconds(0.75), Seconds(1));
  EXPECT_DOUBLE_EQ(*errors.Median(), 0.25);
  for (size_t i = 0; i < ErrorWindow::kSize; ++i) errors.Add(Seconds(1), Seconds(1));
  EXPECT_DOUBLE_EQ(*errors.Median(), 0);
}

}  // namespace
}  // namespace sluice::testing
