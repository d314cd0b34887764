#include "service/report/palette.h"

#include <algorithm>
#include <set>

#include "absl/strings/str_cat.h"

namespace sluice {
namespace {

constexpr int kDashes = 4;  // solid and three dash patterns

}  // namespace

std::vector<int> AssignColors(const std::vector<int>& wanted) {
  std::set<int> taken(wanted.begin(), wanted.end());
  std::vector<int> colors;
  int next = 0;
  for (const int color : wanted) {
    if (color >= 0) {
      colors.push_back(color);
      continue;
    }
    while (taken.count(next) > 0) ++next;
    taken.insert(next);
    colors.push_back(next);
  }
  return colors;
}

std::vector<int> AssignColors(const std::vector<Series>& series) {
  std::vector<int> wanted;
  for (const Series& s : series) wanted.push_back(s.color);
  return AssignColors(wanted);
}

int ColorAt(const std::vector<int>& colors, size_t index) {
  const int color = index < colors.size() ? colors[index] : static_cast<int>(index);
  return std::max(0, color);
}

std::string StrokeClass(int color, bool dashed) {
  const int dash = (color / kPaletteSize + (dashed ? 1 : 0)) % kDashes;
  return absl::StrCat("s", color % kPaletteSize, dash > 0 ? absl::StrCat(" d", dash) : "");
}

std::string FillClass(int color) { return absl::StrCat("f", color % kPaletteSize); }

}  // namespace sluice
