// What the ring does for those who ask of the cache, and looks for in stores that others share:
// warm-ups, evictions, snapshots of KV blocks, and blocks of prompts that arrive.
#include <algorithm>
#include <utility>

#include "scheduler/base/status_macros.h"
#include "service/engine/engine_loop.h"

namespace sluice {
namespace {

constexpr absl::Duration kSnapshotAge = absl::Seconds(1);

}  // namespace

void EngineLoop::Control(Inbox& inbox, absl::Time now) {
  for (auto& [spec, answer] : inbox.evictions) {
    EvictResult result = scheduler_.Evict(spec, now);
    if (!result.disk_slots.empty()) backend_.ForgetDiskBlocks(result.disk_slots);
    answer(std::move(result));
  }
  for (const FoundForWarm& found : inbox.found_for_warms) TakeFoundForWarm(found, now);
  for (auto& [spec, answer] : inbox.warms) {
    spec.id = next_warm_;
    next_warm_ = WarmId(next_warm_.value() + 1);
    if (!LookForWarm(spec, answer)) StartWarm(std::move(spec), std::move(answer), now);
  }
}

bool EngineLoop::LookForWarm(WarmSpec& spec, WarmAnswer& answer) {
  if (options_.finder == nullptr) return false;
  RequestSpec request;
  request.prompt = spec.tokens;
  request.prompt.push_back(0);  // of a request, the block with the last token is not looked for
  request.cache_salt = spec.cache_salt;
  PromptBlocks prompt = scheduler_.FindMissing(request);
  const std::span<const BlockIdentity> missing = prompt.missing();
  if (missing.empty()) return false;
  const WarmId id = spec.id;
  const bool asked =
      options_.finder->Find({missing.begin(), missing.end()}, [this, id](size_t blocks) {
        std::lock_guard<std::mutex> lock(mu_);
        inbox_.found_for_warms.push_back({id, blocks});
        work_.notify_one();
      });
  if (asked) {
    looking_warms_[id] = {std::move(spec), std::move(answer), std::move(request),
                          std::move(prompt)};
  }
  return asked;
}

void EngineLoop::TakeFoundForWarm(const FoundForWarm& found, absl::Time now) {
  const auto it = looking_warms_.find(found.warm);
  if (it == looking_warms_.end()) return;
  LookingWarm looking = std::move(it->second);
  looking_warms_.erase(it);
  if (found.blocks > 0) {
    options_.finder->Bind(scheduler_.AdoptFound(looking.request, looking.prompt, found.blocks));
  }
  StartWarm(std::move(looking.spec), std::move(looking.answer), now);
}

void EngineLoop::StartWarm(WarmSpec spec, WarmAnswer answer, absl::Time now) {
  const WarmId id = spec.id;
  if (absl::Status queued = scheduler_.Warm(std::move(spec), now); !queued.ok()) {
    answer(std::move(queued));
    return;
  }
  warms_.emplace(id, std::move(answer));
}

void EngineLoop::AnswerWarms() {
  if (warms_.empty()) return;
  for (const WarmResult& result : scheduler_.TakeWarmResults()) {
    const auto it = warms_.find(result.id);
    if (it == warms_.end()) continue;
    it->second(result);
    warms_.erase(it);
  }
}

bool EngineLoop::LookFor(Submission& submission, absl::Time now) {
  if (options_.finder == nullptr) return false;
  const RequestId id = submission.spec.id;
  if (looking_.contains(id)) return false;
  PromptBlocks prompt = scheduler_.FindMissing(submission.spec);
  const std::span<const BlockIdentity> missing = prompt.missing();
  if (missing.empty()) return false;
  const bool asked =
      options_.finder->Find({missing.begin(), missing.end()}, [this, id](size_t blocks) {
        std::lock_guard<std::mutex> lock(mu_);
        inbox_.found.push_back({id, blocks});
        work_.notify_one();
      });
  if (asked) looking_[id] = {std::move(submission), std::move(prompt), now};
  return asked;
}

void EngineLoop::TakeFound(const Found& found, absl::Time now) {
  const auto it = looking_.find(found.request);
  if (it == looking_.end()) return;
  Looking looking = std::move(it->second);
  looking_.erase(it);
  if (found.blocks > 0) {
    options_.finder->Bind(
        scheduler_.AdoptFound(looking.submission.spec, looking.prompt, found.blocks));
  }
  AdmitOne(std::move(looking.submission), looking.arrival, now);
}

// Admits it at once, with what is here.
void EngineLoop::StopLooking(RequestId id, absl::Time now) {
  if (looking_.contains(id)) TakeFound({id, 0}, now);
}

// A snapshot is work for the engine thread, so one serves all who ask within a second.
void EngineLoop::AnswerSnapshots(const std::vector<KvSnapshotAnswer>& answers, absl::Time now) {
  if (snapshot_ != nullptr && now - snapshot_->time > kSnapshotAge) snapshot_.reset();
  if (answers.empty()) return;
  if (snapshot_ == nullptr || !kv_events_->CheckResume(snapshot_->last_sequence()).ok()) {
    PublishKvEvents();
    snapshot_ = std::make_shared<const KvSnapshot>(
        kv_events_->MakeSnapshot(scheduler_.ListKvBlocks(), now));
  }
  for (const KvSnapshotAnswer& answer : answers) answer(snapshot_);
}

void EngineLoop::PublishKvEvents() {
  if (kv_events_ == nullptr) return;
  const size_t count = kv_events_->Publish(scheduler_.TakeKvEvents(), clock_());
  if (metrics_ != nullptr) metrics_->OnKvEvents(count);
}

}  // namespace sluice
