#include "service/workload/synthetic.h"

#include <algorithm>
#include <map>

#include "gtest/gtest.h"
#include "service/workload/prefix_cache_model.h"
#include "tests/support/status_matchers.h"

namespace sluice {
namespace {

using ::sluice::testing::IsOk;
using ::sluice::testing::StatusIs;
using ::testing::AllOf;
using ::testing::HasSubstr;

std::vector<TraceRequest> Make(const SyntheticOptions& options) {
  const absl::StatusOr<std::vector<TraceRequest>> requests = MakeSynthetic(options);
  EXPECT_THAT(requests, IsOk());
  return requests.ok() ? *requests : std::vector<TraceRequest>();
}

// What an unlimited cache makes of a workload.
class Figures {
 public:
  Figures(const std::string& name, uint64_t seed) {
    const std::vector<TraceRequest> requests =
        Make({.name = name, .requests = 20000, .seed = seed});
    for (const CacheSample& s : SamplePrefixCache(requests, {})) {
      cached_.push_back(static_cast<double>(s.cached.value()));
      fresh_.push_back(static_cast<double>(s.fresh.value()));
      kappa_.push_back(s.kappa());
    }
  }

  double Cached(double share) { return Percentile(&cached_, share); }
  double Fresh(double share) { return Percentile(&fresh_, share); }
  double Kappa(double share) { return Percentile(&kappa_, share); }
  double CachedAbove(double x) { return 1 - ShareUpTo(cached_, x); }
  double KappaAbove(double x) { return 1 - ShareUpTo(kappa_, x); }
  double FreshBelow(double x) { return ShareUpTo(fresh_, x - 1); }

 private:
  static double Percentile(std::vector<double>* values, double share) {
    std::sort(values->begin(), values->end());
    return (*values)[static_cast<size_t>(share * static_cast<double>(values->size()))];
  }
  static double ShareUpTo(const std::vector<double>& values, double x) {
    const auto count =
        std::count_if(values.begin(), values.end(), [x](double v) { return v <= x; });
    return static_cast<double>(count) / static_cast<double>(values.size());
  }

  std::vector<double> cached_, fresh_, kappa_;
};

// The published figure, give or take a share of it.
void ExpectWithin(double actual, double published, double share, const char* what) {
  EXPECT_NEAR(actual, published, share * published) << what;
}

class PublishedFiguresTest : public ::testing::TestWithParam<uint64_t> {};

// 20 %: the published medians of cached and new tokens (3.2k, 20) do not give the published kappa
// (100) with any simple law, so all three are off by a part of the difference.
TEST_P(PublishedFiguresTest, ShareGpt) {
  Figures f("sharegpt", GetParam());
  ExpectWithin(f.FreshBelow(20), 0.50, 0.20, "new tokens below 20");
  ExpectWithin(f.FreshBelow(133), 0.90, 0.05, "new tokens below 133");
  ExpectWithin(f.CachedAbove(3200), 0.50, 0.20, "cached above 3.2k");
  ExpectWithin(f.CachedAbove(30000), 0.10, 0.25, "cached above 30k");
  ExpectWithin(f.Kappa(0.5), 100, 0.20, "kappa median");
  ExpectWithin(f.KappaAbove(1000), 0.20, 0.20, "kappa above 1,000");
}

TEST_P(PublishedFiguresTest, NarrativeQa) {
  Figures f("narrativeqa", GetParam());
  ExpectWithin(f.Fresh(0.5), 12, 0.10, "new tokens");
  ExpectWithin(f.Cached(0.5), 57000, 0.10, "cached");
  ExpectWithin(f.Cached(0.1), 15000, 0.20, "cached, low end");
  ExpectWithin(f.Cached(0.9), 190000, 0.10, "cached, high end");
  ExpectWithin(f.Kappa(0.5), 5000, 0.10, "kappa median");
  ExpectWithin(f.Kappa(0.25), 2400, 0.20, "kappa, lower quartile");
  ExpectWithin(f.Kappa(0.75), 11000, 0.15, "kappa, upper quartile");
}

TEST_P(PublishedFiguresTest, FinQa) {
  Figures f("finqa", GetParam());
  ExpectWithin(f.Fresh(0.5), 23, 0.25, "new tokens");  // published as a mean: see recipes.cc
  ExpectWithin(f.Cached(0.5), 167000, 0.10, "cached");
  ExpectWithin(f.Cached(0.1), 60000, 0.20, "cached, low end");
  ExpectWithin(f.Cached(0.9), 450000, 0.10, "cached, high end");
  ExpectWithin(f.Kappa(0.5), 10000, 0.10, "kappa median");
}

// The figures of the trace it is made after: see recipes.cc.
TEST_P(PublishedFiguresTest, Agentic) {
  Figures f("agentic", GetParam());
  ExpectWithin(f.Fresh(0.5), 722, 0.20, "new tokens");
  ExpectWithin(f.Fresh(0.9), 5088, 0.20, "new tokens, high end");
  ExpectWithin(f.Cached(0.5), 92700, 0.20, "cached");
  ExpectWithin(f.Cached(0.9), 170600, 0.10, "cached, high end");
}

TEST_P(PublishedFiguresTest, KappaMixHasTheSharesOfItsParts) {
  const std::vector<TraceRequest> requests =
      Make({.name = "kappa-mix", .requests = 20000, .seed = GetParam()});
  std::map<int64_t, int> turns;
  for (const TraceRequest& r : requests) ++turns[r.session];
  const auto single = std::count_if(turns.begin(), turns.end(),
                                    [](const auto& session) { return session.second == 1; });
  // Sessions of one request: the fresh prompts, and a few that had only begun.
  EXPECT_NEAR(static_cast<double>(single) / 20000, 0.25, 0.02);
  Figures f("kappa-mix", GetParam());
  // Every fourth has no kappa, and the cold starts of the others.
  EXPECT_GT(1 - f.KappaAbove(0), 0.25);
  EXPECT_LT(1 - f.KappaAbove(0), 0.33);
  // Documents (35 %) and long chats are link-bound on any machine of today.
  EXPECT_GT(f.KappaAbove(100), 0.40);
  EXPECT_LT(f.KappaAbove(100), 0.60);
}

INSTANTIATE_TEST_SUITE_P(Seeds, PublishedFiguresTest, ::testing::Values(1, 2, 3),
                         [](const auto& test) { return "Seed" + std::to_string(test.param); });

TEST(SyntheticTest, EqualOptionsGiveEqualRequestsAndSeedsDiffer) {
  for (const std::string& name : SyntheticNames()) {
    SCOPED_TRACE(name);
    const SyntheticOptions options = {.name = name, .requests = 200, .rate = 3, .tenants = 2};
    SyntheticOptions other = options;
    other.seed = 2;
    EXPECT_EQ(Make(options), Make(options));
    EXPECT_NE(Make(options)[0].prompt, Make(other)[0].prompt);
    EXPECT_NE(Make(options)[1].arrival, Make(other)[1].arrival);
  }
}

TEST(SyntheticTest, ConversationsGrowByWholePrompts) {
  std::map<int64_t, TraceRequest> last;
  for (const TraceRequest& r : Make({.name = "sharegpt", .requests = 3000})) {
    const auto [it, first] = last.try_emplace(r.session, r);
    if (first) {
      EXPECT_EQ(r.turn, 0);
      continue;
    }
    const TraceRequest& before = it->second;
    EXPECT_EQ(CommonPrefix(before.prompt, r.prompt), before.input());
    EXPECT_GT(r.input(), before.input());
    EXPECT_EQ(r.turn, before.turn + 1);
    EXPECT_EQ(r.tenant, before.tenant);
    it->second = r;
  }
  EXPECT_GT(last.size(), 30U);
}

TEST(SyntheticTest, AgentsQuoteTheAnswerAsNewText) {
  std::map<int64_t, TraceRequest> last;
  for (const TraceRequest& r : Make({.name = "agentic", .requests = 2000})) {
    const auto [it, first] = last.try_emplace(r.session, r);
    if (first) continue;
    EXPECT_GT(r.input(), it->second.input() + it->second.output);
    it->second = r;
  }
}

TEST(SyntheticTest, QuestionsShareTheirDocumentAndNothingElse) {
  std::map<int64_t, TraceRequest> first;
  for (const TraceRequest& r : Make({.name = "narrativeqa", .requests = 500})) {
    const auto [it, added] = first.try_emplace(r.session, r);
    if (added) continue;
    const Tokens document = it->second.prompt.segments()[0].end;
    EXPECT_EQ(CommonPrefix(it->second.prompt, r.prompt), document);
  }
}

TEST(SyntheticTest, PoissonArrivalsHaveTheRateAndTheSpread) {
  const std::vector<TraceRequest> requests =
      Make({.name = "uniform", .requests = 20001, .rate = 50});
  double sum = 0, squares = 0;
  for (size_t i = 1; i < requests.size(); ++i) {
    const double gap = absl::ToDoubleSeconds(requests[i].arrival - requests[i - 1].arrival);
    ASSERT_GE(gap, 0);
    sum += gap;
    squares += gap * gap;
  }
  EXPECT_EQ(requests[0].arrival, absl::ZeroDuration());
  const double mean = sum / 20000;
  EXPECT_NEAR(mean, 0.02, 0.02 * 0.03);
  EXPECT_NEAR(squares / 20000 - mean * mean, mean * mean, mean * mean * 0.1);
}

TEST(SyntheticTest, WithoutARateAllComeAtOnce) {
  for (const TraceRequest& r : Make({.name = "sharegpt", .requests = 100})) {
    EXPECT_EQ(r.arrival, absl::ZeroDuration());
  }
}

TEST(SyntheticTest, TenantsGetTheirShares) {
  std::vector<int> equal(4), skewed(2);
  for (const TraceRequest& r : Make({.name = "uniform", .requests = 4000, .tenants = 4})) {
    ++equal[static_cast<size_t>(r.tenant)];
  }
  EXPECT_EQ(equal, (std::vector<int>{1000, 1000, 1000, 1000}));
  for (const TraceRequest& r :
       Make({.name = "uniform", .requests = 3000, .tenants = 2, .tenant_skew = 1})) {
    ++skewed[static_cast<size_t>(r.tenant)];
  }
  EXPECT_EQ(skewed, (std::vector<int>{2000, 1000}));
}

TEST(SyntheticTest, UniformRequestsShareTheirCachedPart) {
  const std::vector<TraceRequest> requests = Make({.name = "uniform",
                                                   .requests = 3,
                                                   .cached = Tokens(500),
                                                   .fresh = Tokens(20),
                                                   .output = Tokens(7)});
  const std::vector<CacheSample> samples = SamplePrefixCache(requests, {});
  EXPECT_EQ(samples[0].cached, Tokens(0));
  for (size_t i = 1; i < 3; ++i) {
    EXPECT_EQ(samples[i].cached, Tokens(500));
    EXPECT_EQ(samples[i].fresh, Tokens(20));
    EXPECT_EQ(samples[i].output, Tokens(7));
  }
}

TEST(SyntheticTest, ScaleAndMaxInputBoundThePrompts) {
  const std::vector<TraceRequest> full = Make({.name = "narrativeqa", .requests = 400});
  const std::vector<TraceRequest> scaled =
      Make({.name = "narrativeqa", .requests = 400, .scale = 100, .max_input = Tokens(1000)});
  ASSERT_EQ(scaled.size(), 400U);
  const auto longest = [](const std::vector<TraceRequest>& requests) {
    Tokens most;
    for (const TraceRequest& r : requests) most = std::max(most, r.input());
    return most;
  };
  EXPECT_GT(longest(full), Tokens(100000));
  EXPECT_LE(longest(scaled), Tokens(1000));
  EXPECT_GT(longest(scaled), Tokens(500));
}

TEST(SyntheticTest, OptionsOutOfRangeAreRefused) {
  const auto message = [](const SyntheticOptions& options) {
    const auto requests = MakeSynthetic(options);
    EXPECT_EQ(requests.status().code(), absl::StatusCode::kInvalidArgument);
    return std::string(requests.status().message());
  };
  EXPECT_THAT(message({.name = "sharegtp"}),
              HasSubstr("\"sharegtp\" is not one of sharegpt, narrativeqa, finqa, agentic, "
                        "kappa-mix, uniform"));
  EXPECT_THAT(message({.name = "uniform", .requests = 0}), HasSubstr("requests: 0 is not in [1, "));
  EXPECT_THAT(message({.name = "uniform", .rate = 0}), HasSubstr("rate: 0 is not in (0, "));
  EXPECT_THAT(message({.name = "uniform", .tenants = 0}), HasSubstr("tenants: 0 is not in [1, "));
  EXPECT_THAT(message({.name = "uniform", .tenant_skew = -1}), HasSubstr("skew: -1 is not in"));
  EXPECT_THAT(message({.name = "uniform", .scale = 0}), HasSubstr("scale: 0 is not in"));
  EXPECT_THAT(message({.name = "uniform", .fresh = Tokens(0)}), HasSubstr("fresh: 0 is not in"));
  EXPECT_THAT(message({.name = "finqa", .max_input = Tokens(100)}),
              HasSubstr("100 tokens is less than nearly every finqa prompt"));
}

}  // namespace
}  // namespace sluice
