#include "scheduler/link_clock.h"

#include <algorithm>

namespace sluice {

int64_t RunsOf(const Copy& copy) {
  int64_t runs = 1;
  for (size_t i = 1; i < copy.blocks.size(); ++i) {
    const auto& [source, target] = copy.blocks[i];
    const auto& before = copy.blocks[i - 1];
    const bool follows =
        source.value() == before.source.value() + 1 && target.value() == before.target.value() + 1;
    if (!follows) ++runs;
  }
  return runs;
}

void LinkClock::OnPlanned(CopyId id, CopyUnderWay copy, Seconds now) {
  Lane& lane = lanes_[static_cast<size_t>(copy.direction)];
  if (lane.copies == 0) lane.since = now;
  copy.due = now + Backlog(copy.direction, now) + copy.price;
  lane.queued += copy.price;
  ++lane.copies;
  copies_[id] = copy;
}

std::optional<CopyUnderWay> LinkClock::OnEnded(CopyId id, Seconds now) {
  const auto it = copies_.find(id);
  if (it == copies_.end()) return std::nullopt;
  const CopyUnderWay copy = it->second;
  copies_.erase(it);
  Lane& lane = lanes_[static_cast<size_t>(copy.direction)];
  lane.queued -= copy.price;
  lane.since = now;
  if (--lane.copies == 0) lane.queued = Seconds(0);  // no rounding left behind
  return copy;
}

Seconds LinkClock::Backlog(LinkDirection direction, Seconds now) const {
  const Lane& lane = lanes_[static_cast<size_t>(direction)];
  return std::max(Seconds(0), lane.queued - (now - lane.since));
}

Seconds LinkClock::Late(LinkDirection direction, Seconds now) const {
  const Lane& lane = lanes_[static_cast<size_t>(direction)];
  if (lane.copies == 0) return Seconds(0);
  return std::max(Seconds(0), now - lane.since - lane.queued);
}

Seconds LinkClock::Left(CopyId id, Seconds now) const {
  const auto it = copies_.find(id);
  return it == copies_.end() ? Seconds(0) : std::max(Seconds(0), it->second.due - now);
}

}  // namespace sluice
