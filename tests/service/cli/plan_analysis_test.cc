#include "service/cli/plan_analysis.h"

#include <cmath>
#include <numeric>

#include "gtest/gtest.h"
#include "service/cli/plan_requests.h"
#include "service/cli/plan_scenario.h"
#include "tests/service/cli/plan_runner.h"

namespace sluice {
namespace {

using ::sluice::testing::PlanOptionsOf;

Deployment Make(std::vector<std::string> args) {
  args.insert(args.end(), {"--model=llama-3.1-70b", "--hardware=h100-pcie5"});
  return BaseScenario(PlanOptionsOf(args), *Catalogue::Load())->deployment;
}

RequestShape Shape(int64_t cached, int64_t fresh) {
  return {Tokens(cached), Tokens(fresh), Tokens(128)};
}

TtftKind BestKind(const TtftByPlan& ttft) { return KindOf(BestPlan(ttft)); }

double At(const PlanAnalysis& a, TtftKind kind) {
  return a.ttft[static_cast<size_t>(kind)].value();
}

// Everything the paper's model says can be computed on one line from its constants.
TEST(PlanAnalysisTest, AgreesWithThePapersFormulas) {
  const Deployment d = Make({"--paper"});
  const PlanAnalysis a = Analyze(d, {Shape(65536, 64)});
  const double bytes = 2.0 * 80 * 8 * 128 * 2;  // K and V, layers, heads, dimension, 16 bits
  const double load = 65536 * bytes / 64e9;
  const double compute = 64 * 2 * 70.55e9 / 1882e12;
  EXPECT_DOUBLE_EQ(a.kv_bytes_per_token, bytes);
  EXPECT_NEAR(a.load.value(), load, 0.001 * load);
  EXPECT_NEAR(a.prefill.value(), compute, 0.001 * compute);
  EXPECT_NEAR(a.transfer_share, load / (load + compute), 1e-4);
  EXPECT_NEAR(At(a, TtftKind::kSerial), load + compute, 0.001 * load);
  EXPECT_NEAR(a.kappa_crit, 2 * 70.55e9 / bytes * 64e9 / 1882e12, 0.01);
  EXPECT_NEAR(a.kappa_crit, a.kappa_model * a.kappa_hardware, 1e-9);
  EXPECT_EQ(a.kappa.p50, 1024);
  EXPECT_EQ(a.link_bound_by_slack, 1);
  EXPECT_EQ(a.link_bound_by_kappa, 1);
}

TEST(PlanAnalysisTest, SharesAndMeansAreOfTheRequests) {
  const Deployment d = Make({"--tp=8", "--link=15GB/s"});
  const std::vector<RequestShape> shapes = {Shape(0, 500), Shape(100000, 16), Shape(2000, 4000),
                                            Shape(30000, 1)};
  const PlanAnalysis all = Analyze(d, shapes);
  std::array<double, kTtftKindCount> sums{};
  double load = 0, link_bound = 0;
  for (const RequestShape& shape : shapes) {
    const PlanAnalysis one = Analyze(d, {shape});
    for (int i = 0; i < kTtftKindCount; ++i) sums[static_cast<size_t>(i)] += At(one, TtftKind(i));
    load += one.load.value();
    link_bound += one.load > one.prefill ? 1 : 0;
  }
  for (int i = 0; i < kTtftKindCount; ++i) {
    EXPECT_NEAR(At(all, TtftKind(i)) * 4, sums[static_cast<size_t>(i)], 1e-9) << i;
  }
  EXPECT_NEAR(all.load.value() * 4, load, 1e-9);
  EXPECT_EQ(all.link_bound_by_slack, link_bound / 4);
  EXPECT_EQ(all.cold_share, 0.25);
  EXPECT_DOUBLE_EQ(std::accumulate(all.best_share.begin(), all.best_share.end(), 0.0), 1);
}

TEST(PlanAnalysisTest, TheBestIsNeverAboveAPlanThatCanBeHadButForTheSplitsMargin) {
  const Deployment d = Make({"--tp=8", "--link=15GB/s"});
  for (const int64_t cached : {0, 1, 300, 20000, 120000}) {
    for (const int64_t fresh : {1, 10, 300, 8000}) {
      const PlanAnalysis a = Analyze(d, {Shape(cached, fresh)});
      for (const TtftKind kind :
           {TtftKind::kOverlapped, TtftKind::kSplit, TtftKind::kInPlace, TtftKind::kRecompute}) {
        EXPECT_LE(At(a, TtftKind::kBest), At(a, kind) * 1.0501) << cached << " + " << fresh;
      }
      // In place, the device skips what the host attends to.
      EXPECT_GE(At(a, TtftKind::kBest), At(a, TtftKind::kResident) * 0.999)
          << cached << " + " << fresh;
    }
  }
}

TEST(PlanAnalysisTest, ComputingIsPartOfEveryPlansTime) {
  const PlanAnalysis a =
      Analyze(Make({"--tp=8", "--link=15GB/s"}), {Shape(60000, 100), Shape(500, 5000)});
  for (int i = 0; i < kTtftKindCount; ++i) {
    const size_t kind = static_cast<size_t>(i);
    EXPECT_GT(a.compute[kind], Seconds(0)) << i;
    EXPECT_LE(a.compute[kind].value(), a.ttft[kind].value() * (1 + 1e-9)) << i;
  }
}

TEST(PlanAnalysisTest, NothingCachedMeansNothingToPlan) {
  const PlanAnalysis a = Analyze(Make({}), {Shape(0, 1000)});
  EXPECT_EQ(a.best_plan, TtftKind::kResident);
  EXPECT_EQ(a.cold_share, 1);
  EXPECT_EQ(a.transfer_share, 0);
  EXPECT_EQ(a.link_bound_by_slack, 0);
}

TEST(PlanRegionsTest, EveryCellIsThatRequestsWinner) {
  const Deployment d = Make({"--tp=8", "--link=15GB/s"});
  const PlanRegions regions =
      MapRegions(d, {0.001, 100, 5000}, {Tokens(8), Tokens(512)}, Tokens(131072));
  ASSERT_EQ(regions.best.size(), 6u);
  EXPECT_EQ(regions.best[0], BestKind(Ttft(d, Shape(1, 8)))) << "at least one token is cached";
  EXPECT_EQ(regions.best[1], BestKind(Ttft(d, Shape(800, 8))));
  EXPECT_EQ(regions.best[4], BestKind(Ttft(d, Shape(51200, 512))));
  EXPECT_EQ(regions.best[5], std::nullopt) << "longer than the context";
}

}  // namespace
}  // namespace sluice
