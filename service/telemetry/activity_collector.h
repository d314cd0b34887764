// ActivityCollector: how device and links spent their time, read at the moment of a scrape, so that
// the four states always add up to the time since start, also in the middle of a long step.
//
// Thread-safe.
#pragma once

#include <functional>
#include <mutex>
#include <string>
#include <vector>

#include "backend/activity.h"
#include "backend/backend.h"
#include "prometheus/collectable.h"

namespace sluice {

class ActivityCollector final : public prometheus::Collectable {
 public:
  // `read` answers with the totals so far, from any thread, as long as anybody scrapes. Empty:
  // what was last given to Observe().
  ActivityCollector(const BackendInfo& info, std::string model,
                    std::function<ActivitySnapshot()> read);

  void Observe(const ActivitySnapshot& activity);

  std::vector<prometheus::MetricFamily> Collect() const override;

 private:
  ActivitySnapshot Read() const;
  void CollectLinks(const ActivitySnapshot& activity,
                    std::vector<prometheus::MetricFamily>* families) const;

  const std::string model_;
  const std::string device_;
  const double configured_bandwidth_;
  const bool emulated_;
  const Tier storage_;
  const std::function<ActivitySnapshot()> read_;

  mutable std::mutex mu_;
  ActivitySnapshot observed_;  // guarded by mu_
};

}  // namespace sluice
