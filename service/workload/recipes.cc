#include "service/workload/recipes.h"

#include <algorithm>
#include <array>
#include <cmath>

namespace sluice {
namespace {

constexpr double kZ90 = 1.2815515655446004;  // 90th percentile of the standard normal distribution

// Figures marked [P] are those of arXiv 2601.19910. They count a follow-up turn's history as
// cached; here one request in `turns` is cold, so the medians below are set such that the published
// figures hold for all requests together, cold ones included
// (tests/service/workload/synthetic_test.cc).

// Chat. [P]: new tokens 50 % < 20, 90 % < 133; cached 50 % > 3.2k, 10 % > 30k; kappa median 100,
// 20 % above 1,000. The medians of new and cached tokens give a kappa of 160 where they are
// independent, so both are set towards 100. Output: mean near the 338 of Kwon et al. 2023.
constexpr Recipe kShareGpt = {
    .kind = SessionKind::kGrows,
    .context = {.p10 = 10, .median = 1800, .p90 = 38000, .least = 16, .most = 128000},
    .fresh = {.p10 = 5, .median = 21.5, .p90 = 112, .least = 1, .most = 4000},
    .output = {.p10 = 35, .median = 220, .p90 = 750, .least = 1, .most = 2048},
    .turns = {.p10 = 12, .median = 24, .p90 = 48, .least = 4, .most = 100},
    .concurrent = 200};

// Questions on books. [P]: 12 new on 57k cached (15k-190k), kappa median 5,000 (quartiles 2,400 and
// 11,000). The range is taken as 10th to 90th percentile: with it, the quartiles of kappa follow.
// 30 questions a document and answers of about 5 words: Kocisky et al. 2018.
constexpr Recipe kNarrativeQa = {
    .kind = SessionKind::kQuestions,
    .context = {.p10 = 16500, .median = 59500, .p90 = 195000, .least = 2000, .most = 1000000},
    .fresh = {.p10 = 6, .median = 12, .p90 = 23, .least = 3, .most = 200},
    .output = {.p10 = 3, .median = 8, .p90 = 30, .least = 1, .most = 256},
    .turns = {.p10 = 20, .median = 30, .p90 = 42, .least = 5, .most = 80},
    .concurrent = 40};

// Questions on filings. [P]: 23 new on 167k cached (60k-450k), kappa median 10,000. 23 is taken as
// a mean: as a median, kappa would be 7,300.
constexpr Recipe kFinQa = {
    .kind = SessionKind::kQuestions,
    .context = {.p10 = 65000, .median = 172000, .p90 = 460000, .least = 10000, .most = 1500000},
    .fresh = {.p10 = 6.5, .median = 17, .p90 = 45, .least = 3, .most = 400},
    .output = {.p10 = 3, .median = 8, .p90 = 30, .least = 1, .most = 256},
    .turns = {.p10 = 20, .median = 30, .p90 = 42, .least = 5, .most = 80},
    .concurrent = 20};

// Coding agents: percentiles of callanjfox/kv-cache-tester (16,408 requests): 33 turns (6-138),
// first prompt 22k (13k-260k), of a later turn 700 new tokens (240-4,200) with the last answer,
// output 426 (106-1,575); tools and system prompt 12.4k.
constexpr Recipe kAgentic = {
    .kind = SessionKind::kGrows,
    .context = {.p10 = 800, .median = 12000, .p90 = 150000, .least = 200, .most = 400000},
    .common_tokens = 12400,
    .fresh = {.p10 = 15, .median = 120, .p90 = 3300, .least = 8, .most = 60000},
    .output = {.p10 = 106, .median = 426, .p90 = 1575, .least = 1, .most = 16000},
    .turns = {.p10 = 6, .median = 33, .p90 = 138, .least = 2, .most = 411},
    .quotes_output = true,
    .most_input = 200000,
    .concurrent = 40};

// The mix has no published lengths, only its shares. Documents and chats are like those above, cut
// to what a context of 128k tokens holds.
constexpr Recipe kMixDocuments = {
    .share = 0.35,
    .kind = SessionKind::kQuestions,
    .context = {.p10 = 12000, .median = 36000, .p90 = 90000, .least = 2000, .most = 120000},
    .fresh = {.p10 = 8, .median = 24, .p90 = 100, .least = 3, .most = 1000},
    .output = {.p10 = 10, .median = 50, .p90 = 200, .least = 1, .most = 1024},
    .turns = {.p10 = 10, .median = 20, .p90 = 40, .least = 3, .most = 80},
    .concurrent = 40};
constexpr Recipe kMixChat = {
    .share = 0.40,
    .kind = SessionKind::kGrows,
    .context = {.p10 = 300, .median = 3000, .p90 = 24000, .least = 16, .most = 100000},
    .fresh = {.p10 = 15, .median = 80, .p90 = 400, .least = 1, .most = 4000},
    .output = {.p10 = 35, .median = 220, .p90 = 750, .least = 1, .most = 2048},
    .turns = {.p10 = 6, .median = 12, .p90 = 24, .least = 2, .most = 60},
    .concurrent = 100};
constexpr Recipe kMixFresh = {
    .share = 0.25,
    .kind = SessionKind::kGrows,
    .context = {.p10 = 400, .median = 2000, .p90 = 8000, .least = 16, .most = 60000},
    .fresh = {.p10 = 15, .median = 80, .p90 = 400, .least = 1, .most = 4000},
    .output = {.p10 = 35, .median = 220, .p90 = 750, .least = 1, .most = 2048},
    .turns = {.p10 = 1, .median = 1, .p90 = 1, .least = 1, .most = 1},
    .concurrent = 1};

constexpr std::array kShareGptRecipes = {kShareGpt};
constexpr std::array kNarrativeQaRecipes = {kNarrativeQa};
constexpr std::array kFinQaRecipes = {kFinQa};
constexpr std::array kAgenticRecipes = {kAgentic};
constexpr std::array kKappaMixRecipes = {kMixDocuments, kMixChat, kMixFresh};

constexpr std::array<std::string_view, 5> kNames = {"sharegpt", "narrativeqa", "finqa", "agentic",
                                                    "kappa-mix"};

// Rational function sum(p_i x^i) / sum(q_i x^i), coefficients from the highest power down.
template <size_t N, size_t M>
double Ratio(double x, const std::array<double, N>& p, const std::array<double, M>& q) {
  double above = 0, below = 0;
  for (const double c : p) above = above * x + c;
  for (const double c : q) below = below * x + c;
  return above / below;
}

// Quantile function of the standard normal distribution (Acklam 2003, relative error < 1.2e-9).
double NormalQuantile(double p) {
  constexpr std::array<double, 6> kCentreAbove = {-3.969683028665376e+01, 2.209460984245205e+02,
                                                  -2.759285104469687e+02, 1.383577518672690e+02,
                                                  -3.066479806614716e+01, 2.506628277459239e+00};
  constexpr std::array<double, 6> kCentreBelow = {-5.447609879822406e+01, 1.615858368580409e+02,
                                                  -1.556989798598866e+02, 6.680131188771972e+01,
                                                  -1.328068155288572e+01, 1};
  constexpr std::array<double, 6> kTailAbove = {-7.784894002430293e-03, -3.223964580411365e-01,
                                                -2.400758277161838e+00, -2.549732539343734e+00,
                                                4.374664141464968e+00,  2.938163982698783e+00};
  constexpr std::array<double, 5> kTailBelow = {7.784695709041462e-03, 3.224671290700398e-01,
                                                2.445134137142996e+00, 3.754408661907416e+00, 1};
  constexpr double kTail = 0.02425;
  if (p > 0.5) return -NormalQuantile(1 - p);
  if (p < kTail) return Ratio(std::sqrt(-2 * std::log(p)), kTailAbove, kTailBelow);
  const double q = p - 0.5;
  return q * Ratio(q * q, kCentreAbove, kCentreBelow);
}

}  // namespace

int64_t Spread::Quantile(double unit) const {
  constexpr double kEdge = 1e-12;  // the tails are endless; `least` and `most` cut them long before
  const double z = NormalQuantile(std::clamp(unit, kEdge, 1 - kEdge));
  const double factor = z < 0 ? median / p10 : p90 / median;
  const double value = median * std::exp(std::log(factor) * z / kZ90);
  return std::llround(std::clamp(value, least, most));
}

std::span<const Recipe> FindRecipes(std::string_view name) {
  const std::array<std::span<const Recipe>, kNames.size()> recipes = {
      kShareGptRecipes, kNarrativeQaRecipes, kFinQaRecipes, kAgenticRecipes, kKappaMixRecipes};
  for (size_t i = 0; i < kNames.size(); ++i) {
    if (kNames[i] == name) return recipes[i];
  }
  return {};
}

std::span<const std::string_view> RecipeNames() { return kNames; }

}  // namespace sluice
