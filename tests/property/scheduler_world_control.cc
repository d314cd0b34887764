// Warm-ups and evictions in the random schedules.
#include "absl/strings/str_cat.h"
#include "tests/property/content.h"
#include "tests/property/scheduler_world.h"

namespace sluice::testing {

void SchedulerWorld::Warm() {
  WarmSpec spec;
  spec.id = WarmId(next_warm_++);
  spec.tokens = RandomPrompt();
  spec.cache_salt = static_cast<uint64_t>(Pick(0, options_.salts - 1));
  spec.tier = Chance(0.7) ? Tier::kDevice : Tier::kHost;
  if (Chance(0.8)) spec.pin = Chance(0.5) ? absl::Milliseconds(Pick(1, 50)) : absl::Hours(1);
  if (Chance(0.5)) spec.deadline = now_ + absl::Milliseconds(Pick(0, 30));
  const WarmId id = spec.id;
  const Tokens tokens(static_cast<int64_t>(spec.tokens.size()));
  const absl::Status queued = scheduler_.Warm(std::move(spec), now_);
  if (queued.ok()) {
    warms_.emplace(id, tokens);
  } else if (!absl::IsFailedPrecondition(queued) && !absl::IsResourceExhausted(queued)) {
    Fail(absl::StrCat("Warm: ", queued.ToString()));
  }
  AfterCall();
}

void SchedulerWorld::HearWarm(const WarmResult& result) {
  const auto it = warms_.find(result.id);
  if (it == warms_.end()) return Fail("a warm-up ended that was not under way");
  if (result.ready + result.elsewhere + result.missing != it->second) {
    Fail("the tokens of a warm-up are miscounted");
  }
  if (result.pinned > result.ready + result.elsewhere) Fail("more is pinned than is there");
  Note(static_cast<uint64_t>(result.ready.value() * 64 + result.pinned.value()));
  warms_.erase(it);
}

void SchedulerWorld::Evict() {
  EvictSpec spec;
  spec.pinned = Chance(0.3);
  if (Chance(0.3)) {
    for (bool& tier : spec.tiers) tier = Chance(0.6);
  }
  if (!Chance(0.2)) spec.cache_salt = static_cast<uint64_t>(Pick(0, options_.salts - 1));
  if (spec.cache_salt.has_value() && Chance(0.8)) spec.prompt = RandomPrompt();
  const EvictResult result = scheduler_.Evict(spec, now_);
  for (const BlockId slot : result.disk_slots) {
    Slots& slots = disk_[slot.index()];
    std::fill(slots.begin(), slots.end(), kGarbage);
  }
  const SchedulerStats stats = scheduler_.stats();
  const bool everything = !spec.prompt.has_value() && !spec.cache_salt.has_value();
  if (everything && spec.tiers[0] && stats.device.cached > Blocks(0)) {
    Fail("something evictable is left on the device");
  }
  if (everything && spec.tiers[1] && stats.host.cached > Blocks(0)) {
    Fail("something evictable is left on the host");
  }
  for (const EvictResult::Count& count : result.tiers) {
    Note(static_cast<uint64_t>(count.dropped.value()));
  }
  AfterCall();
}

}  // namespace sluice::testing
