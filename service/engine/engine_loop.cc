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
      options_(options),
      kv_events_(options.kv_event_capacity > 0
                     ? std::make_unique<KvEventLog>(options.kv_event_capacity,
                                                    backend.info().geometry.tokens_per_block)
                     : nullptr) {
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

absl::Status EngineLoop::AskForKvBlocks(KvSnapshotAnswer answer) {
  std::lock_guard<std::mutex> lock(mu_);
  SLUICE_RETURN_IF_ERROR(CheckInboxLocked(inbox_.snapshots.size(), "questions"));
  inbox_.snapshots.push_back(std::move(answer));
  work_.notify_one();
  return absl::OkStatus();
}

absl::Status EngineLoop::Warm(WarmSpec spec, WarmAnswer answer) {
  std::lock_guard<std::mutex> lock(mu_);
  SLUICE_RETURN_IF_ERROR(CheckInboxLocked(inbox_.warms.size(), "warm-ups"));
  inbox_.warms.emplace_back(std::move(spec), std::move(answer));
  work_.notify_one();
  return absl::OkStatus();
}

absl::Status EngineLoop::Evict(EvictSpec spec, EvictAnswer answer) {
  std::lock_guard<std::mutex> lock(mu_);
  SLUICE_RETURN_IF_ERROR(CheckInboxLocked(inbox_.evictions.size(), "evictions"));
  inbox_.evictions.emplace_back(std::move(spec), std::move(answer));
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
  const bool worked = !steps_.empty() || PlanAndLaunch();
  if (!steps_.empty()) {
    LaunchAhead();
    Deliver();  // predictions and ends need not wait for the step
    FinishStep();
  }
  PublishKvEvents();  // before the tokens: whoever has an answer finds its blocks
  if (!Deliver()) Publish();
  return worked;
}

bool EngineLoop::PlanAndLaunch() {
  StepPlan plan = scheduler_.PlanStep(clock_());
  StartCopies(plan);
  AnswerWarms();
  const bool copies = !plan.copies.empty();
  if (plan.sequences.empty()) return copies;
  steps_.push_back(std::move(plan));
  backend_.Launch(steps_.back());
  return true;
}

void EngineLoop::LaunchAhead() {
  const int most = std::min(options_.max_steps_in_flight, backend_.info().max_steps_in_flight);
  if (most < 2 || steps_.size() > 1 || lost_) return;
  StepPlan plan = scheduler_.PlanAhead(clock_());
  if (plan.sequences.empty()) return;
  StartCopies(plan);
  steps_.push_back(std::move(plan));
  backend_.Launch(steps_.back());
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
  return clients_.empty() && looking_.empty() && looking_warms_.empty() && steps_.empty() &&
         inbox_.empty();
}

EngineLoop::Inbox EngineLoop::TakeInbox() {
  std::lock_guard<std::mutex> lock(mu_);
  return std::exchange(inbox_, {});
}

void EngineLoop::Admit(Inbox inbox) {
  const absl::Time now = clock_();
  for (const Found& found : inbox.found) TakeFound(found, now);
  for (Submission& submission : inbox.submissions) {
    if (!LookFor(submission, now)) AdmitOne(std::move(submission), now, now);
  }
  for (const RequestId id : inbox.cancels) {
    StopLooking(id, now);
    scheduler_.Cancel(id, now);
  }
  for (Question& question : inbox.questions) {
    question.answer(scheduler_.Explain(std::move(question.spec), now));
  }
  Control(inbox, now);
  AnswerSnapshots(inbox.snapshots, now);
}

void EngineLoop::AdmitOne(Submission submission, absl::Time arrival, absl::Time now) {
  RequestObserver* const observer = options_.observer;
  const RequestId id = submission.spec.id;
  Client client;
  client.arrival = arrival;
  if (metrics_ != nullptr) client.tenant = metrics_->OnArrival(submission.spec.tenant);
  if (options_.tracer != nullptr) options_.tracer->OnArrival(submission.spec, now);
  if (observer != nullptr) client.ticket = observer->OnArrival(submission.spec, now);
  absl::Status queued = scheduler_.Submit(std::move(submission.spec), now);
  if (queued.ok()) {
    client.sink = std::move(submission.sink);
    clients_[id] = std::move(client);
    return;
  }
  if (metrics_ != nullptr) metrics_->OnRefused(client.tenant);
  if (observer != nullptr) observer->OnEnd(client.ticket, Tokens(0));
  Event end = FinishEvent(id, FinishReason::kError, std::move(queued));
  end.finish->stats.arrival = end.finish->stats.finished = now;
  end.finish->stats.admitted = end.finish->stats.first_token = absl::InfiniteFuture();
  if (options_.tracer != nullptr) options_.tracer->OnFinish(id, *end.finish, now);
  submission.sink->Push(std::move(end));
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
    if (options_.tracer != nullptr) options_.tracer->OnCopyDone(result);
    copies_.erase(it);
    scheduler_.OnCopyDone(result, clock_());
  }
}

void EngineLoop::StartCopies(const StepPlan& plan) {
  if (!plan.revoked.empty()) backend_.RevokeCopies(plan.revoked);
  if (plan.copies.empty()) return;
  const absl::Time now = clock_();
  for (const Copy& copy : plan.copies) copies_[copy.id] = {copy.direction, now};
  NoteCopies(plan, now);
  backend_.StartCopies(plan.copies);
}

void EngineLoop::FinishStep() {
  const StepResult result = backend_.Wait();
  const StepPlan plan = std::move(steps_.front());
  steps_.pop_front();
  NoteStep(plan, result);
  // Loads that ended during the step first: what was computed from them can then be shared at once.
  ApplyFinishedCopies();
  scheduler_.CommitStep(result, clock_());
  if (absl::IsUnavailable(result.status)) NoteLoss(result.status);
}

void EngineLoop::NoteLoss(const absl::Status& status) {
  if (lost_) return;
  lost_ = true;
  StartDrain();
  if (options_.on_lost) options_.on_lost(status);
}

void EngineLoop::NoteCopies(const StepPlan& plan, absl::Time now) {
  if (options_.tracer != nullptr) options_.tracer->OnCopiesStarted(plan.copies, now);
  if (metrics_ == nullptr) return;
  for (const Copy& copy : plan.copies) metrics_->OnCopiesStarted(copy.direction, 1);
}

void EngineLoop::NoteStep(const StepPlan& plan, const StepResult& result) {
  if (options_.tracer != nullptr) options_.tracer->OnStep(plan, result);
  if (metrics_ == nullptr) return;
  metrics_->OnStep(plan, result);
  int64_t tokens = 0;
  for (const SequenceWork& work : plan.sequences) tokens += work.count.value();
  const absl::Duration compute = result.finished - result.started - result.load_stall;
  for (const SequenceWork& work : plan.sequences) {
    if (work.first >= work.prompt) continue;
    const auto it = clients_.find(work.request);
    if (it == clients_.end()) continue;
    RequestTimes& times = it->second.times;
    if (times.first_step == absl::InfinitePast()) times.first_step = result.started;
    times.prefill += compute * (AsDouble(work.count) / static_cast<double>(tokens));
  }
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
  if (event.token.has_value()) NoteToken(event.request, client);
  const bool last = event.finish.has_value();
  if (last) {
    NoteFinish(event.request, client, *event.finish);
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

void EngineLoop::NoteToken(RequestId id, Client& client) {
  client.output += Tokens(1);
  if (metrics_ == nullptr && options_.tracer == nullptr) return;
  const absl::Time now = clock_();
  const bool first = client.last_token == absl::InfinitePast();
  if (first && options_.tracer != nullptr) options_.tracer->OnFirstToken(id, now);
  if (metrics_ != nullptr) {
    if (first) {
      metrics_->OnFirstToken(client.tenant, now - client.arrival, now);
    } else {
      metrics_->OnInterToken(now - client.last_token, now);
    }
  }
  client.last_token = now;
}

void EngineLoop::NoteFinish(RequestId id, const Client& client, const Event::Finish& finish) {
  if (options_.tracer != nullptr) options_.tracer->OnFinish(id, finish, clock_());
  if (options_.observer != nullptr) options_.observer->OnEnd(client.ticket, client.output);
  if (metrics_ != nullptr) metrics_->OnFinish(client.tenant, finish, client.times);
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
  while (!steps_.empty()) FinishStep();  // they use the scheduler's memory
  const absl::Status stopped = absl::UnavailableError("the server is shutting down");
  Inbox inbox = TakeInbox();
  for (Question& question : std::exchange(inbox.questions, {})) {
    Explanation none;
    none.status = stopped;
    question.answer(std::move(none));
  }
  for (const auto& answer : std::exchange(inbox.snapshots, {})) answer(stopped);
  for (const auto& [spec, answer] : std::exchange(inbox.evictions, {})) answer(stopped);
  for (const auto& [spec, answer] : std::exchange(inbox.warms, {})) answer(stopped);
  for (const auto& [id, answer] : std::exchange(warms_, {})) answer(stopped);
  for (const auto& [id, looking] : std::exchange(looking_warms_, {})) looking.answer(stopped);
  for (auto& [id, looking] : std::exchange(looking_, {})) {
    AdmitOne(std::move(looking.submission), looking.arrival, clock_());
  }
  for (Submission& submission : std::exchange(inbox.submissions, {})) {
    AdmitOne(std::move(submission), clock_(), clock_());
  }
  Admit(std::move(inbox));
  for (auto& [id, client] : clients_) {
    if (options_.observer != nullptr) options_.observer->OnEnd(client.ticket, client.output);
    client.sink->Push(FinishEvent(id, FinishReason::kCancelled, stopped));
  }
  clients_.clear();
}

}  // namespace sluice
