// What a policy may see: waiting and running requests and the machine, as values.
#include <algorithm>

#include "scheduler/impl.h"

namespace sluice {
namespace {

// Blocks looked up anew per step to keep the views of waiting requests fresh. At about 10 ns a
// block this stays far below the cost of a step.
constexpr size_t kRenewBlocks = 128;

}  // namespace

void Scheduler::Impl::ExtendHashes(Sequence* sequence, Blocks count) {
  if (!options_.prefix_caching) return;
  ChainHashes(sequence->tokens, sequence->spec.cache_salt, count.size(), &sequence->hashes);
}

void Scheduler::Impl::ChainHashes(std::span<const TokenId> tokens, uint64_t salt, size_t count,
                                  std::vector<Hash128>* hashes) const {
  const size_t width = options_.geometry.tokens_per_block.size();
  while (hashes->size() < count) {
    const Hash128 parent = hashes->empty() ? RootHash(options_.cache_seed, salt) : hashes->back();
    hashes->push_back(block_hash_(parent, tokens.subspan(hashes->size() * width, width)));
  }
}

void Scheduler::Impl::MatchPrefix(Sequence* sequence) {
  // At least one token is computed, to have logits to draw from.
  const Blocks limit = options_.geometry.FullBlocks(sequence->known() - Tokens(1));
  ExtendHashes(sequence, limit);
  kv_.Match(sequence->path(), limit, &match_);
}

WaitingView Scheduler::Impl::LookAt(Sequence* sequence) {
  MatchPrefix(sequence);
  const KvGeometry& geometry = options_.geometry;
  const Blocks total = geometry.BlocksFor(sequence->max_length());
  WaitingView view;
  view.request = sequence->spec.id;
  view.arrival = sequence->arrival;
  view.arrived = Elapsed(sequence->stats.arrival);
  view.overdue_at = sequence->overdue_at;
  if (!sequence->resumed) view.deadline = Elapsed(sequence->spec.first_token_deadline);
  view.priority = sequence->spec.priority;
  view.tenant = sequence->tenant;
  view.resumed = sequence->resumed;
  view.tokens = sequence->known();
  view.max_new = sequence->max_length() - sequence->known();
  view.on_device = geometry.TokensIn(match_.on_device);
  view.on_host = geometry.TokensIn(match_.on_host);
  view.on_disk = geometry.TokensIn(match_.on_disk);
  view.staging = sequence->staging && view.on_disk > Tokens(0);
  view.pending = geometry.TokensIn(match_.pending);
  view.need = kv_.Need(match_, total);
  view.need_in_place = view.need - match_.host_only;
  Price(&view);
  sequence->looked_at = kv_.content_epoch();
  return view;
}

void Scheduler::Impl::Price(WaitingView* view) const {
  const auto bytes = [this](Tokens n) {
    return Bytes(n.value() * cost_.kv_bytes_per_token.value());
  };
  const auto copy = [&](LinkDirection direction, Tokens n) {
    if (n == Tokens(0)) return Seconds(0);
    return CopyTime(cost_.links[static_cast<size_t>(direction)], bytes(n),
                    options_.geometry.BlocksFor(n).value());
  };
  view->load = copy(LinkDirection::kHostToDevice, view->on_host);
  view->stage = copy(LinkDirection::kDiskToHost, view->on_disk);
  const Tokens cached = view->tokens - view->fresh();
  view->compute = PrefillTime(cost_, cached, view->fresh());
  view->recompute =
      PrefillTime(cost_, view->on_device, view->tokens - view->on_device) - view->compute;
  const double outputs = output_share_ * AsDouble(view->max_new);
  view->decode = cost_.per_context_token * (AsDouble(view->tokens) * outputs);
  view->hold = view->load + view->compute + TokenTime() * outputs;
}

Seconds Scheduler::Impl::TokenTime() const {
  return std::max(mean_step_, cost_.launch + std::max(cost_.floor, cost_.weight_read));
}

Seconds Scheduler::Impl::HoldLeft(const Sequence& s) const {
  const double outputs = output_share_ * AsDouble(s.max_length() - s.known());
  return TokenTime() * outputs + PrefillTime(cost_, s.computed, s.known() - s.computed);
}

bool Scheduler::Impl::Renew(size_t index) {
  WaitingView& view = waiting_.view(index);
  const WaitingView before = view;
  view = LookAt(waiting_.at(index));
  return view.on_device != before.on_device || view.on_host != before.on_host ||
         view.on_disk != before.on_disk || view.pending != before.pending;
}

void Scheduler::Impl::RenewSome() {
  size_t blocks = 0;
  for (size_t seen = 0; seen < waiting_.size() && blocks < kRenewBlocks; ++seen) {
    if (++renew_at_ >= waiting_.size()) renew_at_ = 0;
    if (waiting_.at(renew_at_)->looked_at == kv_.content_epoch()) continue;
    Renew(renew_at_);
    blocks += match_.nodes.size() + 8;
  }
}

RunningView Scheduler::Impl::ViewOf(const Sequence& s) const {
  RunningView view;
  view.request = s.spec.id;
  view.arrival = s.arrival;
  view.arrived = Elapsed(s.stats.arrival);
  view.priority = s.spec.priority;
  view.tenant = s.tenant;
  view.first = s.computed;
  view.remaining = s.known() - s.computed;
  if (s.in_gap()) view.remaining -= s.resume_at - s.gap_end;
  const bool free_gap = s.in_gap() && !s.lease.loads.empty() && s.lease.gap_loads.empty();
  if (free_gap) view.before_loads = s.gap_end - s.computed;
  view.in_place = s.in_place;
  view.decoding = s.stats.output > Tokens(0) && view.remaining == Tokens(1);
  view.loads = s.lease.loads;
  view.joinable = s.joinable;
  for (const CopyId load : s.lease.loads) {
    view.load_left = std::max(view.load_left, link_clock_.Left(load, now()));
  }
  return view;
}

// A step that computes as many tokens as allowed at the end of the longest context, while all of
// the pool is attended to.
Seconds Scheduler::Impl::LongestStep() const {
  const Tokens pool = options_.geometry.TokensIn(options_.device_blocks);
  StepEstimate step(cost_);
  step.Add({options_.max_model_len, options_.step_token_limit, Tokens(0)});
  return step.time() + cost_.per_context_token * AsDouble(pool);
}

MachineView Scheduler::Impl::LookAtMachine() const {
  MachineView machine;
  machine.now = now();
  machine.cost = &cost_;
  machine.available = kv_.available();
  machine.capacity = options_.device_blocks;
  machine.running = static_cast<int64_t>(running_.size());
  machine.max_running = options_.max_running;
  for (size_t d = 0; d < kLinkDirectionCount; ++d) {
    machine.link_backlog[d] = link_clock_.Backlog(static_cast<LinkDirection>(d), machine.now);
  }
  machine.staging_late = link_clock_.Late(LinkDirection::kDiskToHost, machine.now);
  StepEstimate decodes(cost_);
  Tokens most_left;
  for (const Sequence* s : running_) {
    machine.lowest_priority = s == running_.front()
                                  ? s->spec.priority
                                  : std::min(machine.lowest_priority, s->spec.priority);
    machine.held_block_seconds +=
        AsDouble(options_.geometry.BlocksFor(s->max_length())) * HoldLeft(*s).value();
    most_left = std::max(most_left, s->max_length() - s->known());
    const Tokens remaining = s->known() - s->computed;
    if (s->stats.output > Tokens(0) && remaining == Tokens(1)) {
      decodes.Add({s->computed, Tokens(1), s->in_place});
      ++machine.decoding;
      const double left = output_share_ * AsDouble(s->max_length() - s->known());
      machine.decode_backlog += cost_.per_context_token * (AsDouble(s->computed) * left);
    } else {
      machine.compute_backlog += PrefillTime(cost_, s->computed, remaining);
    }
  }
  machine.decode_step = decodes.time();
  machine.admission_interval = admission_interval_;
  machine.longest_step = LongestStep();
  machine.drain = machine.longest_step * AsDouble(most_left) + machine.compute_backlog * 2 +
                  machine.link_backlog[static_cast<size_t>(LinkDirection::kHostToDevice)];
  machine.step_token_limit = options_.step_token_limit;
  machine.tpot_target = options_.tpot_target;
  machine.attends_in_place = options_.attend_in_place;
  return machine;
}

}  // namespace sluice
