#include "backend/activity.h"

#include "scheduler/base/check.h"

namespace sluice {

void ActivityMeter::AdvanceLocked(absl::Time now) {
  if (now <= last_) return;
  const absl::Duration passed = now - last_;
  last_ = now;
  bool transfer = false;
  for (int d = 0; d < kLinkDirectionCount; ++d) {
    if (moving_[static_cast<size_t>(d)] == 0) continue;
    transfer = true;
    total_.links[static_cast<size_t>(d)].busy += passed;
  }
  const bool compute = computing_ > 0;
  (compute ? (transfer ? total_.both : total_.compute_only)
           : (transfer ? total_.transfer_only : total_.idle)) += passed;
  if (stalled_ > 0) total_.load_stall += passed;
}

void ActivityMeter::BeginCompute(absl::Time now) {
  std::lock_guard<std::mutex> lock(mu_);
  AdvanceLocked(now);
  ++computing_;
}

void ActivityMeter::EndCompute(absl::Time now) {
  std::lock_guard<std::mutex> lock(mu_);
  AdvanceLocked(now);
  SLUICE_CHECK(computing_ > 0);
  --computing_;
}

void ActivityMeter::BeginStall(absl::Time now) {
  std::lock_guard<std::mutex> lock(mu_);
  AdvanceLocked(now);
  ++stalled_;
}

void ActivityMeter::EndStall(absl::Time now) {
  std::lock_guard<std::mutex> lock(mu_);
  AdvanceLocked(now);
  SLUICE_CHECK(stalled_ > 0);
  --stalled_;
}

void ActivityMeter::QueueTransfer(LinkDirection direction, Bytes bytes) {
  std::lock_guard<std::mutex> lock(mu_);
  total_.links[static_cast<size_t>(direction)].in_flight += bytes;
}

void ActivityMeter::BeginTransfer(LinkDirection direction, absl::Time now) {
  std::lock_guard<std::mutex> lock(mu_);
  AdvanceLocked(now);
  ++moving_[static_cast<size_t>(direction)];
}

void ActivityMeter::EndTransfer(LinkDirection direction, Bytes bytes, bool ok, absl::Time now) {
  std::lock_guard<std::mutex> lock(mu_);
  AdvanceLocked(now);
  const auto d = static_cast<size_t>(direction);
  SLUICE_CHECK(moving_[d] > 0);
  --moving_[d];
  total_.links[d].in_flight -= bytes;
  if (!ok) return;
  total_.links[d].moved += bytes;
  ++total_.links[d].operations;
}

void ActivityMeter::DropTransfer(LinkDirection direction, Bytes bytes) {
  std::lock_guard<std::mutex> lock(mu_);
  total_.links[static_cast<size_t>(direction)].in_flight -= bytes;
}

ActivitySnapshot ActivityMeter::Snapshot(absl::Time now) {
  std::lock_guard<std::mutex> lock(mu_);
  AdvanceLocked(now);
  return total_;
}

}  // namespace sluice
