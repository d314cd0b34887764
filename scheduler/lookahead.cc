// Staging and prefetch: idle links bring the KV of waiting requests closer. Nobody is ever made to
// wait for it: who is admitted before its KV is staged computes that part (dynamo #6101: 40 s of
// waiting for a disk against 0.9 s of computing).
#include <algorithm>

#include "scheduler/impl.h"

namespace sluice {
namespace {

// Work to queue ahead on a link that is about to run dry.
constexpr Seconds kAhead{0.05};
// Waiting requests looked at for staging per step, oldest first.
constexpr size_t kCandidates = 8;

bool Idle(const LinkClock& clock, LinkDirection direction, Seconds now) {
  return clock.Backlog(direction, now) < kAhead;
}

}  // namespace

void Scheduler::Impl::StageAhead() {
  if (options_.disk_blocks == Blocks(0)) return;
  kv_.set_spilling(disk_writes_.Open(now()));
  if (!disk_reads_.Open(now())) return;
  for (size_t i = 0; i < std::min(kCandidates, waiting_.size()); ++i) {
    if (!Idle(link_clock_, LinkDirection::kDiskToHost, now())) return;
    const WaitingView& view = waiting_.view(i);
    // Worth it only where reading is faster than computing.
    if (view.on_disk > Tokens(0) && view.stage < view.recompute) StageFor(i);
  }
}

void Scheduler::Impl::StageFor(size_t index) {
  Sequence* sequence = waiting_.at(index);
  if (sequence->staged_at == kv_.content_epoch()) return;
  sequence->staged_at = kv_.content_epoch();
  MatchPrefix(sequence);
  sequence->staging =
      kv_.Stage(match_, match_.on_disk, sequence->spec.id, CopyClass::kPrefetch) > Blocks(0) ||
      sequence->staging;
  waiting_.view(index).staging = sequence->staging;
}

void Scheduler::Impl::PrefetchAhead() {
  if (next_ == nullptr || room_for_.has_value() || !traits_.prefetches) return;
  if (Idle(link_clock_, LinkDirection::kHostToDevice, now())) PrefetchFor(next_);
}

void Scheduler::Impl::PrefetchFor(Sequence* sequence) {
  if (sequence->prefetched_at == kv_.content_epoch()) return;
  sequence->prefetched_at = kv_.content_epoch();
  MatchPrefix(sequence);
  if (match_.host_only == Blocks(0)) return;
  const LinkCoefficients& link = cost_.links[static_cast<size_t>(LinkDirection::kHostToDevice)];
  const Bytes block = options_.geometry.bytes_per_block;
  const Seconds each = CopyTime(link, block, 1);
  const Blocks most(1 + static_cast<int64_t>(std::min(1e6, kAhead / each)));
  if (kv_.Prefetch(match_, most, sequence->spec.id) > Blocks(0)) Count(Decision::kPrefetch);
}

}  // namespace sluice
