// Small helpers to declare Prometheus series: every family carries the `model` label, and counters
// that mirror a running total advance by the difference.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "prometheus/counter.h"
#include "prometheus/gauge.h"
#include "prometheus/histogram.h"
#include "prometheus/registry.h"

namespace sluice {

using Labels = std::map<std::string, std::string>;

// A counter that follows a total kept elsewhere. Totals never go back.
class MirroredCounter {
 public:
  explicit MirroredCounter(prometheus::Counter& counter) : counter_(&counter) {}

  void Follow(double total) {
    if (total <= last_) return;
    counter_->Increment(total - last_);
    last_ = total;
  }

 private:
  prometheus::Counter* counter_;
  double last_ = 0;
};

// A histogram that follows counts kept elsewhere, per bucket; the last is that of the rest.
class MirroredHistogram {
 public:
  explicit MirroredHistogram(prometheus::Histogram& histogram) : histogram_(&histogram) {}

  // REQUIRES: as many counts as the histogram has buckets, the last one included.
  template <class Counts>
  void Follow(const Counts& counts, double sum) {
    std::vector<double> more(counts.size());
    last_.resize(counts.size());
    double any = 0;
    for (size_t i = 0; i < counts.size(); ++i) {
      more[i] = static_cast<double>(counts[i] - last_[i]);
      last_[i] = counts[i];
      any += more[i];
    }
    if (any > 0) histogram_->ObserveMultiple(more, sum - sum_);
    if (any > 0) sum_ = sum;
  }

 private:
  prometheus::Histogram* histogram_;
  std::vector<int64_t> last_;
  double sum_ = 0;
};

// Declares families in one registry, all with the same constant labels.
class SeriesMaker {
 public:
  SeriesMaker(prometheus::Registry& registry, Labels constant)
      : registry_(registry), constant_(std::move(constant)) {}

  prometheus::Family<prometheus::Counter>& Counters(const char* name, const char* help) {
    return prometheus::BuildCounter().Name(name).Help(help).Labels(constant_).Register(registry_);
  }
  prometheus::Family<prometheus::Gauge>& Gauges(const char* name, const char* help) {
    return prometheus::BuildGauge().Name(name).Help(help).Labels(constant_).Register(registry_);
  }
  prometheus::Family<prometheus::Histogram>& Histograms(const char* name, const char* help) {
    return prometheus::BuildHistogram().Name(name).Help(help).Labels(constant_).Register(registry_);
  }

  prometheus::Counter& Counter(const char* name, const char* help) {
    return Counters(name, help).Add({});
  }
  prometheus::Gauge& Gauge(const char* name, const char* help) {
    return Gauges(name, help).Add({});
  }
  prometheus::Histogram& Histogram(const char* name, const char* help,
                                   const prometheus::Histogram::BucketBoundaries& buckets) {
    return Histograms(name, help).Add({}, buckets);
  }

 private:
  prometheus::Registry& registry_;
  const Labels constant_;
};

}  // namespace sluice
