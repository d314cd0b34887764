// Residency: how long KV stays on a tier before it leaves it, counted in classes.
//
// A value type that crosses layers: BlockPool counts, service/telemetry shows.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace sluice {

struct Residency {
  // Upper bounds of the classes, in seconds; one more class is for what stayed longer. Those of
  // vLLM's histograms of block lifetimes.
  static constexpr std::array<double, 17> kBounds = {
      0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 2, 5, 10, 30, 60, 120, 300, 600, 1200, 1800};

  std::array<int64_t, kBounds.size() + 1> blocks{};
  double sum_s = 0;  // of all blocks

  void Add(double seconds) {
    size_t i = 0;
    while (i < kBounds.size() && seconds > kBounds[i]) ++i;
    ++blocks[i];
    sum_s += seconds;
  }
};

}  // namespace sluice
