#include "scheduler/scheduler.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "scheduler/base/check.h"
#include "scheduler/base/status_macros.h"
#include "scheduler/impl.h"
#include "scheduler/policy/registry.h"

namespace sluice {
namespace {

KvCacheOptions KvOptions(const SchedulerOptions& options, const PolicyTraits& traits) {
  KvCacheOptions kv;
  kv.tokens_per_block = options.geometry.tokens_per_block;
  kv.device_blocks = options.device_blocks;
  kv.host_blocks = options.host_blocks;
  kv.disk_blocks = options.disk_blocks;
  kv.max_store_blocks = options.max_store_blocks;
  kv.min_hits_to_store = options.min_hits_to_store;
  kv.prefix_caching = options.prefix_caching;
  kv.events = options.kv_events;
  kv.max_pinned_share = options.max_pinned_share;
  kv.eviction = traits.values_blocks ? EvictionOrder::kValue : EvictionOrder::kLru;
  return kv;
}

// A remote store costs nothing while it is away, and its own breaker sees when it is back.
Seconds LongestPause(const SchedulerOptions& options) {
  return options.storage_tier == Tier::kRemote ? Seconds(1) : DiskGate::kLongest;
}

std::unique_ptr<Policy> PolicyFor(const SchedulerOptions& options) {
  SLUICE_CHECK(options.Validate().ok());
  return *MakePolicy(options.policy, options.policy_options);
}

TierStats TierStatsOf(const BlockPool& pool) {
  return {pool.capacity(), pool.free(),       pool.referenced(),
          pool.cached(),   pool.in_transit(), Blocks(0)};
}

CacheMoves MovesOf(const KvCache::Counters& counters) {
  CacheMoves moves;
  moves.stored = Blocks(counters.stores);
  moves.spilled = counters.spills;
  moves.staged = counters.staged;
  moves.prefetched = counters.prefetched;
  moves.pins_yielded = counters.pins_yielded;
  moves.evicted_on_request = counters.evicted_on_request;
  return moves;
}

}  // namespace

// ---- Facade ----------------------------------------------------------------------------------

Scheduler::Scheduler(const SchedulerOptions& options, BlockHashFunction block_hash)
    : impl_(std::make_unique<Impl>(options, block_hash)) {}
Scheduler::~Scheduler() = default;

std::vector<BlockId> Scheduler::Adopt(std::span<const StoredBlock> blocks) {
  return impl_->Adopt(blocks);
}
PromptBlocks Scheduler::FindMissing(const RequestSpec& spec) { return impl_->FindMissing(spec); }
std::vector<StoredBlock> Scheduler::AdoptFound(const RequestSpec& spec, const PromptBlocks& prompt,
                                               size_t found) {
  return impl_->AdoptFound(spec, prompt, found);
}
absl::Status Scheduler::Submit(RequestSpec spec, absl::Time now) {
  return impl_->Submit(std::move(spec), now);
}
Explanation Scheduler::Explain(RequestSpec spec, absl::Time now) {
  return impl_->Explain(std::move(spec), now);
}
void Scheduler::Cancel(RequestId id, absl::Time now) { impl_->Cancel(id, now); }
void Scheduler::OnCopyDone(const CopyResult& result, absl::Time now) {
  impl_->OnCopyDone(result, now);
}
StepPlan Scheduler::PlanStep(absl::Time now) { return impl_->PlanStep(now); }
StepPlan Scheduler::PlanAhead(absl::Time now) { return impl_->PlanAhead(now); }
void Scheduler::CommitStep(const StepResult& result, absl::Time now) {
  impl_->CommitStep(result, now);
}
absl::Status Scheduler::Warm(WarmSpec spec, absl::Time now) {
  return impl_->Warm(std::move(spec), now);
}
std::vector<WarmResult> Scheduler::TakeWarmResults() { return impl_->TakeWarmResults(); }
EvictResult Scheduler::Evict(const EvictSpec& spec, absl::Time now) {
  return impl_->Evict(spec, now);
}
std::vector<Event> Scheduler::TakeEvents() { return impl_->TakeEvents(); }
KvEvents Scheduler::TakeKvEvents() { return impl_->TakeKvEvents(); }
KvEvents Scheduler::ListKvBlocks() const { return impl_->ListKvBlocks(); }
absl::Time Scheduler::NextWakeup() const { return impl_->NextWakeup(); }
bool Scheduler::idle() const { return impl_->idle(); }
SchedulerStats Scheduler::stats() const { return impl_->stats(); }
absl::Status Scheduler::CheckInvariants() const { return impl_->CheckInvariants(); }

// ---- Requests come and go --------------------------------------------------------------------

Scheduler::Impl::Impl(const SchedulerOptions& options, BlockHashFunction block_hash)
    : options_(options),
      block_hash_(block_hash),
      policy_(PolicyFor(options)),
      traits_(policy_->traits()),
      kv_(KvOptions(options, traits_)),
      calibration_(options.cost),
      cost_(options.refine_cost ? calibration_.current() : options_.cost),
      disk_reads_(LongestPause(options)),
      disk_writes_(LongestPause(options)) {}

void Scheduler::Impl::AdvanceClock(absl::Time now) {
  SLUICE_CHECK(now >= now_);
  if (origin_ == absl::InfinitePast()) origin_ = now;
  now_ = now;
  kv_.set_now(now);
}

absl::Status Scheduler::Impl::CheckSpec(const RequestSpec& spec) const {
  SLUICE_CHECK(spec.sampling != nullptr);
  const int64_t prompt = static_cast<int64_t>(spec.prompt.size());
  const int64_t max_new = spec.max_new.value();
  if (prompt == 0) return absl::InvalidArgumentError("prompt: has no tokens, want at least one");
  if (max_new < 1) {
    return absl::InvalidArgumentError(absl::StrCat("max_new: ", max_new, ", want at least 1"));
  }
  const int64_t limit = options_.max_model_len.value();
  if (prompt > limit || max_new > limit - prompt) {
    return absl::InvalidArgumentError(absl::StrCat("prompt of ", prompt, " tokens + max_new of ",
                                                   max_new, " exceeds max_model_len of ", limit,
                                                   "; shorten one of them"));
  }
  const Blocks need = options_.geometry.BlocksFor(Tokens(prompt + max_new));
  if (need > options_.device_blocks) {
    return absl::InvalidArgumentError(absl::StrCat(
        "request needs ", need.value(), " KV blocks (prompt of ", prompt, " + max_new of ", max_new,
        " tokens); the device has ", options_.device_blocks.value(),
        "; shorten it or give the device pool more memory"));
  }
  return absl::OkStatus();
}

// A hash that does not follow from what the block says of itself is one of another model or layout,
// or of a record gone bad.
std::vector<BlockId> Scheduler::Impl::Adopt(std::span<const StoredBlock> blocks) {
  std::vector<StoredBlock> ours;
  std::vector<BlockId> unused;
  ours.reserve(blocks.size());
  for (const StoredBlock& block : blocks) {
    const BlockIdentity& identity = block.identity;
    const Hash128 parent =
        identity.first ? RootHash(options_.cache_seed, identity.salt) : identity.parent;
    if (block_hash_(parent, block.tokens) == identity.hash) {
      ours.push_back(block);
    } else {
      unused.push_back(block.slot);
    }
  }
  const std::vector<BlockId> rest = kv_.Adopt(ours);
  unused.insert(unused.end(), rest.begin(), rest.end());
  return unused;
}

absl::Status Scheduler::Impl::Submit(RequestSpec spec, absl::Time now) {
  AdvanceClock(now);
  if (absl::Status status = CheckSpec(spec); !status.ok()) {
    Count(Decision::kRefuseNeverFits);
    return status;
  }
  if (live_.contains(spec.id)) {
    return absl::AlreadyExistsError(
        absl::StrCat("request id ", spec.id.value(), " is live; use another"));
  }
  if (static_cast<int64_t>(waiting_.size()) >= options_.queue_limit) {
    Count(Decision::kRefuseQueueFull);
    return absl::ResourceExhaustedError(absl::StrCat("queue is full: ", waiting_.size(),
                                                     " requests waiting (limit ",
                                                     options_.queue_limit, "); retry later"));
  }
  return Enqueue(MakeSequence(std::move(spec)));
}

std::unique_ptr<Sequence> Scheduler::Impl::MakeSequence(RequestSpec spec) {
  auto sequence = std::make_unique<Sequence>();
  sequence->tokens = std::move(spec.prompt);
  sequence->stats.arrival = now_;
  sequence->stats.admitted = absl::InfiniteFuture();
  sequence->stats.first_token = absl::InfiniteFuture();
  sequence->stats.prompt = sequence->known();
  sequence->spec = std::move(spec);
  sequence->tokens.reserve(sequence->max_length().size());
  sequence->hashes.reserve(options_.geometry.FullBlocks(sequence->max_length()).size());
  ExtendHashes(sequence.get(), options_.geometry.FullBlocks(sequence->known()));
  return sequence;
}

absl::Status Scheduler::Impl::Enqueue(std::unique_ptr<Sequence> owned) {
  Sequence* sequence = owned.get();
  sequence->arrival = next_arrival_;
  sequence->tenant = TenantIndex(sequence->spec.tenant);
  WaitingView view = LookAt(sequence);
  const MachineView machine = LookAtMachine();
  const PlanPrice plan = PlanFor(machine, PressureOf(machine, waiting_.views()), view);
  const Seconds predicted = PredictFirstToken(view, plan);
  SLUICE_RETURN_IF_ERROR(CheckDeadline(view, predicted, plan));

  const WaitPromise promise = policy_->Promise(machine, view, waiting_.views());
  sequence->overdue_at = view.overdue_at = promise.overdue_at;
  if (promise.bound < kNever) sequence->stats.wait_bound = ToDuration(promise.bound);
  sequence->stats.predicted_ttft = ToDuration(predicted);
  if (waiting_.empty()) admission_clock_ = now();
  mixed_priorities_ |= priority_.value_or(sequence->spec.priority) != sequence->spec.priority;
  priority_ = sequence->spec.priority;
  ++next_arrival_;
  waiting_.Add(sequence, view);
  Event& event = events_.emplace_back();
  event.request = sequence->spec.id;
  event.predicted_ttft = sequence->stats.predicted_ttft;
  live_.emplace(sequence->spec.id, std::move(owned));
  return absl::OkStatus();
}

int32_t Scheduler::Impl::TenantIndex(const std::string& tenant) {
  constexpr size_t kMostTenants = 4096;  // later ones share the last place
  const auto next = static_cast<int32_t>(std::min(tenants_.size(), kMostTenants - 1));
  if (tenants_.size() >= kMostTenants && !tenants_.contains(tenant)) return next;
  return tenants_.try_emplace(tenant, next).first->second;
}

void Scheduler::Impl::Cancel(RequestId id, absl::Time now) {
  AdvanceClock(now);
  const auto it = live_.find(id);
  if (it == live_.end()) return;
  End(it->second.get(), FinishReason::kCancelled, absl::CancelledError("request was cancelled"),
      now);
}

void Scheduler::Impl::End(Sequence* sequence, FinishReason reason, absl::Status status,
                          absl::Time now, std::optional<SampledToken> token) {
  sequence->stats.finished = now;
  if (sequence->state == Sequence::State::kRunning) ChargeHold(sequence);
  if (reason == FinishReason::kStop || reason == FinishReason::kLength) {
    const double share = static_cast<double>(sequence->stats.output.value()) /
                         static_cast<double>(sequence->spec.max_new.value());
    output_share_ += (share - output_share_) / 32;
  }
  Event event;
  event.request = sequence->spec.id;
  event.token = std::move(token);
  event.finish = Event::Finish{reason, std::move(status), sequence->stats};
  events_.push_back(std::move(event));
  ++finished_[static_cast<size_t>(reason)];

  const auto it = live_.find(sequence->spec.id);
  std::unique_ptr<Sequence> owned = std::move(it->second);
  live_.erase(it);
  if (sequence->state == Sequence::State::kWaiting) {
    if (room_for_.has_value() && room_for_->sequence == sequence) room_for_.reset();
    waiting_.Remove(sequence);
  } else {
    RemoveFromRunning(sequence);
  }
  sequence->state = Sequence::State::kEnded;
  if (sequence->in_flight == 0) {
    ReleaseBlocks(sequence);
    return;
  }
  // The newest step that computes it keeps it.
  const auto newest = std::find_if(flights_.rbegin(), flights_.rend(),
                                   [&](const Flight& f) { return f.Computes(*sequence); });
  newest->entries[static_cast<size_t>(sequence->row)].ended = std::move(owned);
}

void Scheduler::Impl::ChargeHold(Sequence* sequence) {
  const KvLease& lease = sequence->lease;
  const Blocks held = Blocks(static_cast<int64_t>(lease.blocks.size())) + lease.reserved;
  sequence->stats.block_seconds +=
      absl::ToDoubleSeconds(now_ - sequence->holds_since) * AsDouble(held);
}

void Scheduler::Impl::ReleaseBlocks(Sequence* sequence) {
  kv_.Release(options_.geometry.FullBlocks(sequence->computed), &sequence->lease);
}

void Scheduler::Impl::RemoveFromRunning(Sequence* sequence) {
  running_.erase(std::find(running_.begin(), running_.end(), sequence));
}

// ---- Numbers ---------------------------------------------------------------------------------

std::vector<Event> Scheduler::Impl::TakeEvents() { return std::exchange(events_, {}); }

absl::Time Scheduler::Impl::NextWakeup() const {
  const Sequence* next = waiting_.earliest_deadline();
  const absl::Time control = NextControlEvent();
  return next == nullptr ? control : std::min(control, next->spec.first_token_deadline);
}

// Paper section 3: compute seconds per new token over link seconds per cached token.
double Scheduler::Impl::KappaCritical() const {
  const LinkCoefficients& link = cost_.links[static_cast<size_t>(LinkDirection::kHostToDevice)];
  const Seconds load = link.per_byte * static_cast<double>(cost_.kv_bytes_per_token.value());
  return load > Seconds(0) ? cost_.per_token / load : 0;
}

SchedulerStats Scheduler::Impl::stats() const {
  SchedulerStats stats;
  stats.waiting = static_cast<int64_t>(waiting_.size());
  stats.running = static_cast<int64_t>(running_.size());
  stats.loading = std::count_if(running_.begin(), running_.end(), [this](const Sequence* s) {
    return std::any_of(s->lease.loads.begin(), s->lease.loads.end(),
                       [this](CopyId id) { return kv_.InFlight(id); });
  });
  stats.reserved = kv_.reserved();
  const OnlineCalibrationStats errors = calibration_.stats();
  stats.step_error = errors.step_error.value_or(0);
  stats.copy_error = errors.copy_error.value_or(0);
  stats.kappa_critical = KappaCritical();
  stats.offload_saved_s = guard_.saved().value();
  stats.offload_spent_s = guard_.spent().value();
  stats.offload_stores = guard_.stores();
  stats.device = TierStatsOf(kv_.device());
  stats.host = TierStatsOf(kv_.host());
  stats.disk = TierStatsOf(kv_.disk());
  stats.storage_tier = options_.storage_tier;
  stats.residency = {kv_.device().residency(), kv_.host().residency(), kv_.disk().residency()};
  stats.device.pinned = kv_.pinned(Tier::kDevice);
  stats.host.pinned = kv_.pinned(Tier::kHost);
  stats.moves = MovesOf(kv_.counters());
  stats.spills_pending = kv_.spills_pending();
  const bool begun = origin_ != absl::InfinitePast();
  stats.disk_reads_off = begun && !disk_reads_.Open(now());
  stats.disk_writes_off = begun && !disk_writes_.Open(now());
  stats.disk_corrupt = disk_corrupt_;
  stats.disk_evictions = kv_.counters().disk_evictions;
  stats.steps_ahead = steps_ahead_;
  stats.decisions = decisions_;
  stats.decisions[static_cast<size_t>(Decision::kStore)] = kv_.counters().stores;
  stats.decisions[static_cast<size_t>(Decision::kStoreSkipped)] = kv_.counters().stores_skipped;
  stats.decisions[static_cast<size_t>(Decision::kStoreGated)] = kv_.counters().stores_gated;
  stats.prompt_tokens_cached = prompt_tokens_cached_;
  stats.prompt_tokens_computed = prompt_tokens_computed_;
  stats.tokens_recomputed = tokens_recomputed_;
  stats.output_tokens = output_tokens_;
  stats.device_evictions = kv_.counters().device_evictions;
  stats.host_evictions = kv_.counters().host_evictions;
  stats.finished = finished_;
  return stats;
}

}  // namespace sluice
