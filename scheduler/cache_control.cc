// Warm and Evict: what people ask of the cache, beside what requests need.
//
// Pins give way. A pin on the device ends early if a waiting request could not be admitted even
// with everything else gone: as soon as it waits, where that can be told from its size, and at the
// latest when nothing runs and nothing moves. Pins on the host never hold anybody back: a request
// whose KV cannot be staged or stored for want of room is computed.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "scheduler/base/status_macros.h"
#include "scheduler/impl.h"

namespace sluice {
namespace {

// Waiting requests looked up per step for pins in their way; for the rest there is YieldAllPins().
constexpr int kMostLooks = 8;
constexpr size_t kMostWarms = 64;  // under way; each costs a look-up when something has changed

const char* NameOf(Tier tier) { return tier == Tier::kDevice ? "device" : "host"; }

}  // namespace

absl::Status Scheduler::Impl::CheckWarm(const WarmSpec& spec, Blocks full) {
  if (!options_.prefix_caching) {
    return absl::FailedPreconditionError("this server keeps no KV (prefix caching is off)");
  }
  if (spec.tier == Tier::kHost && options_.host_blocks == Blocks(0)) {
    return absl::FailedPreconditionError("tier: this server has no host tier; use the device");
  }
  if (warms_.size() >= kMostWarms) {
    return absl::ResourceExhaustedError(absl::StrCat(warms_.size(),
                                                     " warm-ups are under way (limit ", kMostWarms,
                                                     "); try again when some have ended"));
  }
  if (spec.pin <= absl::ZeroDuration()) return absl::OkStatus();
  const Blocks wanted = kv_.PinsWanted(match_, spec.tier, full);
  const Blocks pinned = kv_.pinned(spec.tier);
  const Blocks limit = kv_.PinLimit(spec.tier);
  if (pinned + wanted <= limit) return absl::OkStatus();
  return absl::ResourceExhaustedError(absl::StrCat(
      "pin: ", wanted.value(), " more blocks would be pinned on the ", NameOf(spec.tier), "; ",
      pinned.value(), " are, and ", limit.value(),
      " may be; shorten the prompt, wait until pins have ended, or warm it without a pin"));
}

std::vector<Hash128> Scheduler::Impl::HashesOf(std::span<const TokenId> tokens,
                                               uint64_t salt) const {
  std::vector<Hash128> hashes;
  ChainHashes(tokens, salt, tokens.size() / options_.geometry.tokens_per_block.size(), &hashes);
  return hashes;
}

absl::Status Scheduler::Impl::Warm(WarmSpec spec, absl::Time now) {
  AdvanceClock(now);
  kv_.ExpirePins(now);
  WarmTask task;
  task.hashes = HashesOf(spec.tokens, spec.cache_salt);
  task.spec = std::move(spec);
  kv_.Match(task.path(), task.full(), &match_);
  SLUICE_RETURN_IF_ERROR(CheckWarm(task.spec, task.full()));
  warms_.push_back(std::move(task));
  return absl::OkStatus();
}

// What is there is pinned before anything moves, and what has been planned right after.
void Scheduler::Impl::MatchAndPin(const WarmTask& task) {
  kv_.Match(task.path(), task.full(), &match_);
  if (task.spec.pin <= absl::ZeroDuration()) return;
  kv_.Pin(match_, task.spec.tier, now_ + task.spec.pin);
  kv_.Match(task.path(), task.full(), &match_);
}

Blocks Scheduler::Impl::MoveForWarm(const WarmTask& task) {
  Blocks moved;
  if (task.spec.tier == Tier::kDevice) {
    moved += kv_.Prefetch(match_, match_.usable, RequestId());
  } else {
    moved += kv_.StoreAhead(match_);
  }
  if (disk_reads_.Open(now())) {
    kv_.Match(task.path(), task.full(), &match_);
    moved += kv_.Stage(match_, match_.on_disk, RequestId(), CopyClass::kPrefetch);
  }
  return moved;
}

WarmResult Scheduler::Impl::ResultOf(const WarmTask& task) const {
  const KvGeometry& geometry = options_.geometry;
  const bool device = task.spec.tier == Tier::kDevice;
  Blocks ready;
  for (const NodeId id : match_.nodes) {
    const PrefixIndex::Node& node = kv_.index().node(id);
    const bool here = device ? node.HasDevice() && !node.load.valid() : node.HostReady();
    if (!here) break;
    ready += Blocks(1);
  }
  const Blocks found(static_cast<int64_t>(match_.nodes.size()));
  WarmResult result;
  result.id = task.spec.id;
  result.ready = geometry.TokensIn(ready);
  result.elsewhere = geometry.TokensIn(found - ready);
  result.missing = Tokens(static_cast<int64_t>(task.spec.tokens.size())) - geometry.TokensIn(found);
  if (task.spec.pin > absl::ZeroDuration()) {
    const Blocks pinned = found - kv_.PinsWanted(match_, task.spec.tier, found);
    result.pinned = geometry.TokensIn(pinned);
    if (pinned > Blocks(0)) result.pinned_until = now_ + task.spec.pin;
  }
  return result;
}

bool Scheduler::Impl::Progress(WarmTask* task) {
  const bool late = now_ >= task->spec.deadline;
  if (!late && task->looked_at == kv_.content_epoch()) return false;
  MatchAndPin(*task);
  if (!late && MoveForWarm(*task) > Blocks(0)) MatchAndPin(*task);
  task->looked_at = kv_.content_epoch();
  WarmResult result = ResultOf(*task);
  // What others move makes room when it has ended.
  const bool waits = kv_.Moving(match_) || (result.elsewhere > Tokens(0) && kv_.AnyMoving());
  if (waits && !late) return false;
  result.in_time = !waits;
  warm_results_.push_back(result);
  return true;
}

void Scheduler::Impl::ProgressWarms() {
  std::erase_if(warms_, [this](WarmTask& task) { return Progress(&task); });
}

std::vector<WarmResult> Scheduler::Impl::TakeWarmResults() {
  return std::exchange(warm_results_, {});
}

absl::Time Scheduler::Impl::NextControlEvent() const {
  absl::Time next = kv_.NextPinEnd();
  for (const WarmTask& task : warms_) next = std::min(next, task.spec.deadline);
  return next;
}

EvictResult Scheduler::Impl::Evict(const EvictSpec& spec, absl::Time now) {
  AdvanceClock(now);
  kv_.ExpirePins(now);
  KvEvictionOptions options;
  options.tiers = spec.tiers;
  options.pinned = spec.pinned;
  KvEviction done;
  if (spec.prompt.has_value()) {
    const uint64_t salt = spec.cache_salt.value_or(0);
    const std::vector<Hash128> hashes = HashesOf(*spec.prompt, salt);
    const Blocks full(static_cast<int64_t>(hashes.size()));
    done = kv_.EvictPrompt({*spec.prompt, hashes, salt}, full, options);
  } else {
    done = kv_.Evict(kv_.NodesWith(spec.cache_salt), options);
  }
  EvictResult result;
  for (size_t tier = 0; tier < done.tiers.size(); ++tier) {
    const KvEviction::Count& count = done.tiers[tier];
    result.tiers[tier] = {count.dropped, count.in_use, count.pinned};
  }
  result.shared = done.shared;
  result.disk_slots = std::move(done.disk_slots);
  return result;
}

// ---- Pins give way ---------------------------------------------------------------------------

void Scheduler::Impl::YieldPinsToWaiting() {
  if (kv_.pinned(Tier::kDevice) == Blocks(0)) return;
  const Blocks capacity = options_.device_blocks;
  int looks = 0;
  for (size_t i = 0; i < waiting_.size() && looks < kMostLooks; ++i) {
    const WaitingView& view = waiting_.view(i);
    const Blocks total = options_.geometry.BlocksFor(view.tokens + view.max_new);
    if (total <= capacity - kv_.pinned(Tier::kDevice)) continue;
    ++looks;
    MatchPrefix(waiting_.at(i));
    const Blocks others = kv_.pinned(Tier::kDevice) - kv_.PinnedInUse(match_);
    const Blocks excess = total - (capacity - others);
    if (excess > Blocks(0)) kv_.YieldPins(excess, match_);
  }
}

bool Scheduler::Impl::YieldAllPins() {
  const bool stuck = running_.empty() && !waiting_.empty() && blocked_ != Blocked() &&
                     kv_.device().in_transit() == Blocks(0);
  return stuck && kv_.YieldPins(kv_.pinned(Tier::kDevice)) > Blocks(0);
}

}  // namespace sluice
