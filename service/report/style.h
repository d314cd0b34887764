// The looks of charts and pages: CSS with light and dark values. Class names in drawings:
//   t m o      text, muted text, outline: a halo that keeps it readable over lines
//   g a r      grid, axis, reference line          band, cell, area   translucent fills
//   l p q      line, dots, small dots (strokes)                sN, fN, dN         stroke, fill,
//   dash of slot N
#pragma once

#include <string>

namespace sluice {

// Colours as variables on `root` ("svg" or ":root"), for light, dark and paper.
std::string PaletteCss(const std::string& root);
// Classes of drawings.
std::string ChartCss();
// Classes of the page around them.
std::string PageCss();

}  // namespace sluice
