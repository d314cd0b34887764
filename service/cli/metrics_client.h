// Reads a Prometheus endpoint: just enough to show a few numbers.
#pragma once

#include <map>
#include <string>

#include "absl/status/statusor.h"

namespace sluice {

// The values of one scrape by series, written as in the text format: `name{label="value"}`.
using MetricValues = std::map<std::string, double>;

// GET http://`host`:`port`/metrics. Returns UNAVAILABLE naming the address if that fails.
absl::StatusOr<MetricValues> ScrapeMetrics(const std::string& host, int port);

// Parses the text format; comments and lines it does not understand are left out.
MetricValues ParseMetrics(const std::string& text);

// The sum of all series of `name` whose labels contain `label` (as `key="value"`; empty: any).
double SumMetric(const MetricValues& values, const std::string& name, const std::string& label);

}  // namespace sluice
