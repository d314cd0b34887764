// Load, prefill and TTFT by plan, by hand.
#include <cmath>

#include "gtest/gtest.h"
#include "scheduler/cost/cost_model.h"
#include "tests/scheduler/cost/profiles.h"

namespace sluice {
namespace {

using testing::LatentModel;
using testing::Llama70b;
using testing::On;
using testing::WindowedModel;

constexpr RequestShape kLinkHeavy{Tokens(65536), Tokens(64), Tokens(0)};

TEST(TtftTest, ThePapersFormula) {
  Deployment d = On(Llama70b(), RateBasis::kPaper);
  d.hardware.paper_compute = FlopRate(1882e12);
  const double load = 65536 * 327680.0 / 128e9;
  const double compute = 64 * 140e9 / (2 * 1882e12);
  EXPECT_NEAR(LoadTime(d, kLinkHeavy.cached).value(), load, 1e-12);
  EXPECT_NEAR(PrefillTime(d, kLinkHeavy).value(), compute, 1e-15);
  EXPECT_NEAR(Ttft(d, kLinkHeavy).serial.value(), load + compute, 1e-12);
  EXPECT_NEAR(OverheadRatio(d, kLinkHeavy), load / compute, 1e-9);
  EXPECT_NEAR(TransferShare(d, kLinkHeavy), load / (load + compute), 1e-12);
}

TEST(TtftTest, ASmallPrefillCostsLaunchAndFloor) {
  const Deployment d = On(Llama70b());
  // Weights are read in 35 ms; the floor of 4.5 ms and 64 tokens are less.
  const double attention = 80 * 32768 / 800e12 * (64.0 * 65536 + 64 * 65 / 2);
  EXPECT_NEAR(PrefillTime(d, kLinkHeavy).value(), 5e-3 + 35e-3 + attention, 1e-9);
}

TEST(TtftTest, LongPrefillsRunInChunks) {
  const Deployment d = On(Llama70b());
  const RequestShape chunk{Tokens(0), kPrefillChunk, Tokens(0)};
  const RequestShape rest{kPrefillChunk, Tokens(100), Tokens(0)};
  const RequestShape both{Tokens(0), kPrefillChunk + Tokens(100), Tokens(0)};
  EXPECT_NEAR(PrefillTime(d, both).value(),
              PrefillTime(d, chunk).value() + PrefillTime(d, rest).value(), 1e-12);
}

TEST(TtftTest, OverlapHidesAllButOneLayer) {
  const Deployment d = On(Llama70b());
  const TtftByPlan t = Ttft(d, kLinkHeavy);
  const double load = LoadTime(d, kLinkHeavy.cached).value();
  const double compute = PrefillTime(d, kLinkHeavy).value();
  ASSERT_GT(load, compute);
  EXPECT_NEAR(t.overlapped.value(), load + compute / 80, 1e-12);
  EXPECT_NEAR(t.serial.value(), load + compute, 1e-12);
}

TEST(TtftTest, NothingCachedMakesAllPlansTheSame) {
  const TtftByPlan t = Ttft(On(Llama70b()), {Tokens(0), Tokens(500), Tokens(0)});
  EXPECT_EQ(t.serial, t.resident);
  EXPECT_EQ(t.overlapped, t.resident);
  EXPECT_EQ(t.recompute, t.resident);
  EXPECT_EQ(t.split, t.resident);
  EXPECT_EQ(t.split_share, 0);
  EXPECT_EQ(BestPlan(t), RequestPlan::kResident);
}

TEST(TtftTest, ASlowLinkMeansRecompute) {
  Deployment d = On(Llama70b());
  d.link = ByteRate(1e6);
  d.hardware.host_memory_bandwidth = ByteRate(1e6);
  const TtftByPlan t = Ttft(d, {Tokens(4096), Tokens(64), Tokens(0)});
  EXPECT_EQ(BestPlan(t), RequestPlan::kRecompute);
  EXPECT_EQ(t.split, t.recompute);
  EXPECT_EQ(t.split_share, 1);
}

TEST(TtftTest, AFastLinkMeansLoad) {
  Deployment d = On(Llama70b());
  d.link = ByteRate(900e9);
  EXPECT_EQ(BestPlan(Ttft(d, {Tokens(32768), Tokens(512), Tokens(0)})), RequestPlan::kLoad);
}

TEST(TtftTest, NearKappaCriticalASplitWins) {
  Deployment d = On(Llama70b());
  d.link = ByteRate(2e9);
  d.hardware.host_memory_bandwidth = ByteRate(1e9);
  const TtftByPlan t = Ttft(d, {Tokens(32768), Tokens(512), Tokens(0)});
  EXPECT_EQ(BestPlan(t), RequestPlan::kSplit);
  EXPECT_GT(t.split_share, 0.05);
  EXPECT_LT(t.split_share, 0.95);
}

TEST(TtftTest, FewTokensOverFastHostMemoryAreAttendedInPlace) {
  Deployment d = On(Llama70b());
  d.link = ByteRate(15e9);
  d.hardware.host_memory_bandwidth = ByteRate(400e9);
  EXPECT_EQ(BestPlan(Ttft(d, {Tokens(65536), Tokens(4), Tokens(0)})), RequestPlan::kInPlace);
  EXPECT_NE(BestPlan(Ttft(d, {Tokens(65536), Tokens(512), Tokens(0)})), RequestPlan::kInPlace);
}

TEST(TtftTest, InPlaceIsImpossibleAtThePapersBasis) {
  EXPECT_TRUE(std::isinf(Ttft(On(Llama70b(), RateBasis::kPaper), kLinkHeavy).in_place.value()));
}

// algorithms.md, section 1: 400 TFLOP/s and 50 GB/s.
TEST(TtftTest, HidingTokensByAttentionKind) {
  ModelProfile m = Llama70b();
  EXPECT_EQ(HidingTokens(On(m)), Tokens(1000));  // 8:1
  m.kv_heads = 16;
  EXPECT_EQ(HidingTokens(On(m)), Tokens(2000));  // 4:1
  m.kv_heads = 64;
  EXPECT_EQ(HidingTokens(On(m)), Tokens(8000));  // every head its own
  EXPECT_EQ(HidingTokens(On(LatentModel(), RateBasis::kSustained, 16)), Tokens(34));
  ModelProfile windows = WindowedModel();
  EXPECT_EQ(HidingTokens(On(windows)), Tokens(1000));  // of the layers that grow
  windows.windowed_layers = windows.layers;
  EXPECT_EQ(HidingTokens(On(windows)), Tokens(0));
}

// Above P* attention over the context grows faster than its load.
TEST(TtftTest, KappaCriticalAtIsInfiniteAboveHidingTokens) {
  const Deployment d = On(Llama70b());
  EXPECT_TRUE(std::isinf(KappaCriticalAt(d, Tokens(1010))));
  EXPECT_TRUE(std::isfinite(KappaCriticalAt(d, Tokens(500))));
}

TEST(TtftTest, TheFloorRaisesKappaForFewTokens) {
  const Deployment d = On(Llama70b());
  // 40 ms of launch and weight read hide 12,207 tokens of load, reading their KV a few more.
  EXPECT_NEAR(KappaCriticalAt(d, Tokens(1)), 40e-3 * 100e9 / 327680, 400);
  EXPECT_GT(KappaCriticalAt(d, Tokens(1)), 100 * KappaCritical(d));
}

TEST(TtftTest, BreakEvenCachedByHand) {
  const Deployment d = On(Llama70b());
  // Reading a token at 5 GB/s takes 65.5 us, computing it 175 us and more: the latency decides.
  EXPECT_EQ(BreakEvenCached(d, {ByteRate(5e9), ByteRate(5e9), Seconds(0)}), Tokens(1));
  // 0.1 s of latency at 109.5 us gained per token, and a little attention.
  const auto slow = BreakEvenCached(d, {ByteRate(5e9), ByteRate(5e9), Seconds(0.1)});
  ASSERT_TRUE(slow.has_value());
  EXPECT_NEAR(static_cast<double>(slow->value()), 900, 15);
  EXPECT_EQ(BreakEvenCached(d, {}), std::nullopt);
  EXPECT_EQ(BreakEvenCached(d, {ByteRate(1e8), ByteRate(1e8), Seconds(0)}), std::nullopt);
}

}  // namespace
}  // namespace sluice
