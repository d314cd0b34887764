#include "tests/property/kv_world.h"

#include <algorithm>
#include <array>
#include <utility>

#include "absl/strings/str_cat.h"
#include "tests/property/content.h"

namespace sluice::testing {
KvWorld::KvWorld(const KvWorldOptions& options, uint64_t seed)
    : options_(options),
      width_(options.cache.tokens_per_block.size()),
      rng_(seed),
      cache_(options.cache),
      device_(options.cache.device_blocks.size(), kGarbage),
      host_(options.cache.host_blocks.size(), kGarbage),
      disk_(options.cache.disk_blocks.size(), kGarbage) {}

void KvWorld::Fail(const std::string& what) {
  if (failure_.empty()) failure_ = what;
}

void KvWorld::Note(int64_t value) { trace_ = MixContent(trace_, static_cast<uint64_t>(value)); }

std::string KvWorld::Run() {
  for (int i = 0; i < options_.actions && failure_.empty(); ++i) Act();
  if (failure_.empty()) Drain();
  return failure_;
}

void KvWorld::Act() {
  now_ += absl::Milliseconds(Pick(0, 3));
  switch (Pick(0, 27)) {
    case 0:
    case 1:
    case 2:
      return Admit();
    case 3:
    case 4:
    case 5:
    case 6:
    case 19:
    case 20:
    case 21:
    case 22:
      return Compute(/*joined=*/Chance(0.5));
    case 7:
    case 16:
    case 17:
      return End();
    case 8:
    case 18:
      return Stage();
    case 9:
      return Prefetch();
    case 10:
      return Chance(0.2) ? MakeRoom() : Admit();
    case 11:
      if (Chance(0.2)) cache_.RevokeUnused();
      return AfterCall();
    case 12:
    case 13:
      return Take();
    case 23:
      return Found();
    case 24:
      return Pin();
    case 25:
      return Chance(0.5) ? EndPins() : Pin();
    case 26:
      return StoreAhead();
    case 27:
      return Chance(0.4) ? Evict() : StoreAhead();
    default:
      if (copies_.empty()) return Take();
      return FinishCopy(static_cast<size_t>(Pick(0, static_cast<int64_t>(copies_.size()) - 1)),
                        /*may_fail=*/true);
  }
}

// ---- Sequences -------------------------------------------------------------------------------

KvWorld::Prompt KvWorld::RandomPrompt() {
  Prompt p;
  size_t blocks = static_cast<size_t>(Pick(1, options_.max_blocks));
  if (!history_.empty() && Chance(0.8)) {  // the same again, or the next turn
    p = history_[static_cast<size_t>(Pick(0, static_cast<int64_t>(history_.size()) - 1))];
    if (Chance(0.5)) blocks = p.blocks();
    p.tokens.resize(std::min(p.tokens.size(), blocks * width_));
  } else {
    p.salt = static_cast<uint64_t>(Pick(0, options_.salts - 1));
  }
  p.hashes.clear();
  p.known.clear();
  p.content.clear();
  const size_t shared = static_cast<size_t>(Pick(0, static_cast<int64_t>(blocks * width_)));
  std::mt19937_64 family(static_cast<uint64_t>(Pick(0, options_.families - 1)));
  for (size_t i = p.tokens.size(); i < blocks * width_; ++i) {
    const uint64_t draw = i < shared ? family() : rng_();
    p.tokens.push_back(static_cast<TokenId>(draw % static_cast<uint64_t>(options_.vocabulary)));
  }
  Hash128 hash = RootHash(0, p.salt);
  uint64_t content = MixContent(77, p.salt);
  for (size_t i = 0; i < blocks; ++i) {
    const auto tokens = std::span<const TokenId>(p.tokens).subspan(i * width_, width_);
    hash = options_.block_hash(hash, tokens);
    for (const TokenId token : tokens)
      content = MixContent(content, static_cast<uint64_t>(token) + 1);
    p.hashes.push_back(hash);
    p.content.push_back(content);
  }
  history_.push_back(p);
  if (history_.size() > 24) history_.erase(history_.begin());
  return p;
}

KvWorld::Prompt KvWorld::PromptWith(Blocks KvMatch::*blocks) {
  std::shuffle(history_.begin(), history_.end(), rng_);
  for (const Prompt& prompt : history_) {
    cache_.Match(prompt.path(), Blocks(static_cast<int64_t>(prompt.blocks())), &match_);
    if (match_.*blocks > Blocks(0)) return prompt;
  }
  return RandomPrompt();
}

KvWorld::Sequence* KvWorld::RandomSequence(bool done) {
  std::vector<Sequence*> fitting;
  for (const auto& s : live_) {
    if (s->done() == done) fitting.push_back(s.get());
  }
  if (fitting.empty()) return nullptr;
  return fitting[static_cast<size_t>(Pick(0, static_cast<int64_t>(fitting.size()) - 1))];
}

void KvWorld::Admit() {
  auto s = std::make_unique<Sequence>();
  s->prompt = Chance(0.4) ? PromptWith(&KvMatch::host_only) : RandomPrompt();
  const int64_t blocks = static_cast<int64_t>(s->prompt.blocks());
  const Blocks limit(Chance(0.7) ? blocks : Pick(0, blocks));
  const Blocks total(blocks + (Chance(0.3) ? Pick(0, 6) : 0));
  CheckMatch(s->prompt, limit.size());
  KvUse use;
  if (Chance(0.2)) use.use = Blocks(Pick(0, blocks));
  if (Chance(0.4)) use.recompute = Blocks(Pick(1, 3));
  use.in_place = use.recompute == Blocks(0) && Chance(0.3);
  const Blocks need = cache_.Need(match_, total, use);
  if (!cache_.Fits(match_, total, use)) {
    if (use.in_place) return Chance(0.7) ? End() : void();
    cache_.Match(s->prompt.path(), Blocks(blocks), &match_);
    refusal_ = Refusal{s->prompt,
                       total,
                       use,
                       cache_.room_epoch(),
                       cache_.content_epoch(),
                       match_.nodes.size(),
                       match_.usable,
                       match_.pending};
    refusal_->use.use = std::min(use.use, limit);  // Match() may look further next time
    return Chance(0.7) ? End() : void();
  }
  const Blocks room = cache_.available();
  const KvAdmission admission =
      cache_.Admit(match_, total, use, RequestId(next_request_++), &s->lease);
  CheckAdmission(*s, admission, use, room - cache_.available(), need);
  if (Chance(options_.claims)) cache_.Claim(s->prompt.path(), Blocks(blocks), &s->lease);
  s->used = s->lease.published.size();
  s->next = s->lease.gap_end > s->lease.gap_begin ? s->lease.gap_begin.size() : s->used;
  Note(admission.device.value() * 1000 + admission.host.value() * 10 + admission.gap.value());
  for (const BlockId block : s->lease.blocks) Note(block.value());
  live_.push_back(std::move(s));
  AfterCall();
}

void KvWorld::Compute(bool joined) {
  Sequence* s = RandomSequence(/*done=*/false);
  if (s == nullptr) return;
  std::erase_if(s->lease.loads, [this](CopyId id) { return !cache_.InFlight(id); });
  const bool in_gap = s->next < s->lease.gap_end.size();
  // The front of a split may run before its loads have arrived.
  const bool runs = s->lease.loads.empty() || joined || (in_gap && s->lease.gap_loads.empty());
  for (int64_t n = Pick(1, 4); runs && n > 0 && !s->done() && failure_.empty(); --n) {
    ComputeBlock(s);
  }
  AfterCall();
  if (Chance(0.8)) PublishSome(s);
}

void KvWorld::ComputeBlock(Sequence* s) {
  KvLease& lease = s->lease;
  cache_.Grow(Blocks(static_cast<int64_t>(std::max(s->next + 1, lease.blocks.size()))), &lease);
  for (size_t i = 0; i < s->next; ++i) {
    if (!Readable(*s, i)) return Fail(absl::StrCat("a sequence reads foreign KV at block ", i));
  }
  const BlockId block = lease.blocks[s->next];
  if (!Writable(block)) return Fail(absl::StrCat("block ", block.value(), " is not writable"));
  device_[block.index()] = s->prompt.content[s->next];
  for (size_t i = 0; i < s->next; ++i) {
    const NodeId id = lease.blocks[i].valid() ? cache_.device().owner(lease.blocks[i]) : NodeId();
    if (!id.valid() || !cache_.index().node(id).load.valid()) continue;
    s->tentative.emplace_back(cache_.index().node(id).load, block);
  }
  ++s->next;
  if (s->next == lease.gap_end.size()) s->next = s->used;
}

void KvWorld::PublishSome(Sequence* s) {
  const Blocks computed(static_cast<int64_t>(s->next));
  if (s->lease.loads.empty()) {
    cache_.Publish(s->prompt.path(), computed, &s->lease);
  } else {
    cache_.PublishGap(computed, &s->lease);
  }
  AfterCall();
}

void KvWorld::Forget(Sequence* s, bool revoke) {
  const Blocks full(static_cast<int64_t>(s->next));
  const bool backed =
      revoke ? cache_.Revoke(full, &s->lease) : cache_.Release(full, &s->lease, Chance(0.3));
  Note(backed ? 1 : 2);
  std::erase_if(live_, [s](const auto& other) { return other.get() == s; });
}

void KvWorld::End() {
  Sequence* s = RandomSequence(/*done=*/!Chance(0.25));
  if (s == nullptr) return;
  Forget(s, Chance(0.5));
  AfterCall();
}

// ---- Moves ahead of need ---------------------------------------------------------------------

void KvWorld::Stage() {
  const Prompt prompt = PromptWith(&KvMatch::on_disk);
  CheckMatch(prompt, prompt.blocks());
  const Blocks before = match_.on_device + match_.on_host;
  Note(cache_
           .Stage(match_, Blocks(Pick(1, 6)), RequestId(1),
                  Chance(0.5) ? CopyClass::kDemand : CopyClass::kPrefetch)
           .value());
  AfterCall();
  cache_.Match(prompt.path(), Blocks(static_cast<int64_t>(prompt.blocks())), &match_);
  if (match_.on_device + match_.on_host != before) Fail("staging evicted blocks of its own match");
}

void KvWorld::Prefetch() {
  const Prompt prompt = PromptWith(&KvMatch::host_only);
  CheckMatch(prompt, prompt.blocks());
  const Blocks before = match_.on_device;
  const Blocks room = cache_.available();
  const Blocks count = cache_.Prefetch(match_, Blocks(Pick(1, 6)), RequestId(1));
  Note(count.value());
  if (count > Blocks(0) && room - cache_.available() != count) Fail("a prefetch takes other room");
  AfterCall();
  cache_.Match(prompt.path(), Blocks(static_cast<int64_t>(prompt.blocks())), &match_);
  if (match_.on_device != before) Fail("a prefetch evicted blocks of its own match");
}

// Victims as counted must do, and one fewer must not.
void KvWorld::MakeRoom() {
  const Prompt prompt = RandomPrompt();
  const Blocks total(static_cast<int64_t>(prompt.blocks()) + Pick(0, 6));
  const Blocks limit(static_cast<int64_t>(prompt.blocks()));
  CheckMatch(prompt, limit.size());
  std::shuffle(live_.begin(), live_.end(), rng_);
  std::vector<const KvLease*> victims;
  for (const auto& s : live_) victims.push_back(&s->lease);
  const std::optional<size_t> needed = cache_.VictimsNeeded(match_, total, victims);
  const auto fits_in_the_end = [&] {
    Take();
    while (!copies_.empty() && failure_.empty()) FinishCopy(0, /*may_fail=*/false);
    cache_.Match(prompt.path(), limit, &match_);
    return cache_.Fits(match_, total);
  };
  if (!needed.has_value()) {
    if (total <= cache_.device().capacity() && live_.empty() && fits_in_the_end()) {
      Fail("no victims would do, but it fits");
    }
    return;
  }
  for (size_t i = 0; i + 1 < *needed; ++i) Forget(live_.front().get(), /*revoke=*/true);
  if (*needed > 0) {
    ++coverage_.victims;
    if (fits_in_the_end()) return Fail("one victim too many");
    Forget(live_.front().get(), /*revoke=*/true);
  }
  if (!fits_in_the_end()) Fail("too few victims");
  AfterCall();
}

// ---- Copies ----------------------------------------------------------------------------------

std::vector<uint64_t>* KvWorld::SourcePool(LinkDirection direction) {
  if (direction == LinkDirection::kDeviceToHost) return &device_;
  return direction == LinkDirection::kDiskToHost ? &disk_ : &host_;
}

std::vector<uint64_t>* KvWorld::TargetPool(LinkDirection direction) {
  if (direction == LinkDirection::kHostToDevice) return &device_;
  return direction == LinkDirection::kHostToDisk ? &disk_ : &host_;
}

void KvWorld::StartCopy(const Copy& copy) {
  if (copy.blocks.empty()) return Fail("an empty copy");
  CopyUnderWay started;
  started.copy = copy;
  std::set<BlockId> targets;
  for (const Copy::Pair& pair : copy.blocks) {
    started.sources.push_back((*SourcePool(copy.direction))[pair.source.index()]);
    if (started.sources.back() == kGarbage) {
      Fail(absl::StrCat("copy ", copy.id.value(), " moves garbage"));
    }
    (*TargetPool(copy.direction))[pair.target.index()] = kGarbage;
    targets.insert(pair.target);
    Note(pair.source.value() * 4096 + pair.target.value());
  }
  CheckIdentities(copy, started.sources);
  if (targets.size() != copy.blocks.size()) Fail("a block is twice in a copy");
  for (const CopyUnderWay& c : copies_) {
    if (c.copy.id == copy.id) Fail("a copy id is not new");
  }
  copies_.push_back(std::move(started));
}

void KvWorld::Take() {
  std::vector<CopyId> revoked;
  cache_.TakeRevoked(&revoked);
  for (const CopyId id : revoked) {
    const auto it = std::find_if(copies_.begin(), copies_.end(),
                                 [id](const CopyUnderWay& c) { return c.copy.id == id; });
    if (it == copies_.end()) return Fail("a copy is revoked that is not under way");
    it->revoked = true;
  }
  std::vector<Copy> copies;
  cache_.TakeCopies(&copies);
  for (const Copy& copy : copies) StartCopy(copy);
  AfterCall();
}

void KvWorld::FinishCopy(size_t which, bool may_fail) {
  const CopyUnderWay c = std::move(copies_[which]);
  copies_.erase(copies_.begin() + static_cast<std::ptrdiff_t>(which));
  const bool fails = may_fail && Chance(options_.copy_failures);
  const bool revoked = c.revoked && !fails && Chance(0.6);
  if (c.revoked && !fails && !revoked) ++coverage_.late_revocations;
  const CopyOutcome outcome = fails     ? CopyOutcome::kFailed
                              : revoked ? CopyOutcome::kRevoked
                                        : CopyOutcome::kOk;
  for (size_t i = 0; i < c.copy.blocks.size(); ++i) {
    const Copy::Pair& pair = c.copy.blocks[i];
    uint64_t& target = (*TargetPool(c.copy.direction))[pair.target.index()];
    if ((*SourcePool(c.copy.direction))[pair.source.index()] != c.sources[i]) {
      Fail(absl::StrCat("a source of copy ", c.copy.id.value(), " was written under way"));
    }
    if (target != kGarbage) {
      Fail(absl::StrCat("a target of copy ", c.copy.id.value(), " was written under way"));
    }
    if (outcome == CopyOutcome::kOk) target = c.sources[i];
  }
  const std::vector<int32_t> failed = fails ? ArriveInPart(c) : std::vector<int32_t>();
  pins_may_end_ = outcome != CopyOutcome::kOk;
  const KvCache::CopyEnd end = cache_.OnCopyDone(c.copy.id, outcome, failed);
  if (end.direction != c.copy.direction || end.ok != (outcome == CopyOutcome::kOk)) {
    Fail("a copy ended as another");
  }
  if (end.direction == LinkDirection::kHostToDevice && !end.ok) LoseLoad(end, c.copy.id);
  AfterCall();
}

void KvWorld::LoseLoad(const KvCache::CopyEnd& end, CopyId load) {
  for (size_t i = live_.size(); i-- > 0;) {
    Sequence* s = live_[i].get();
    if (std::count(s->lease.loads.begin(), s->lease.loads.end(), load) == 0) continue;
    if (end.revoked) Fail("a sequence waits for a revoked load");
    for (const auto& [copy, block] : s->tentative) {
      if (copy == load) device_[block.index()] = kGarbage;
    }
    Forget(s, /*revoke=*/false);
  }
}

// ---- The end ---------------------------------------------------------------------------------

void KvWorld::Drain() {
  for (int i = 0; i < 10000 && failure_.empty(); ++i) {
    Take();
    if (!copies_.empty()) {
      FinishCopy(static_cast<size_t>(Pick(0, static_cast<int64_t>(copies_.size()) - 1)), true);
    } else if (!live_.empty()) {
      Forget(live_.back().get(), Chance(0.5));
      AfterCall();
    } else {
      pins_may_end_ = true;
      cache_.ExpirePins(absl::InfiniteFuture());
      AfterCall();
      return CheckDrained();
    }
  }
  Fail("does not drain");
}

}  // namespace sluice::testing
