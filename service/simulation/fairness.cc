#include "service/simulation/fairness.h"

#include <algorithm>
#include <array>
#include <cmath>

namespace sluice {
namespace {

constexpr size_t kResources = 3;
using Use = std::array<double, kResources>;

Use UseOf(const RequestRecord& record) { return {record.device_s, record.link_s, record.block_s}; }

double DominantShare(const Use& use, const Use& total) {
  double share = 0;
  for (size_t r = 0; r < kResources; ++r) {
    if (total[r] > 0) share = std::max(share, use[r] / total[r]);
  }
  return share;
}

void Add(const Use& use, double share, Use* sum) {
  for (size_t r = 0; r < kResources; ++r) (*sum)[r] += use[r] * share;
}

// One tenant over the windows of the run.
struct Ledger {
  std::vector<Use> used;
  std::vector<int> at_edge;  // requests without a first token at the edges of windows
};

double WeightOf(const std::vector<double>& weights, size_t tenant) {
  return tenant < weights.size() && weights[tenant] > 0 ? weights[tenant] : 1;
}

size_t WindowOf(double time, double width, size_t windows) {
  return std::min(static_cast<size_t>(std::max(time, 0.0) / width), windows - 1);
}

// Spreads what `record` used over the windows it ran in.
void SpreadUse(const RequestRecord& record, double width, Ledger* ledger) {
  const size_t windows = ledger->used.size();
  const Use use = UseOf(record);
  const double ran = record.finished - record.admitted;
  const size_t last = WindowOf(record.finished, width, windows);
  if (ran <= 0) {
    Add(use, 1, &ledger->used[last]);
    return;
  }
  for (size_t w = WindowOf(record.admitted, width, windows); w <= last; ++w) {
    const double from = std::max(record.admitted, static_cast<double>(w) * width);
    const double to = w == last ? record.finished : static_cast<double>(w + 1) * width;
    Add(use, (to - from) / ran, &ledger->used[w]);
  }
}

std::vector<Ledger> LedgersOf(const std::vector<RequestRecord>& records, size_t tenants,
                              size_t windows, double width) {
  std::vector<Ledger> ledgers(tenants);
  for (Ledger& ledger : ledgers) {
    ledger.used.resize(windows);
    ledger.at_edge.resize(windows + 1);
  }
  for (const RequestRecord& record : records) {
    Ledger& ledger = ledgers[static_cast<size_t>(record.tenant)];
    if (record.refused || record.admitted == kNotYet) continue;
    SpreadUse(record, width, &ledger);
    const auto first = static_cast<size_t>(std::ceil(record.arrival / width));
    for (size_t edge = first; edge <= windows; ++edge) {
      if (static_cast<double>(edge) * width >= record.first_token) break;
      ++ledger.at_edge[edge];
    }
  }
  return ledgers;
}

// What tenants got in the windows they competed in, relative to their competitors.
struct Competition {
  std::vector<double> relative;  // sum over windows
  std::vector<int64_t> windows;
};

// Returns whether at least two tenants competed in window `w`.
bool Compete(const std::vector<Ledger>& ledgers, const std::vector<double>& weights, size_t w,
             const Use& in_window, Competition* competition) {
  std::vector<size_t> tenants;
  std::vector<double> shares;
  double sum = 0;
  for (size_t t = 0; t < ledgers.size(); ++t) {
    if (ledgers[t].at_edge[w] == 0 || ledgers[t].at_edge[w + 1] == 0) continue;
    tenants.push_back(t);
    shares.push_back(DominantShare(ledgers[t].used[w], in_window) / WeightOf(weights, t));
    sum += shares.back();
  }
  if (tenants.size() < 2 || sum <= 0) return false;
  for (size_t i = 0; i < tenants.size(); ++i) {
    competition->relative[tenants[i]] += shares[i] * static_cast<double>(tenants.size()) / sum;
    ++competition->windows[tenants[i]];
  }
  return true;
}

}  // namespace

double JainIndex(const std::vector<double>& shares) {
  double sum = 0;
  double squares = 0;
  for (const double x : shares) {
    sum += x;
    squares += x * x;
  }
  return squares > 0 ? sum * sum / (static_cast<double>(shares.size()) * squares) : 1;
}

Fairness FairnessOf(const std::vector<RequestRecord>& records, const std::vector<double>& weights,
                    int windows) {
  Fairness fairness;
  double end = 0;
  size_t tenants = 0;
  for (const RequestRecord& record : records) {
    if (record.finished != kNotYet) end = std::max(end, record.finished);
    tenants = std::max(tenants, static_cast<size_t>(record.tenant) + 1);
  }
  if (tenants == 0 || end <= 0) return fairness;
  const auto count = static_cast<size_t>(windows);
  const std::vector<Ledger> ledgers =
      LedgersOf(records, tenants, count, end / static_cast<double>(windows));

  std::vector<Use> totals(tenants);
  Use all{};
  Competition competition{std::vector<double>(tenants), std::vector<int64_t>(tenants)};
  for (size_t w = 0; w < count; ++w) {
    Use in_window{};
    for (size_t t = 0; t < tenants; ++t) {
      Add(ledgers[t].used[w], 1, &in_window);
      Add(ledgers[t].used[w], 1, &totals[t]);
    }
    Add(in_window, 1, &all);
    if (Compete(ledgers, weights, w, in_window, &competition)) ++fairness.contended_windows;
  }
  std::vector<double> means;
  for (size_t t = 0; t < tenants; ++t) {
    if (competition.windows[t] == 0) continue;
    means.push_back(competition.relative[t] / static_cast<double>(competition.windows[t]));
  }
  fairness.jain = JainIndex(means);
  for (const Use& total : totals) fairness.dominant_share.push_back(DominantShare(total, all));
  return fairness;
}

}  // namespace sluice
