// ProcessCollector: the process_* series that every Prometheus client library exports, read from
// /proc at each scrape. Absent where /proc is.
#pragma once

#include <string>
#include <vector>

#include "prometheus/collectable.h"

namespace sluice {

class ProcessCollector final : public prometheus::Collectable {
 public:
  // `proc`: "/proc/self", or a test's copy of such a folder.
  explicit ProcessCollector(std::string proc = "/proc/self") : proc_(std::move(proc)) {}

  std::vector<prometheus::MetricFamily> Collect() const override;

 private:
  const std::string proc_;
};

}  // namespace sluice
