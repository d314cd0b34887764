// Series to SVG paths, thinned to what can be seen.
#pragma once

#include "service/report/chart.h"
#include "service/report/frame.h"
#include "service/report/svg.h"

namespace sluice {

// Draws `series` in palette slot `color`. The caller clips to the plot.
void DrawSeries(Canvas& canvas, const Frame& frame, const Series& series, int color);

// True if at least one of the points can be drawn.
bool HasData(const Frame& frame, const std::vector<Series>& series);

}  // namespace sluice
