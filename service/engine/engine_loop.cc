#include "service/engine/engine_loop.h"

#include <algorithm>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "scheduler/base/status_macros.h"

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
  absl::Status room = CheckInboxLocked(inbox_.submissions.size(), "requests");
  if (!room.ok()) {
    if (metrics_ != nullptr) metrics_->OnRefused();
    return room;
  }
  inbox_.submissions.push_back({std::move(spec), std::move(sink)});
  work_.notify_one();
  return absl::OkStatus();
}

absl::Status EngineLoop::Explain(RequestSpec spec, std::function<void(Explanation)> answer) {
  std::lock_guard<std::mutex> lock(mu_);
  SLUICE_RETURN_IF_ERROR(CheckInboxLocked(inbox_.questions.size(), "questions"));
  inbox_.questions.push_back({std::move(spec), std::move(answer)});
  work_.notify_one();
  return absl::OkStatus();
}

absl::Status EngineLoop::CheckInboxLocked(size_t waiting, const char* what) const {
  if (draining_) return absl::UnavailableError("the server is draining; try another one");
  if (static_cast<int64_t>(waiting) < options_.inbox_limit) return absl::OkStatus();
  return absl::ResourceExhaustedError(absl::StrCat("inbox is full: ", waiting, " ", what,
                                                   " arrived since the last step (limit ",
                                                   options_.inbox_limit, "); retry later"));
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
  if (!plan.sequences.empty()) {
    Deliver();  // predictions and ends need not wait for the step
    RunStep(plan);
  }
  if (!Deliver()) Publish();
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
  for (Submission& submission : inbox.submissions) AdmitOne(std::move(submission), now);
  for (const RequestId id : inbox.cancels) scheduler_.Cancel(id, now);
  for (Question& question : inbox.questions) {
    question.answer(scheduler_.Explain(std::move(question.spec), now));
  }
}

void EngineLoop::AdmitOne(Submission submission, absl::Time now) {
  RequestObserver* const observer = options_.observer;
  const RequestId id = submission.spec.id;
  Client client;
  client.arrival = now;
  if (observer != nullptr) client.ticket = observer->OnArrival(submission.spec, now);
  absl::Status queued = scheduler_.Submit(std::move(submission.spec), now);
  if (queued.ok()) {
    client.sink = std::move(submission.sink);
    clients_[id] = std::move(client);
    return;
  }
  if (metrics_ != nullptr) metrics_->OnRefused();
  if (observer != nullptr) observer->OnEnd(client.ticket, Tokens(0));
  submission.sink->Push(FinishEvent(id, FinishReason::kError, std::move(queued)));
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

bool EngineLoop::Deliver() {
  bool any = false;
  // Delivering may cancel a request, which makes further events.
  for (std::vector<Event> events = scheduler_.TakeEvents(); !events.empty();
       events = scheduler_.TakeEvents()) {
    // First the numbers, then the tokens: a client that asks for the load after an answer sees it.
    if (!std::exchange(any, true)) Publish();
    for (Event& event : events) DeliverOne(std::move(event));
  }
  return any;
}

void EngineLoop::DeliverOne(Event event) {
  const auto it = clients_.find(event.request);
  if (it == clients_.end()) return;
  Client& client = it->second;
  if (event.token.has_value()) NoteToken(client);
  const bool last = event.finish.has_value();
  if (last) {
    NoteFinish(client, *event.finish);
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
  client.output += Tokens(1);
  if (metrics_ == nullptr) return;
  const absl::Time now = clock_();
  if (client.last_token == absl::InfinitePast()) {
    metrics_->OnFirstToken(now - client.arrival);
  } else {
    metrics_->OnInterToken(now - client.last_token);
  }
  client.last_token = now;
}

void EngineLoop::NoteFinish(const Client& client, const Event::Finish& finish) {
  if (options_.observer != nullptr) options_.observer->OnEnd(client.ticket, client.output);
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
  const absl::Status stopped = absl::UnavailableError("the server is shutting down");
  Inbox inbox = TakeInbox();
  for (Question& question : std::exchange(inbox.questions, {})) {
    Explanation none;
    none.status = stopped;
    question.answer(std::move(none));
  }
  Admit(std::move(inbox));
  for (auto& [id, client] : clients_) {
    if (options_.observer != nullptr) options_.observer->OnEnd(client.ticket, client.output);
    client.sink->Push(FinishEvent(id, FinishReason::kCancelled, stopped));
  }
  clients_.clear();
}

}  // namespace sluice
