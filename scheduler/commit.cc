// What came of steps and copies.
#include <algorithm>
#include <utility>

#include "scheduler/base/check.h"
#include "scheduler/impl.h"

namespace sluice {
namespace {

CopyOutcome OutcomeOf(const absl::Status& status) {
  if (status.ok()) return CopyOutcome::kOk;
  return absl::IsCancelled(status) ? CopyOutcome::kRevoked : CopyOutcome::kFailed;
}

// What a step spent computing.
absl::Duration BusyTime(const StepResult& step) {
  return (step.finished - step.started) - step.load_stall;
}

}  // namespace

void Scheduler::Impl::CommitStep(const StepResult& result, absl::Time now) {
  AdvanceClock(now);
  SLUICE_CHECK(!flights_.empty() && result.id == flights_.front().id);
  std::vector<InFlight> entries = std::move(flights_.front().entries);
  flights_.erase(flights_.begin());
  SLUICE_CHECK(!result.status.ok() || result.sequences.size() == entries.size());
  for (InFlight& entry : entries) --entry.sequence->in_flight;
  if (result.status.ok()) {
    ChargeStep(entries, result);
    ObserveStep(entries, result);
  }
  SequenceResult failed;
  failed.status = result.status;
  for (size_t i = 0; i < entries.size(); ++i) {
    if (result.status.ok()) {
      CommitSequence(&entries[i], result.sequences[i], result, now);
    } else if (entries[i].sequence->state == Sequence::State::kEnded) {
      ReleaseEnded(entries[i].sequence);
    } else {
      End(entries[i].sequence, FinishReason::kError, result.status, now);
    }
  }
  entries.clear();
  spare_ = std::move(entries);
}

// Another step may still compute it, for nothing.
void Scheduler::Impl::ReleaseEnded(Sequence* sequence) {
  if (sequence->in_flight == 0) ReleaseBlocks(sequence);
}

void Scheduler::Impl::ChargeStep(const std::vector<InFlight>& entries, const StepResult& result) {
  Seconds sum;
  for (const InFlight& entry : entries) sum += entry.price;
  const absl::Duration busy = BusyTime(result);
  for (const InFlight& entry : entries) {
    const absl::Duration share = busy * (entry.price / sum);
    entry.sequence->stats.device_share += share;
  }
}

void Scheduler::Impl::ObserveStep(const std::vector<InFlight>& entries, const StepResult& result) {
  parts_.clear();
  for (const InFlight& entry : entries) {
    parts_.push_back({entry.first, entry.count, entry.in_place});
  }
  calibration_.ObserveStep(parts_, ToSeconds(BusyTime(result)));
  const bool decodes = std::any_of(entries.begin(), entries.end(),
                                   [](const InFlight& e) { return e.count == Tokens(1); });
  if (decodes) mean_step_ += (ToSeconds(result.finished - result.started) - mean_step_) / 64;
}

void Scheduler::Impl::ObserveCopy(const CopyUnderWay& copy, const CopyResult& result) {
  CopyObservation seen;
  seen.direction = copy.direction;
  seen.bytes = copy.bytes;
  seen.runs = copy.runs;
  seen.measured = ToSeconds(result.finished - result.started);
  const bool load = copy.direction == LinkDirection::kHostToDevice;
  const bool host_link = load || copy.direction == LinkDirection::kDeviceToHost;
  seen.other_direction_busy = host_link && link_clock_.Busy(load ? LinkDirection::kDeviceToHost
                                                                 : LinkDirection::kHostToDevice);
  calibration_.ObserveCopy(seen);
}

void Scheduler::Impl::WatchDisk(LinkDirection direction, const CopyResult& result) {
  const bool reads = direction == LinkDirection::kDiskToHost;
  if (!reads && direction != LinkDirection::kHostToDisk) return;
  disk_corrupt_ += Blocks(result.corrupt);
  if (absl::IsCancelled(result.status)) return;
  // Blocks that are damaged, that its codec refuses, or that others have removed say nothing
  // against the disk.
  const bool failed = !result.status.ok() && !absl::IsDataLoss(result.status) &&
                      !absl::IsOutOfRange(result.status) && !absl::IsNotFound(result.status);
  (reads ? disk_reads_ : disk_writes_).OnCopy(failed, now());
}

void Scheduler::Impl::CommitSequence(InFlight* entry, const SequenceResult& result,
                                     const StepResult& step, absl::Time now) {
  Sequence* sequence = entry->sequence;
  if (sequence->state == Sequence::State::kEnded) return ReleaseEnded(sequence);
  sequence->stats.load_exposed += result.load_stall;
  sequence->stats.compute += BusyTime(step);
  if (sequence->load_failed) {
    Requeue(sequence);
    return;
  }
  SettleLoads(sequence);
  if (result.status.ok()) {
    CommitTokens(*entry, result, now);
  } else if (entry->had_loads) {
    // One of its loads has failed or is about to; OnCopyDone() settles it.
    sequence->joinable = sequence->lease.loads.empty();
  } else {
    End(sequence, FinishReason::kError, result.status, now);
  }
}

void Scheduler::Impl::CommitTokens(const InFlight& entry, const SequenceResult& result,
                                   absl::Time now) {
  Sequence* sequence = entry.sequence;
  SLUICE_CHECK(result.sampled.has_value() == entry.sample);
  const Tokens end = entry.end();
  const Tokens again = std::max(Tokens(0), std::min(end, sequence->ever_computed) - entry.first);
  sequence->stats.recomputed += again;
  tokens_recomputed_ += again;
  const bool gap = sequence->in_gap();
  sequence->computed = end;
  sequence->ever_computed = std::max(sequence->ever_computed, end);
  Publish(sequence);
  if (gap && !sequence->in_gap()) {
    sequence->computed = sequence->resume_at;
    sequence->ever_computed = std::max(sequence->ever_computed, sequence->computed);
  }
  if (entry.sample) AppendToken(sequence, *result.sampled, now);
}

void Scheduler::Impl::AppendToken(Sequence* sequence, const SampledToken& token, absl::Time now) {
  sequence->tokens.push_back(token.token);
  sequence->stats.output += Tokens(1);
  output_tokens_ += Tokens(1);
  if (sequence->stats.output == Tokens(1)) sequence->stats.first_token = now;
  const std::vector<TokenId>& stop_ids = sequence->spec.sampling->stop_ids;
  if (std::find(stop_ids.begin(), stop_ids.end(), token.token) != stop_ids.end()) {
    End(sequence, FinishReason::kStop, absl::OkStatus(), now, token);
  } else if (sequence->stats.output == sequence->spec.max_new) {
    End(sequence, FinishReason::kLength, absl::OkStatus(), now, token);
  } else {
    Event& event = events_.emplace_back();
    event.request = sequence->spec.id;
    event.token = token;
    event.cached = sequence->stats.prompt - sequence->stats.computed;
  }
}

void Scheduler::Impl::Publish(Sequence* sequence) {
  if (sequence->computed < sequence->resume_at) {
    kv_.PublishGap(options_.geometry.FullBlocks(sequence->computed), &sequence->lease);
    return;
  }
  // Blocks computed from a load that may yet turn out bad are not shown to others.
  if (!sequence->lease.loads.empty()) return;
  const Blocks full = options_.geometry.FullBlocks(sequence->computed);
  const KvLease& lease = sequence->lease;
  if (full <= lease.published && lease.gap_published >= lease.gap_end) return;
  ExtendHashes(sequence, full);
  kv_.Publish(sequence->path(), full, &sequence->lease);
}

void Scheduler::Impl::SettleLoads(Sequence* sequence) {
  KvLease& lease = sequence->lease;
  if (lease.loads.empty()) return;
  const auto ended = [this](CopyId id) { return !kv_.InFlight(id); };
  std::erase_if(lease.loads, ended);
  std::erase_if(lease.gap_loads, ended);
  if (!lease.loads.empty()) return;
  sequence->joinable = true;
  Publish(sequence);
}

void Scheduler::Impl::CountOwnLoad(const CopyResult& result, Sequence* sequence) {
  if (sequence->own_load != result.id) return;
  RequestStats& stats = sequence->stats;
  stats.loaded += result.bytes - sequence->own_load_bytes;
  stats.load_busy += result.finished - result.started;
  stats.load_queued += std::max(absl::ZeroDuration(), result.started - sequence->own_load_issued);
  sequence->own_load = CopyId();
}

void Scheduler::Impl::OnCopyDone(const CopyResult& result, absl::Time now) {
  AdvanceClock(now);
  const std::optional<CopyUnderWay> copy = link_clock_.OnEnded(result.id, this->now());
  if (copy.has_value() && result.status.ok()) {
    ObserveCopy(*copy, result);
    AccountStore(*copy, result);
  }
  const KvCache::CopyEnd end = kv_.OnCopyDone(result.id, OutcomeOf(result.status), result.failed);
  WatchDisk(end.direction, result);
  if (end.direction != LinkDirection::kHostToDevice) return;
  std::vector<Sequence*> affected;
  for (Sequence* sequence : running_) {
    const std::vector<CopyId>& loads = sequence->lease.loads;
    if (std::find(loads.begin(), loads.end(), result.id) == loads.end()) continue;
    CountOwnLoad(result, sequence);
    affected.push_back(sequence);
  }
  for (Sequence* sequence : affected) {
    if (sequence->in_flight > 0) {
      // The step reads the list of loads and the blocks; CommitStep() does the rest.
      sequence->load_failed |= !end.ok;
    } else if (end.ok) {
      SettleLoads(sequence);
    } else {
      Requeue(sequence);
    }
  }
}

}  // namespace sluice
