#include "service/grpc/load_window.h"

#include <algorithm>

namespace sluice {

void LoadWindow::Add(const ActivitySnapshot& activity, Tokens output_tokens) {
  // Totals that have not been renewed since say nothing new.
  if (!samples_.empty() && activity.wall() <= samples_.back().activity.wall()) return;
  samples_.push_back({activity, output_tokens});
  while (samples_.size() > 2 && activity.wall() - samples_[1].activity.wall() >= window_) {
    samples_.pop_front();
  }
}

LoadRates LoadWindow::Rates() const {
  LoadRates rates;
  if (samples_.size() < 2) return rates;
  const ActivitySnapshot& from = samples_.front().activity;
  const ActivitySnapshot& to = samples_.back().activity;
  const absl::Duration wall = to.wall() - from.wall();
  const auto share = [wall](absl::Duration busy) {
    return std::clamp(absl::FDivDuration(busy, wall), 0.0, 1.0);
  };
  const auto link_busy = [&](LinkDirection direction) {
    const auto i = static_cast<size_t>(direction);
    return share(to.links[i].busy - from.links[i].busy);
  };
  rates.device_busy = share(to.compute_only + to.both - from.compute_only - from.both);
  rates.link_to_device_busy = link_busy(LinkDirection::kHostToDevice);
  rates.link_to_host_busy = link_busy(LinkDirection::kDeviceToHost);
  const Tokens tokens = samples_.back().output_tokens - samples_.front().output_tokens;
  rates.output_tokens_per_s = static_cast<double>(tokens.value()) / absl::ToDoubleSeconds(wall);
  return rates;
}

}  // namespace sluice
