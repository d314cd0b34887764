// What must hold of plans, after every call, and at the end.
#include <algorithm>
#include <set>

#include "absl/strings/str_cat.h"
#include "tests/property/scheduler_world.h"

namespace sluice::testing {

// ---- Plans -----------------------------------------------------------------------------------

void SchedulerWorld::CheckNotIdle(const StepPlan& plan) {
  if (!plan.sequences.empty()) return;
  const SchedulerStats stats = scheduler_.stats();
  if (stats.running > stats.loading) Fail("an idle step although a request could run");
  // After a failed part of a step, a sequence waits for the loads it joined.
  if (stats.running > 0 && options_.sequence_failures == 0 &&
      std::none_of(copies_.begin(), copies_.end(), [](const auto& c) { return c.fails; })) {
    Fail("an idle step although a request could join its load");
  }
  if (stats.waiting + stats.running > 0 && copies_.empty()) {
    Fail("an idle step although nothing holds the waiting back");
  }
  const bool staging = std::any_of(copies_.begin(), copies_.end(), [](const CopyUnderWay& c) {
    return c.copy.direction == LinkDirection::kDiskToHost;
  });
  // Blocks that are pinned while they move count as referenced.
  const bool pinned_move = stats.device.pinned > Blocks(0) &&
                           std::any_of(copies_.begin(), copies_.end(), [](const CopyUnderWay& c) {
                             return c.copy.direction == LinkDirection::kHostToDevice ||
                                    c.copy.direction == LinkDirection::kDeviceToHost;
                           });
  if (stats.running == 0 && stats.waiting > 0 && stats.device.in_transit == Blocks(0) && !staging &&
      !pinned_move) {
    Fail("nothing runs and nothing moves, but the head waits");
  }
}

void SchedulerWorld::CheckWork(const SequenceWork& work) {
  const auto it = requests_.find(work.request);
  if (it == requests_.end() || it->second.ended) return Fail("the step runs a request that ended");
  const Request& request = it->second;
  const size_t end = (work.first + work.count).size();
  if (work.count <= Tokens(0)) return Fail("empty work");
  const bool unknown = work.previous_row >= 0;
  const size_t known = request.tokens.size() + (unknown ? 1 : 0);
  if (work.tokens.size() + (unknown ? 1 : 0) < end || work.blocks.size() * width_ < end) {
    return Fail("too few tokens or blocks for the work");
  }
  if (!std::equal(work.tokens.begin(), work.tokens.end(), request.tokens.begin(),
                  request.tokens.end())) {
    return Fail("the step has other tokens than the request");
  }
  if (work.sample != (end == known) || work.sample != (work.sampling != nullptr)) {
    return Fail("a draw is missing or too early");
  }
  if (unknown) CheckUnknownToken(work);
  const int64_t outputs = static_cast<int64_t>(known - request.prompt);
  if (work.output_index != outputs || work.prompt.size() != request.prompt) {
    return Fail("wrong output index or prompt length");
  }
  CheckPlaces(work);
  if (!failure_.empty()) return;
  CheckReads(request, work);
  Note(static_cast<uint64_t>(work.request.value()));
  Note(static_cast<uint64_t>(work.first.value() * 1000 + work.count.value()));
  for (const BlockId block : work.blocks) Note(static_cast<uint64_t>(block.value()));
}

void SchedulerWorld::CheckUnknownToken(const SequenceWork& work) {
  if (steps_.empty()) return Fail("a token of no step");
  const std::vector<SequenceWork>& before = steps_.back().plan.sequences;
  const auto row = static_cast<size_t>(work.previous_row);
  if (row >= before.size() || before[row].request != work.request || !before[row].sample) {
    return Fail("a token that nobody draws");
  }
  const Request& request = requests_.at(work.request);
  if (work.count != Tokens(1) || before[row].first + before[row].count != work.first) {
    Fail("the token drawn is not the next one");
  }
  if (before[row].output_index + 1 != work.output_index || work.output_index >= request.max_new) {
    Fail("a draw behind the last one");
  }
}

bool SchedulerWorld::WrittenBefore(const SequenceWork& work, size_t token) const {
  for (const Step& step : steps_) {
    for (const SequenceWork& w : step.plan.sequences) {
      if (w.request != work.request) continue;
      return token >= w.first.size() && token < (w.first + w.count).size() &&
             w.blocks[token / width_] == work.blocks[token / width_];
    }
  }
  return false;
}

void SchedulerWorld::CheckUntouched(BlockId block, RequestId writer) {
  for (const Step& step : steps_) {
    for (const SequenceWork& w : step.plan.sequences) {
      const bool uses = std::find(w.blocks.begin(), w.blocks.end(), block) != w.blocks.end();
      if (uses && w.request != writer) {
        Fail(absl::StrCat("block ", block.value(), " is written while a step uses it"));
      }
    }
  }
}

// Every block is on the device or, if it lies before the work, on the host; and only once.
void SchedulerWorld::CheckPlaces(const SequenceWork& work) {
  std::set<BlockId> on_device;
  std::set<BlockId> on_host;
  if (work.host_blocks.size() > work.blocks.size()) return Fail("too many host blocks");
  for (size_t i = 0; i < work.blocks.size(); ++i) {
    const bool in_place = i < work.host_blocks.size() && work.host_blocks[i].valid();
    if (work.blocks[i].valid() == in_place) return Fail("a block is on both tiers or on none");
    const bool added = in_place ? on_host.insert(work.host_blocks[i]).second
                                : on_device.insert(work.blocks[i]).second;
    if (!added) return Fail("a block is twice in a sequence");
    if (in_place && (i + 1) * width_ > work.first.size()) {
      return Fail("a block that is not complete yet is attended to in place");
    }
  }
  if (!on_host.empty() && !options_.scheduler.attend_in_place) {
    Fail("the backend cannot attend in place");
  }
  for (const CopyId load : work.loads) {
    const CopyUnderWay* copy = FindCopy(load);
    if (copy != nullptr && copy->revoked) Fail("a step joins a revoked load");
  }
}

uint64_t SchedulerWorld::ContentFor(const SequenceWork& work, BlockId block, size_t slot) {
  for (const CopyUnderWay& c : copies_) {
    if (c.copy.direction != LinkDirection::kHostToDevice) continue;
    for (size_t i = 0; i < c.copy.blocks.size(); ++i) {
      if (c.copy.blocks[i].target != block) continue;
      if (std::find(work.loads.begin(), work.loads.end(), c.copy.id) == work.loads.end()) {
        Fail("a step reads a block being loaded without listing the load");
      }
      return c.sources[i][slot];
    }
  }
  return device_[block.index()][slot];
}

void SchedulerWorld::CheckReads(const Request& request, const SequenceWork& work) {
  for (size_t p = 0; p < work.first.size(); ++p) {
    if (WrittenBefore(work, p)) continue;
    const BlockId block = work.blocks[p / width_];
    const uint64_t content = block.valid()
                                 ? ContentFor(work, block, p % width_)
                                 : host_[work.host_blocks[p / width_].index()][p % width_];
    if (content != request.content[p]) {
      return Fail(absl::StrCat("request ", work.request.value(), " reads foreign KV at token ", p,
                               ", device block ", block.value()));
    }
  }
}

void SchedulerWorld::CheckWrites(const SequenceWork& work) {
  const size_t first_block = work.first.size() / width_;
  const size_t end_block = ((work.first + work.count).size() + width_ - 1) / width_;
  for (size_t i = first_block; i < end_block; ++i) {
    const BlockId block = work.blocks[i];
    CheckUntouched(block, work.request);
    for (const CopyUnderWay& c : copies_) {
      for (const Copy::Pair& pair : c.copy.blocks) {
        const bool target = c.copy.direction == LinkDirection::kHostToDevice;
        const bool source = c.copy.direction == LinkDirection::kDeviceToHost;
        if ((target && pair.target == block) || (source && pair.source == block)) {
          return Fail(absl::StrCat("a step writes device block ", block.value(), " during copy ",
                                   c.copy.id.value()));
        }
      }
    }
  }
}

// ---- After every call ------------------------------------------------------------------------

void SchedulerWorld::AfterCall() {
  if (!failure_.empty()) return;
  for (const Event& event : scheduler_.TakeEvents()) HearEvent(event);
  for (const WarmResult& result : scheduler_.TakeWarmResults()) HearWarm(result);
  if (const absl::Status status = scheduler_.CheckInvariants(); !status.ok()) {
    Fail(std::string(status.message()));
  }
  const SchedulerStats stats = scheduler_.stats();
  for (const TierStats& tier : {stats.device, stats.host, stats.disk}) {
    if (tier.free + tier.referenced + tier.cached + tier.in_transit != tier.capacity) {
      Fail("tier counts do not sum to the capacity");
    }
    if (tier.pinned > tier.referenced) Fail("pinned blocks are not counted as referenced");
  }
  if (stats.device.free + stats.device.cached < stats.reserved) Fail("over-reserved");
  if (stats.waiting > options_.scheduler.queue_limit + options_.scheduler.max_running) {
    Fail("the queue is longer than its limit allows");
  }
}

void SchedulerWorld::HearEvent(const Event& event) {
  const auto it = requests_.find(event.request);
  if (it == requests_.end()) return Fail("an event for an unknown request");
  Request& request = it->second;
  if (request.ended) return Fail("an event after the end");
  if (event.predicted_ttft.has_value()) {
    if (request.heard) return Fail("told twice, or too late, that it was queued");
    request.heard = true;
    return;
  }
  if (!request.heard) return Fail("an event before it was queued");
  if (!event.token.has_value() && !event.finish.has_value()) return Fail("an empty event");
  Note(static_cast<uint64_t>(event.request.value()) * 64);
  if (event.token.has_value()) {
    if (event.token->token != Draw(request, request.tokens_heard)) {
      return Fail("a token is missing, doubled or out of order");
    }
    ++request.tokens_heard;
    Append(&request, event.token->token);
    Note(static_cast<uint64_t>(event.token->token) + 8);
  }
  if (event.finish.has_value()) {
    request.ended = true;
    Note(static_cast<uint64_t>(event.finish->reason) + 16);
    CheckFinish(event, request);
  }
}

void SchedulerWorld::CheckFinish(const Event& event, const Request& request) {
  const Event::Finish& finish = *event.finish;
  const RequestStats& stats = finish.stats;
  const bool ok = finish.reason == FinishReason::kStop || finish.reason == FinishReason::kLength;
  if (finish.status.ok() != ok) return Fail("the status does not go with the reason");
  if (stats.output.value() != request.tokens_heard) return Fail("outputs are miscounted");
  if (finish.reason == FinishReason::kLength && request.tokens_heard != request.max_new) {
    return Fail("ended for length too early");
  }
  const TokenId last = request.tokens.back();
  const bool stop = std::count(request.stop_ids.begin(), request.stop_ids.end(), last) > 0;
  if (finish.reason == FinishReason::kStop && !(event.token.has_value() && stop)) {
    return Fail("ended for a stop token that was not drawn");
  }
  if (finish.reason == FinishReason::kCancelled && !request.cancelled) {
    return Fail("cancelled by nobody");
  }
  if (finish.reason == FinishReason::kDeadline && stats.admitted != absl::InfiniteFuture()) {
    return Fail("deadline passed after admission");
  }
  const bool failing =
      options_.sequence_failures + options_.step_failures > 0;  // load failures end nobody
  if (finish.reason == FinishReason::kError && !failing) return Fail("an error out of nowhere");
  if (stats.admitted == absl::InfiniteFuture()) return;
  Tokens sum = stats.computed;
  for (const Tokens& cached : stats.cached) sum += cached;
  if (sum != stats.prompt) Fail("sources of the prompt do not sum to it");
}

// ---- The end ----------------------------------------------------------------------------------

void SchedulerWorld::CheckDrained() {
  const SchedulerStats stats = scheduler_.stats();
  for (const TierStats& tier : {stats.device, stats.host, stats.disk}) {
    if (tier.referenced != Blocks(0) || tier.in_transit != Blocks(0)) {
      Fail("blocks are still in use after the last request");
    }
  }
  if (stats.reserved != Blocks(0) || stats.waiting != 0 || stats.running != 0) {
    Fail("something is left after the last request");
  }
  if (!warms_.empty()) Fail("a warm-up never ended");
  int64_t finished = 0;
  for (const int64_t n : stats.finished) finished += n;
  if (finished != static_cast<int64_t>(requests_.size())) Fail("ends are miscounted");
  for (const auto& [id, request] : requests_) {
    if (!request.ended) Fail(absl::StrCat("request ", id.value(), " never ended"));
  }
}

}  // namespace sluice::testing
