#include "service/engine/engine_loop.h"

#include <algorithm>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"

namespace sluice {
namespace {

// Metrics and GetLoad are at most this old on an idle server.
constexpr absl::Duration kIdleRefresh = absl::Milliseconds(250);

constexpr absl::Duration kMinRetryAfter = absl::Milliseconds(50);
constexpr absl::Duration kMaxRetryAfter = absl::Seconds(60);

Event FinishEvent(RequestId id, FinishReason reason, absl::Status status) {
  Event event;
  event.request = id;
  event.finish.emplace();
  event.finish->reason = reason;
  event.finish->status = std::move(status);
  return event;
}

}  // namespace

EngineLoop::EngineLoop(Scheduler& scheduler, Backend& backend, Metrics* metrics, Clock clock,
                       const EngineOptions& options)
    : scheduler_(scheduler),
      backend_(backend),
      metrics_(metrics),
      clock_(std::move(clock)),
      options_(options) {
  backend_.SetCopyListener([this] {
    std::lock_guard<std::mutex> lock(mu_);
    copies_done_ = true;
    work_.notify_one();
  });
  Publish();
}

absl::Status EngineLoop::Submit(RequestSpec spec, std::shared_ptr<EventSink> sink) {
  std::lock_guard<std::mutex> lock(mu_);
  if (draining_) {
    if (metrics_ != nullptr) metrics_->OnRefused();
    return absl::UnavailableError("the server is draining; try another one");
  }
  if (static_cast<int64_t>(inbox_.submissions.size()) >= options_.inbox_limit) {
    if (metrics_ != nullptr) metrics_->OnRefused();
    return absl::ResourceExhaustedError(absl::StrCat(
        "inbox is full: ", inbox_.submissions.size(),
        " requests arrived since the last step (limit ", options_.inbox_limit, "); retry later"));
  }
  inbox_.submissions.push_back({std::move(spec), std::move(sink)});
  work_.notify_one();
  return absl::OkStatus();
}

void EngineLoop::Cancel(RequestId id) {
  std::lock_guard<std::mutex> lock(mu_);
  inbox_.cancels.push_back(id);
  work_.notify_one();
}

void EngineLoop::StartDrain() {
  std::lock_guard<std::mutex> lock(mu_);
  draining_ = true;
  work_.notify_one();
}

EngineLoad EngineLoop::load() const {
  std::lock_guard<std::mutex> lock(mu_);
  EngineLoad load = load_;
  load.draining = draining_;
  return load;
}

void EngineLoop::Wake() {
  std::lock_guard<std::mutex> lock(mu_);
  woken_ = true;
  work_.notify_one();
}

bool EngineLoop::RunOnce() {
  Admit(TakeInbox());
  ApplyFinishedCopies();
  const StepPlan plan = scheduler_.PlanStep(clock_());
  StartCopies(plan);
  if (!plan.sequences.empty()) RunStep(plan);
  // First the numbers, then the tokens: a client that asks for the load after an answer sees it.
  Publish();
  Deliver();
  return !plan.sequences.empty() || !plan.copies.empty();
}

void EngineLoop::WaitForWork() {
  const absl::Time wakeup = scheduler_.NextWakeup();
  const absl::Duration wait = std::clamp(wakeup - clock_(), absl::ZeroDuration(), kIdleRefresh);
  std::unique_lock<std::mutex> lock(mu_);
  work_.wait_for(lock, absl::ToChronoNanoseconds(wait),
                 [this] { return !inbox_.empty() || copies_done_ || woken_; });
  woken_ = false;
}

bool EngineLoop::idle() const {
  std::lock_guard<std::mutex> lock(mu_);
  return clients_.empty() && inbox_.empty();
}

EngineLoop::Inbox EngineLoop::TakeInbox() {
  std::lock_guard<std::mutex> lock(mu_);
  return std::exchange(inbox_, {});
}

void EngineLoop::Admit(Inbox inbox) {
  const absl::Time now = clock_();
  for (Submission& s : inbox.submissions) {
    const RequestId id = s.spec.id;
    if (absl::Status queued = scheduler_.Submit(std::move(s.spec), now); !queued.ok()) {
      if (metrics_ != nullptr) metrics_->OnRefused();
      s.sink->Push(FinishEvent(id, FinishReason::kError, std::move(queued)));
      continue;
    }
    clients_[id] = Client{std::move(s.sink), now};
  }
  for (const RequestId id : inbox.cancels) scheduler_.Cancel(id, now);
}

void EngineLoop::ApplyFinishedCopies() {
  {
    std::lock_guard<std::mutex> lock(mu_);
    copies_done_ = false;
  }
  for (const CopyResult& result : backend_.TakeFinishedCopies()) {
    const auto it = copies_.find(result.id);
    if (it == copies_.end()) continue;
    if (metrics_ != nullptr) {
      metrics_->OnCopy(it->second.direction, result, result.started - it->second.queued);
    }
    copies_.erase(it);
    scheduler_.OnCopyDone(result, clock_());
  }
}

void EngineLoop::StartCopies(const StepPlan& plan) {
  if (!plan.revoked.empty()) backend_.RevokeCopies(plan.revoked);
  if (plan.copies.empty()) return;
  const absl::Time now = clock_();
  for (const Copy& copy : plan.copies) copies_[copy.id] = {copy.direction, now};
  backend_.StartCopies(plan.copies);
}

void EngineLoop::RunStep(const StepPlan& plan) {
  const StepResult result = backend_.Run(plan);
  if (metrics_ != nullptr) metrics_->OnStep(plan, result);
  // Loads that ended during the step first: what was computed from them can then be shared at once.
  ApplyFinishedCopies();
  scheduler_.CommitStep(result, clock_());
}

void EngineLoop::Deliver() {
  // Delivering may cancel a request, which makes further events.
  for (std::vector<Event> events = scheduler_.TakeEvents(); !events.empty();
       events = scheduler_.TakeEvents()) {
    for (Event& event : events) DeliverOne(std::move(event));
  }
}

void EngineLoop::DeliverOne(Event event) {
  const auto it = clients_.find(event.request);
  if (it == clients_.end()) return;
  Client& client = it->second;
  if (event.token.has_value()) NoteToken(client);
  const bool last = event.finish.has_value();
  if (last) {
    NoteFinish(*event.finish);
    if (client.overflowed) {
      const int64_t limit = client.sink->capacity().value();
      event.finish->status = absl::CancelledError(absl::StrCat("client read too slowly: ", limit,
                                                               " tokens unread (limit ", limit,
                                                               "); read faster or ask for fewer"));
    }
  }
  const RequestId id = event.request;
  if (client.overflowed && !last) return;
  if (!client.sink->Push(std::move(event))) {
    client.overflowed = true;
    scheduler_.Cancel(id, clock_());
  }
  if (last) clients_.erase(it);
}

void EngineLoop::NoteToken(Client& client) {
  if (metrics_ == nullptr) return;
  const absl::Time now = clock_();
  if (client.last_token == absl::InfinitePast()) {
    metrics_->OnFirstToken(now - client.arrival);
  } else {
    metrics_->OnInterToken(now - client.last_token);
  }
  client.last_token = now;
}

void EngineLoop::NoteFinish(const Event::Finish& finish) {
  if (metrics_ != nullptr) metrics_->OnFinish(finish);
  const absl::Time now = clock_();
  if (last_finish_ != absl::InfinitePast()) {
    const absl::Duration interval = std::min(now - last_finish_, kMaxRetryAfter);
    finish_interval_ += (interval - finish_interval_) / 8;
  }
  last_finish_ = now;
}

void EngineLoop::Publish() {
  const absl::Time now = clock_();
  if (now - published_ < options_.publish_interval) return;
  published_ = now;
  EngineLoad load;
  load.scheduler = scheduler_.stats();
  load.activity = backend_.activity();
  load.retry_after = std::clamp(finish_interval_ * static_cast<double>(load.scheduler.waiting + 1),
                                kMinRetryAfter, kMaxRetryAfter);
  if (metrics_ != nullptr) metrics_->Observe(load.scheduler, load.activity);
  std::lock_guard<std::mutex> lock(mu_);
  load_ = std::move(load);
}

void EngineLoop::Abandon() {
  Admit(TakeInbox());
  for (auto& [id, client] : clients_) {
    client.sink->Push(FinishEvent(id, FinishReason::kCancelled,
                                  absl::UnavailableError("the server is shutting down")));
  }
  clients_.clear();
}

}  // namespace sluice
