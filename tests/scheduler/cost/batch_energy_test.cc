// Batches under device memory, decode steps, energy: by hand.
#include "gtest/gtest.h"
#include "scheduler/cost/cost_model.h"
#include "tests/scheduler/cost/profiles.h"

namespace sluice {
namespace {

using testing::Llama70b;
using testing::On;
using testing::WindowedModel;

TEST(BatchTest, WhatTheWeightsLeaveIsForKv) {
  const Deployment d = On(Llama70b());
  EXPECT_EQ(KvCapacity(d), Bytes(180'000'000'000 - 140'000'000'000));
  EXPECT_EQ(LargestBatch(d, Tokens(10'000)), 12);  // 40 GB of 3.2768 GB each
  EXPECT_EQ(LargestBatch(d, Tokens(200'000)), 0);
  EXPECT_EQ(KvCapacity(On(Llama70b(), RateBasis::kSustained, 1)), Bytes(0));
}

TEST(BatchTest, WindowsAndSmallFormatsMakeRoom) {
  Deployment d = On(Llama70b());
  const int64_t plain = LargestBatch(d, Tokens(10'000));
  d.kv = NumberFormat::kFp8;
  EXPECT_EQ(LargestBatch(d, Tokens(10'000)), 2 * plain);
  ModelProfile windowed = WindowedModel();
  const int64_t half = LargestBatch(On(windowed), Tokens(100'000));
  windowed.windowed_layers = windowed.window = 0;
  EXPECT_GT(half, 19 * LargestBatch(On(windowed), Tokens(100'000)) / 10);
}

TEST(BatchTest, MemoryLimitsTokensPerIteration) {
  Deployment d = On(Llama70b(), RateBasis::kPaper, 1);
  d.hardware.memory = Bytes(180'000'000'000);
  d.memory_share = 1;
  // The paper's case on one B200: 40 GB for 21.5 GB each.
  const auto few = TokensPerIteration(d, {Tokens(65536), Tokens(32), Tokens(0)}, Tokens(4000));
  EXPECT_NEAR(few.requests, 40e9 / (65568 * 327680.0), 1e-9);
  EXPECT_NEAR(few.tokens, few.requests * 32, 1e-9);
  EXPECT_NEAR(few.budget_share, few.tokens / 4000, 1e-12);
}

TEST(BatchTest, TheBudgetLimitsTokensPerIteration) {
  const auto many =
      TokensPerIteration(On(Llama70b()), {Tokens(0), Tokens(1000), Tokens(0)}, Tokens(4000));
  EXPECT_EQ(many.requests, 4);
  EXPECT_EQ(many.tokens, 4000);
  EXPECT_EQ(many.budget_share, 1);
}

TEST(BatchTest, DecodeReadsWeightsOnceAndKvPerSequence) {
  const Deployment d = On(Llama70b());
  const double kv = 1001 * 327680 / 4e12;
  EXPECT_NEAR(DecodeStepTime(d, 1, Tokens(1000)).value(), 5e-3 + 35e-3 + kv, 1e-12);
  EXPECT_NEAR(DecodeStepTime(d, 32, Tokens(1000)).value(), 5e-3 + 35e-3 + 32 * kv, 1e-12);
  // 1,000 tokens need 175 ms of arithmetic.
  EXPECT_NEAR(DecodeStepTime(d, 1000, Tokens(1000)).value(), 5e-3 + 175e-3 + 1000 * kv, 1e-9);
}

TEST(EnergyTest, SerialByHand) {
  const Deployment d = On(Llama70b());
  const RequestShape r{Tokens(65536), Tokens(64), Tokens(0)};
  const double load = LoadTime(d, r.cached).value();
  const double busy = PrefillTime(d, r).value();
  const Energy serial = RequestEnergy(d, r, /*overlapped=*/false);
  EXPECT_NEAR(serial.total.value(), 200 * (load + busy) + 1200 * busy + 60 * load, 1e-9);
  EXPECT_NEAR(serial.mean.value(), serial.total.value() / (load + busy), 1e-9);
  EXPECT_NEAR(serial.tdp_share, serial.mean.value() / 1400, 1e-12);
}

TEST(EnergyTest, OverlapSavesIdleEnergyOnly) {
  const Deployment d = On(Llama70b());
  const RequestShape r{Tokens(65536), Tokens(512), Tokens(0)};
  const Energy serial = RequestEnergy(d, r, false);
  const Energy overlapped = RequestEnergy(d, r, true);
  const TtftByPlan t = Ttft(d, r);
  EXPECT_NEAR(serial.total.value() - overlapped.total.value(),
              200 * (t.serial - t.overlapped).value(), 1e-9);
  EXPECT_GT(overlapped.mean, serial.mean);
}

// The paper: a machine that serves link-heavy requests draws 22 to 28 % of its TDP.
TEST(EnergyTest, LinkHeavyRequestsDrawLittle) {
  Deployment d = On(Llama70b(), RateBasis::kSustained, 8);
  d.link = ByteRate(15e9);
  const Energy e = RequestEnergy(d, {Tokens(65536), Tokens(16), Tokens(0)}, false);
  EXPECT_GT(e.tdp_share, 0.15);
  EXPECT_LT(e.tdp_share, 0.25);
}

TEST(EnergyTest, APowerCapSavesEnergyWhereTheLinkIsTheLimit) {
  Deployment d = On(Llama70b());
  d.link = ByteRate(15e9);
  const RequestShape r{Tokens(65536), Tokens(2048), Tokens(0)};
  const Energy full = RequestEnergy(d, r, true);
  const TtftByPlan before = Ttft(d, r);
  d.power_cap = Watts(300);
  EXPECT_LT(RequestEnergy(d, r, true).total, full.total);
  EXPECT_LT(Ttft(d, r).overlapped / before.overlapped, 1.01);
}

TEST(EnergyTest, DecodingCostsEnergyToo) {
  const Deployment d = On(Llama70b());
  const Energy none = RequestEnergy(d, {Tokens(1000), Tokens(100), Tokens(0)}, true);
  const Energy some = RequestEnergy(d, {Tokens(1000), Tokens(100), Tokens(10)}, true);
  const double decode = 10 * DecodeStepTime(d, 1, Tokens(1105)).value();
  EXPECT_NEAR(some.total.value() - none.total.value(), 1400 * decode, 1e-9);
}

}  // namespace
}  // namespace sluice
