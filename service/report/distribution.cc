// CdfChart and HistogramOf: from values to charts.
#include <algorithm>
#include <cmath>

#include "scheduler/base/check.h"
#include "service/report/axis_scale.h"
#include "service/report/chart.h"

namespace sluice {
namespace {

constexpr size_t kMostSteps = 400;

// (value, share of values <= it), ascending, at most about kMostSteps. Infinite values count in the
// share; NaN does not.
std::vector<Point> CdfPoints(std::vector<double> values, Scale scale) {
  values.erase(std::remove_if(values.begin(), values.end(), [](double v) { return std::isnan(v); }),
               values.end());
  std::sort(values.begin(), values.end());
  const size_t stride = std::max<size_t>(1, values.size() / kMostSteps);
  std::vector<Point> points;
  double share_before = 0;  // the curve rises from here at its first value
  for (size_t i = 0; i < values.size(); ++i) {
    const double share = static_cast<double>(i + 1) / static_cast<double>(values.size());
    const bool last_equal = i + 1 < values.size() && values[i + 1] == values[i];
    if (!Drawable(values[i], scale)) {
      if (points.empty()) share_before = share;
      continue;
    }
    if (points.empty()) points.push_back({values[i], share_before});
    if (last_equal) continue;
    if (i + 1 < values.size() && i % stride != 0 && Drawable(values[i + 1], scale)) continue;
    points.push_back({values[i], share});
  }
  return points;
}

}  // namespace

LineChart CdfChart(Axis x, const std::vector<NamedValues>& samples) {
  LineChart chart;
  chart.x = std::move(x);
  chart.y = {
      .title = "share of requests at or below", .format = TickFormat::kPercent, .min = 0, .max = 1};
  for (const NamedValues& sample : samples) {
    chart.series.push_back({.name = sample.name,
                            .points = CdfPoints(sample.values, chart.x.scale),
                            .mark = Mark::kStep});
  }
  return chart;
}

Histogram HistogramOf(Axis x, const std::vector<double>& values, int bins) {
  SLUICE_CHECK(bins >= 1);
  Extent data(x.scale);
  for (const double value : values) data.Add(value);
  Histogram histogram;
  histogram.x = x;
  histogram.y = {.title = "count"};
  if (data.empty()) return histogram;
  const AxisScale scale(x, data);
  for (int i = 0; i <= bins; ++i)
    histogram.edges.push_back(scale.At(static_cast<double>(i) / bins));
  histogram.counts.assign(static_cast<size_t>(bins), 0);
  for (const double value : values) {
    if (!scale.CanShow(value)) continue;
    const double bin = std::floor(scale.Share(value) * bins);
    if (bin < 0 || bin > bins) continue;
    // The last interval includes its upper end.
    histogram.counts[static_cast<size_t>(std::min<double>(bin, bins - 1))] += 1;
  }
  histogram.x.min = scale.low();
  histogram.x.max = scale.high();
  return histogram;
}

}  // namespace sluice
