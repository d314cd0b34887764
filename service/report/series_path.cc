#include "service/report/series_path.h"

#include <algorithm>
#include <cmath>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "service/report/palette.h"

namespace sluice {
namespace {

constexpr size_t kManyDots = 250;

// Runs of points that can be drawn, in pixels; a point that cannot ends a run.
using Run = std::vector<Point>;

std::vector<Run> Runs(const Frame& frame, const std::vector<Point>& points) {
  std::vector<Run> runs(1);
  for (const Point& p : points) {
    if (frame.CanShow(p)) {
      runs.back().push_back({frame.PixelX(p.x), frame.PixelY(p.y)});
    } else if (!runs.back().empty()) {
      runs.emplace_back();
    }
  }
  if (runs.back().empty()) runs.pop_back();
  return runs;
}

// Of the points in one pixel column keeps the first, the highest, the lowest and the last: the line
// looks the same. REQUIRES: points in order of x, otherwise nothing is left out.
Run Thinned(const Run& run) {
  Run kept;
  for (size_t i = 0; i < run.size();) {
    size_t end = i + 1;
    while (end < run.size() && std::floor(run[end].x) == std::floor(run[i].x)) ++end;
    const auto by_y = [](const Point& a, const Point& b) { return a.y < b.y; };
    const auto first = run.begin() + static_cast<std::ptrdiff_t>(i);
    const auto last = run.begin() + static_cast<std::ptrdiff_t>(end);
    const auto [low, high] = std::minmax_element(first, last, by_y);
    std::set<std::ptrdiff_t> indices = {first - run.begin(), low - run.begin(), high - run.begin(),
                                        last - run.begin() - 1};
    for (const std::ptrdiff_t index : indices) kept.push_back(run[static_cast<size_t>(index)]);
    i = end;
  }
  return kept;
}

std::string LinePath(const Run& run, bool steps) {
  std::string path;
  for (size_t i = 0; i < run.size(); ++i) {
    if (i == 0) {
      absl::StrAppend(&path, "M", Px(run[i].x), " ", Px(run[i].y));
    } else if (steps) {
      absl::StrAppend(&path, "H", Px(run[i].x), "V", Px(run[i].y));
    } else {
      absl::StrAppend(&path, "L", Px(run[i].x), " ", Px(run[i].y));
    }
  }
  // A single point is a dot.
  return run.size() == 1 ? absl::StrCat(path, "h0") : path;
}

void DrawDots(Canvas& canvas, const std::vector<Run>& runs, int color) {
  std::string path;
  std::set<std::pair<std::string, std::string>> seen;
  for (const Run& run : runs) {
    for (const Point& p : run) {
      if (!seen.emplace(Px(std::round(p.x * 2) / 2), Px(std::round(p.y * 2) / 2)).second) continue;
      absl::StrAppend(&path, "M", Px(p.x), " ", Px(p.y), "h0");
    }
  }
  // Many dots are drawn smaller.
  const char* classes = seen.size() > kManyDots ? "p q " : "p ";
  if (!path.empty()) canvas.Path(path, absl::StrCat(classes, StrokeClass(color, false)));
}

}  // namespace

void DrawSeries(Canvas& canvas, const Frame& frame, const Series& series, int color) {
  const std::vector<Run> runs = Runs(frame, series.points);
  if (series.mark == Mark::kPoints) return DrawDots(canvas, runs, color);
  std::string line, area;
  for (const Run& run : runs) {
    const std::string path = LinePath(Thinned(run), series.mark == Mark::kStep);
    line += path;
    const std::string base = Px(frame.plot().bottom());
    absl::StrAppend(&area, path, "V", base, "H", Px(run.front().x), "Z");
  }
  if (line.empty()) return;
  if (series.mark == Mark::kArea) canvas.Path(area, absl::StrCat("area ", FillClass(color)));
  canvas.Path(line, absl::StrCat("l ", StrokeClass(color, series.dashed)));
}

bool HasData(const Frame& frame, const std::vector<Series>& series) {
  return std::any_of(series.begin(), series.end(), [&](const Series& s) {
    return std::any_of(s.points.begin(), s.points.end(),
                       [&](const Point& p) { return frame.CanShow(p); });
  });
}

}  // namespace sluice
