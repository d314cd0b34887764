// What must hold of any deployment and any request.
#include <algorithm>
#include <cmath>
#include <optional>
#include <random>

#include "gtest/gtest.h"
#include "scheduler/cost/cost_model.h"
#include "tests/scheduler/cost/profiles.h"
#include "tests/support/status_matchers.h"

namespace sluice {
namespace {

using testing::IsOk;
using testing::RandomDeployment;
using testing::RandomShape;

constexpr unsigned kSeed = 20260101;
constexpr int kCases = 300;
constexpr double kRounding = 1e-9;

class CostPropertyTest : public ::testing::Test {
 protected:
  // Calls `check` with kCases random deployments and requests; failures name seed and case.
  template <typename Check>
  void ForRandomCases(Check check) {
    for (int i = 0; i < kCases; ++i) {
      std::mt19937_64 random(kSeed + static_cast<unsigned>(i));
      SCOPED_TRACE(::testing::Message() << "seed " << kSeed << ", case " << i);
      const Deployment d = RandomDeployment(random);
      ASSERT_THAT(d.Validate(), IsOk());
      check(d, RandomShape(random));
      if (HasFailure()) return;
    }
  }
};

TEST_F(CostPropertyTest, PlansAreOrderedAsTheyMustBe) {
  ForRandomCases([](const Deployment& d, RequestShape r) {
    // In more than one chunk, where the chunks end decides how often the context is read.
    r.fresh = std::min(r.fresh, kPrefillChunk);
    const TtftByPlan t = Ttft(d, r);
    EXPECT_LE(t.resident.value(), t.overlapped.value());
    EXPECT_LE(t.overlapped.value(), t.serial.value() * (1 + kRounding));
    EXPECT_LE(t.split.value(), std::min(t.overlapped, t.recompute).value() * (1 + kRounding));
    EXPECT_GE(t.split.value(), t.resident.value() * (1 - kRounding));
    EXPECT_LE(t.resident.value(), t.recompute.value() * (1 + kRounding));
    EXPECT_GE(t.split_share, 0);
    EXPECT_LE(t.split_share, 1);
  });
}

TEST_F(CostPropertyTest, AFasterLinkNeverHurts) {
  ForRandomCases([](Deployment d, const RequestShape& r) {
    const TtftByPlan before = Ttft(d, r);
    d.link = *d.link * 1.7;
    const TtftByPlan after = Ttft(d, r);
    EXPECT_LE(after.serial, before.serial);
    EXPECT_LE(after.overlapped, before.overlapped);
    EXPECT_LE(after.split.value(), before.split.value() * (1 + kRounding));
    EXPECT_EQ(after.resident, before.resident);
    EXPECT_EQ(after.recompute, before.recompute);
  });
}

TEST_F(CostPropertyTest, FasterComputeNeverHurts) {
  ForRandomCases([](Deployment d, const RequestShape& r) {
    const TtftByPlan before = Ttft(d, r);
    d.hardware.compute[1].sustained = d.hardware.compute[1].sustained * 1.7;
    d.hardware.compute[1].peak_dense = d.hardware.compute[1].sustained * 10;
    d.hardware.attention_sustained = d.hardware.attention_sustained * 1.7;
    const TtftByPlan after = Ttft(d, r);
    EXPECT_LE(after.resident, before.resident);
    EXPECT_LE(after.overlapped, before.overlapped);
    EXPECT_LE(after.recompute, before.recompute);
  });
}

TEST_F(CostPropertyTest, MoreTokensNeverCostLess) {
  ForRandomCases([](const Deployment& d, const RequestShape& r) {
    const TtftByPlan t = Ttft(d, r);
    for (const RequestShape& more : {RequestShape{r.cached + Tokens(1), r.fresh, r.output},
                                     RequestShape{r.cached, r.fresh + Tokens(1), r.output}}) {
      const TtftByPlan u = Ttft(d, more);
      EXPECT_GE(u.resident, t.resident);
      EXPECT_GE(u.serial, t.serial);
      EXPECT_GE(u.overlapped.value(), t.overlapped.value() * (1 - kRounding));
      EXPECT_GE(u.recompute, t.recompute);
      EXPECT_GE(u.in_place, t.in_place);
    }
  });
}

// At the paper's basis: κ_crit is the ratio at which load and compute take the same time.
TEST_F(CostPropertyTest, AtKappaCriticalLoadTakesAsLongAsCompute) {
  ForRandomCases([](Deployment d, RequestShape r) {
    d.basis = RateBasis::kPaper;
    d.model.windowed_layers = d.model.window = 0;
    const double kappa = KappaCritical(d);
    r.fresh = Tokens(1'000'000);
    r.cached = Tokens(static_cast<int64_t>(kappa * 1e6));
    if (r.cached < Tokens(1000)) return;
    EXPECT_NEAR(OverheadRatio(d, r), 1, 2e-3);
    EXPECT_NEAR(TransferShare(d, r), 0.5, 1e-3);
  });
}

TEST_F(CostPropertyTest, KappaCriticalAtIsWhereLoadOvertakesCompute) {
  ForRandomCases([](const Deployment& d, const RequestShape& r) {
    const double kappa = KappaCriticalAt(d, r.fresh);
    if (std::isinf(kappa)) return;
    const Tokens cached(std::llround(kappa * static_cast<double>(r.fresh.value())));
    const auto load_exceeds = [&](Tokens c) {
      return LoadTime(d, c) >= PrefillTime(d, {c, r.fresh, Tokens(0)});
    };
    EXPECT_TRUE(load_exceeds(cached));
    if (cached > Tokens(1)) {
      EXPECT_FALSE(load_exceeds(cached - Tokens(1)));
    }
  });
}

TEST_F(CostPropertyTest, AtTheBreakEvenLinkLoadTakesAsLongAsCompute) {
  ForRandomCases([](Deployment d, const RequestShape& r) {
    d.hardware.copy_latency = d.hardware.copy_overhead = Seconds(0);
    d.link = BreakEvenLink(d, r);
    EXPECT_NEAR(OverheadRatio(d, r), 1, 1e-6);
  });
}

// The best split, found by trying every one.
TEST_F(CostPropertyTest, TheSplitIsTheBestOfAllSplits) {
  ForRandomCases([](const Deployment& d, RequestShape r) {
    r.cached = Tokens(r.cached.value() % 200 + 1);
    const TtftByPlan t = Ttft(d, r);
    const double n = static_cast<double>(d.model.layers);
    double best = t.recompute.value();
    for (Tokens front; front < r.cached; front += Tokens(1)) {
      const double compute =
          front == Tokens(0) ? 0 : PrefillTime(d, {Tokens(0), front, {}}).value();
      const double load = LoadTime(d, r.cached - front).value();
      const double fresh = t.resident.value();
      best = std::min(best, std::max({compute + fresh, load + fresh / n, load / n + fresh}));
    }
    EXPECT_NEAR(t.split.value(), best, best * kRounding);
  });
}

TEST_F(CostPropertyTest, BreakEvenCachedIsTheFirstLengthThatPays) {
  ForRandomCases([](Deployment d, const RequestShape&) {
    d.model.max_context = 1000;
    const StorageRate storage{ByteRate(d.link->value() / 3), ByteRate(1e9), Seconds(1e-3)};
    const CostCoefficients cost = MakeCoefficients(d);
    std::optional<Tokens> first;
    for (Tokens k(1); k <= Tokens(1000) && !first; k += Tokens(1)) {
      const auto bytes = static_cast<double>(KvBytes(d.model, d.kv_offload, k).value());
      const Seconds read = storage.latency + Seconds(bytes / storage.read.value());
      if (read < PrefillTime(cost, Tokens(0), k)) first = k;
    }
    EXPECT_EQ(BreakEvenCached(d, storage), first);
  });
}

TEST_F(CostPropertyTest, TheLargestBatchFitsAndOneMoreDoesNot) {
  ForRandomCases([](const Deployment& d, const RequestShape& r) {
    const Tokens context = r.cached + r.fresh;
    const int64_t batch = LargestBatch(d, context);
    const int64_t each = KvBytes(d.model, d.kv, context).value();
    EXPECT_LE(batch * each, KvCapacity(d).value());
    EXPECT_GT((batch + 1) * each, KvCapacity(d).value());
  });
}

TEST_F(CostPropertyTest, EnergyLiesBetweenIdleAndFullPower) {
  ForRandomCases([](const Deployment& d, const RequestShape& r) {
    for (const bool overlapped : {false, true}) {
      const Energy e = RequestEnergy(d, r, overlapped);
      const auto devices = static_cast<double>(d.tensor_parallel);
      EXPECT_GE(e.mean.value(), d.hardware.idle.value() * devices * (1 - kRounding));
      EXPECT_LE(e.mean.value(),
                (d.hardware.tdp + d.hardware.transfer).value() * devices * (1 + kRounding));
    }
  });
}

TEST_F(CostPropertyTest, SameDeploymentSameAnswersBitForBit) {
  ForRandomCases([](const Deployment& d, const RequestShape& r) {
    const TtftByPlan a = Ttft(d, r);
    const TtftByPlan b = Ttft(d, r);
    EXPECT_EQ(a.split, b.split);
    EXPECT_EQ(a.split_share, b.split_share);
    EXPECT_EQ(a.in_place, b.in_place);
  });
}

}  // namespace
}  // namespace sluice
