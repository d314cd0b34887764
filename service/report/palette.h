// Which palette slot each series has, and the classes that draw it.
#pragma once

#include <string>
#include <vector>

#include "service/report/chart.h"

namespace sluice {

// Slots for series that asked for `wanted`; kAutoColor takes the smallest slot nobody has.
std::vector<int> AssignColors(const std::vector<int>& wanted);
std::vector<int> AssignColors(const std::vector<Series>& series);

// Slot of category `index`: `colors[index]` if given, otherwise `index`.
int ColorAt(const std::vector<int>& colors, size_t index);

// "s3 d1": stroke of slot 3 in its second round, dashed.
std::string StrokeClass(int color, bool dashed);
// "f3".
std::string FillClass(int color);

}  // namespace sluice
