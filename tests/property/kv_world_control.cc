// Pins, stores ahead of need and evictions on request.
#include <algorithm>

#include "tests/property/content.h"
#include "tests/property/kv_world.h"

namespace sluice::testing {

void KvWorld::Pin() {
  const Tier tier = Chance(0.5) ? Tier::kDevice : Tier::kHost;
  const Prompt prompt = Chance(0.7)
                            ? PromptWith(Chance(0.5) ? &KvMatch::on_device : &KvMatch::on_host)
                            : RandomPrompt();
  CheckMatch(prompt, prompt.blocks());
  const Blocks all(static_cast<int64_t>(match_.nodes.size()));
  const Blocks wanted = cache_.PinsWanted(match_, tier, all);
  const Blocks before = cache_.pinned(tier);
  for (const NodeId id : match_.nodes) {
    if (tier == Tier::kDevice && cache_.index().node(id).load.valid()) ++coverage_.pinned_loads;
  }
  const Blocks pinned = cache_.Pin(match_, tier, now_ + absl::Milliseconds(Pick(1, 60)));
  const Blocks fresh = cache_.pinned(tier) - before;
  if (fresh > wanted || pinned < fresh || pinned > all) Fail("pins are miscounted");
  coverage_.pins += fresh.value();
  Note(pinned.value());
  AfterCall();
}

void KvWorld::EndPins() {
  pins_may_end_ = true;
  if (Chance(0.6)) {
    cache_.ExpirePins(now_);
    if (cache_.NextPinEnd() <= now_) Fail("a pin outlives its time");
  } else {
    const Prompt spare = RandomPrompt();
    CheckMatch(spare, spare.blocks());
    const Blocks before = cache_.pinned(Tier::kDevice);
    const Blocks yielded = cache_.YieldPins(Blocks(Pick(0, 4)), match_);
    if (before - cache_.pinned(Tier::kDevice) != yielded) Fail("yielded pins are miscounted");
  }
  AfterCall();
}

void KvWorld::StoreAhead() {
  const Prompt prompt = PromptWith(&KvMatch::on_device);
  CheckMatch(prompt, prompt.blocks());
  const Blocks on_host = match_.on_host;
  const Blocks room = cache_.available();
  const Blocks count = cache_.StoreAhead(match_);
  coverage_.stored_ahead += count.value();
  if (room - cache_.available() > count) Fail("a store takes more room than its blocks");
  AfterCall();
  cache_.Match(prompt.path(), Blocks(static_cast<int64_t>(prompt.blocks())), &match_);
  if (match_.on_host != on_host) Fail("a store evicted blocks of its own match");
}

void KvWorld::Evict() {
  KvEvictionOptions options;
  options.pinned = Chance(0.3);
  if (Chance(0.5)) {
    for (bool& tier : options.tiers) tier = Chance(0.6);
  }
  pins_may_end_ = options.pinned;
  // What a pin held alone is cached as soon as it ends.
  if (options.pinned) cache_.ExpirePins(absl::InfiniteFuture());
  const std::array<Blocks, 3> cached = {cache_.device().cached(), cache_.host().cached(),
                                        cache_.disk().cached()};
  const int64_t what = Pick(0, 9);
  if (what == 0) {
    return CheckEviction(cache_.Evict(cache_.NodesWith(std::nullopt), options), options, cached);
  }
  if (what == 1) {
    const auto salt = static_cast<uint64_t>(Pick(0, options_.salts - 1));
    return CheckEviction(cache_.Evict(cache_.NodesWith(salt), options), options, cached);
  }
  const Prompt prompt = PromptWith(Chance(0.5) ? &KvMatch::on_device : &KvMatch::on_host);
  const Blocks blocks(static_cast<int64_t>(prompt.blocks()));
  const KvEviction done = cache_.EvictPrompt(prompt.path(), blocks, options);
  coverage_.shared_fronts += done.shared > Blocks(0) ? 1 : 0;
  Blocks kept;
  for (const KvEviction::Count& count : done.tiers) kept += count.in_use + count.pinned;
  CheckEviction(done, options, cached);
  const bool everywhere = options.tiers[0] && options.tiers[1] && options.tiers[2];
  cache_.Match(prompt.path(), blocks, &match_);
  if (everywhere && kept == Blocks(0) && match_.nodes.size() > done.shared.size()) {
    Fail("an evicted prompt is still found");
  }
}

void KvWorld::CheckEviction(const KvEviction& done, const KvEvictionOptions& options,
                            const std::array<Blocks, 3>& cached_before) {
  const std::array<const BlockPool*, 3> pools = {&cache_.device(), &cache_.host(), &cache_.disk()};
  for (size_t tier = 0; tier < pools.size(); ++tier) {
    const KvEviction::Count& count = done.tiers[tier];
    if (cached_before[tier] - pools[tier]->cached() != count.dropped) {
      Fail("an eviction dropped other blocks than it said");
    }
    if (!options.tiers[tier] && count.dropped > Blocks(0)) Fail("an eviction from another tier");
    coverage_.evicted += count.dropped.value();
    coverage_.evictions_kept += (count.in_use + count.pinned).value();
  }
  if (Blocks(static_cast<int64_t>(done.disk_slots.size())) != done.tiers[2].dropped) {
    Fail("evicted slots of the disk are miscounted");
  }
  for (const BlockId slot : done.disk_slots) disk_[slot.index()] = kGarbage;
  AfterCall();
}

}  // namespace sluice::testing
