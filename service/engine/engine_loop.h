// EngineLoop is the only code that knows both the scheduler and a backend. One turn of the ring:
//
//   inbox -> Submit/Cancel/OnCopyDone -> PlanStep -> StartCopies -> Launch, Wait -> CommitStep
//         -> streams
//
// Where the backend takes two steps at a time, a turn launches the next one (PlanAhead) before it
// waits for the oldest: the device goes on while tokens are delivered and requests come in.
//
// Data goes round in one direction. The backend never calls the scheduler, the scheduler calls
// neither, and no RPC thread touches any of the three: they talk through the bounded inbox.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "backend/backend.h"
#include "scheduler/scheduler.h"
#include "service/engine/block_finder.h"
#include "service/engine/engine_tracer.h"
#include "service/engine/event_sink.h"
#include "service/engine/kv_event_log.h"
#include "service/engine/request_observer.h"
#include "service/telemetry/metrics.h"

namespace sluice {

struct EngineOptions {
  // Submissions, and as many questions, that may wait for the engine thread's next turn.
  int64_t inbox_limit = 4096;
  // load() and the metrics' totals are renewed at most this often. 0: on every turn.
  absl::Duration publish_interval = absl::ZeroDuration();
  // KV events kept for those who subscribe; see KvEventLog. 0: none are collected. Needs
  // SchedulerOptions::kv_events.
  int64_t kv_event_capacity = 0;
  // Steps launched before the oldest is waited for, as far as the backend takes so many; 1 or 2.
  int max_steps_in_flight = 2;
  // Not owned; must outlive the loop. Null: nobody listens.
  RequestObserver* observer = nullptr;
  // Likewise.
  EngineTracer* tracer = nullptr;
  // Where to look for KV of prompts that this process does not have; null: nowhere. Not owned; it
  // goes after the backend and before the loop.
  BlockFinder* finder = nullptr;
  // Called once, on the engine's thread, when a step ends with UNAVAILABLE: the backend's device is
  // lost. From then on Submit() refuses, and what is live ends with that status. May be empty.
  std::function<void(const absl::Status&)> on_lost = nullptr;
};

// What GetLoad answers; renewed once per turn, or per publish_interval.
struct EngineLoad {
  SchedulerStats scheduler;
  ActivitySnapshot activity;
  bool draining = false;
  // How long a request refused now should wait before it tries again.
  absl::Duration retry_after;
};

class EngineLoop {
 public:
  using Clock = std::function<absl::Time()>;

  // All must stay until the engine has stopped. Then the backend goes before this loop, which it
  // wakes when copies end. `clock` is the only clock, and monotonic. `metrics` may be null.
  EngineLoop(Scheduler& scheduler, Backend& backend, Metrics* metrics, Clock clock,
             const EngineOptions& options);

  // ---- Any thread ----

  // Hands a request to the engine; never blocks. After OK, `sink` gets exactly one Finish event,
  // whose status carries the scheduler's refusal, if any. Returns RESOURCE_EXHAUSTED if the inbox
  // is full, UNAVAILABLE if draining.
  absl::Status Submit(RequestSpec spec, std::shared_ptr<EventSink> sink);

  // Asks what would happen to a request (Scheduler::Explain); its id is not looked at. After OK,
  // `answer` is called once: by the engine thread, on its next turn, so it must not block; or with
  // UNAVAILABLE, if the engine stops first. Returns what Submit() returns.
  absl::Status Explain(RequestSpec spec, std::function<void(Explanation)> answer);

  // What the engine tells about its KV blocks; null: nothing.
  KvEventLog* kv_events() const { return kv_events_.get(); }

  // Asks for all KV blocks there are, or were up to a second ago; batches that follow tell the
  // rest. After OK, `answer` is called once, as that of Explain(). Returns what Submit() returns.
  // REQUIRES: kv_events() is not null.
  using KvSnapshotAnswer = std::function<void(absl::StatusOr<std::shared_ptr<const KvSnapshot>>)>;
  absl::Status AskForKvBlocks(KvSnapshotAnswer answer);

  // Scheduler::Warm() and Evict(). The id of `spec` is not looked at. After OK, `answer` is called
  // once, as that of Explain(); with what the scheduler refused, too. Returns what Submit()
  // returns.
  using WarmAnswer = std::function<void(absl::StatusOr<WarmResult>)>;
  absl::Status Warm(WarmSpec spec, WarmAnswer answer);
  using EvictAnswer = std::function<void(absl::StatusOr<EvictResult>)>;
  absl::Status Evict(EvictSpec spec, EvictAnswer answer);

  // The request ends soon, with kCancelled unless it ended before. Unknown ids are ignored.
  void Cancel(RequestId id);

  // From now on Submit() refuses. Irreversible.
  void StartDrain();

  EngineLoad load() const;

  const BackendInfo& backend_info() const { return backend_.info(); }

  // Wakes WaitForWork().
  void Wake();

  // ---- Engine thread only ----

  // One turn. Returns false if there was nothing to do.
  bool RunOnce();

  // Blocks until there may be something to do, or until the scheduler's next deadline.
  void WaitForWork();

  // No live requests, no step in flight and an empty inbox.
  bool idle() const;

  // Ends every live request, and answers every question, with UNAVAILABLE; for a stop that does not
  // wait.
  void Abandon();

 private:
  struct Submission {
    RequestSpec spec;
    std::shared_ptr<EventSink> sink;
  };
  // A request that waits for what the finder finds.
  struct Looking {
    Submission submission;
    PromptBlocks prompt;
    absl::Time arrival;
  };
  struct Found {
    RequestId request;
    size_t blocks = 0;
  };
  struct FoundForWarm {
    WarmId warm;
    size_t blocks = 0;
  };
  // A warm-up that waits for what the finder says.
  struct LookingWarm {
    WarmSpec spec;
    WarmAnswer answer;
    RequestSpec request;  // the same prompt
    PromptBlocks prompt;
  };
  struct Question {
    RequestSpec spec;
    std::function<void(Explanation)> answer;
  };
  struct Inbox {
    std::vector<Submission> submissions;
    std::vector<Found> found;
    std::vector<FoundForWarm> found_for_warms;
    std::vector<RequestId> cancels;
    std::vector<Question> questions;
    std::vector<KvSnapshotAnswer> snapshots;
    std::vector<std::pair<WarmSpec, WarmAnswer>> warms;
    std::vector<std::pair<EvictSpec, EvictAnswer>> evictions;
    bool empty() const {
      return submissions.empty() && found.empty() && found_for_warms.empty() && cancels.empty() &&
             questions.empty() && snapshots.empty() && warms.empty() && evictions.empty();
    }
  };

  struct Client {
    std::shared_ptr<EventSink> sink;
    absl::Time arrival;
    absl::Time last_token = absl::InfinitePast();
    Tokens output;
    int tenant = 0;  // slot of Metrics
    RequestTimes times;
    RequestObserver::Ticket ticket = 0;
    bool overflowed = false;
  };
  struct CopyUnderWay {
    LinkDirection direction;
    absl::Time queued;
  };

  absl::Status CheckInboxLocked(size_t waiting, const char* what) const;
  Inbox TakeInbox();
  void Admit(Inbox inbox);
  // Asks the finder about a submission, if that is of any use. True: it waits for the answer.
  bool LookFor(Submission& submission, absl::Time now);
  void TakeFound(const Found& found, absl::Time now);
  void StopLooking(RequestId id, absl::Time now);
  // `arrival`: when it came, for the times that people see.
  void AdmitOne(Submission submission, absl::Time arrival, absl::Time now);
  void ApplyFinishedCopies();
  void StartCopies(const StepPlan& plan);
  // Returns whether there was anything to do.
  bool PlanAndLaunch();
  void LaunchAhead();
  // Waits for the oldest step in flight, and commits it.
  void FinishStep();
  void NoteLoss(const absl::Status& status);
  bool Deliver();  // false: there was nothing, and Publish() was not called
  void DeliverOne(Event event);
  void NoteCopies(const StepPlan& plan, absl::Time now);
  void NoteStep(const StepPlan& plan, const StepResult& result);
  void NoteToken(RequestId id, Client& client);
  void NoteFinish(RequestId id, const Client& client, const Event::Finish& finish);
  void Publish();
  void PublishKvEvents();
  void Control(Inbox& inbox, absl::Time now);
  // As LookFor().
  bool LookForWarm(WarmSpec& spec, WarmAnswer& answer);
  void TakeFoundForWarm(const FoundForWarm& found, absl::Time now);
  void StartWarm(WarmSpec spec, WarmAnswer answer, absl::Time now);
  void AnswerWarms();
  void AnswerSnapshots(const std::vector<KvSnapshotAnswer>& answers, absl::Time now);

  Scheduler& scheduler_;
  Backend& backend_;
  Metrics* const metrics_;  // null: nobody wants any
  const Clock clock_;
  const EngineOptions options_;
  const std::unique_ptr<KvEventLog> kv_events_;  // null: off

  // Engine thread only.
  absl::flat_hash_map<RequestId, Client> clients_;
  absl::flat_hash_map<RequestId, Looking> looking_;
  absl::flat_hash_map<WarmId, LookingWarm> looking_warms_;
  absl::flat_hash_map<CopyId, CopyUnderWay> copies_;
  std::deque<StepPlan> steps_;                     // in flight, oldest first
  absl::flat_hash_map<WarmId, WarmAnswer> warms_;  // under way
  WarmId next_warm_{0};
  absl::Time published_ = absl::InfinitePast();
  std::shared_ptr<const KvSnapshot> snapshot_;  // of the last second; null: none
  bool lost_ = false;                           // a step ended with UNAVAILABLE
  absl::Time last_finish_ = absl::InfinitePast();
  absl::Duration finish_interval_;  // between two requests' ends: bounded exponential average

  mutable std::mutex mu_;
  std::condition_variable work_;
  Inbox inbox_;               // guarded by mu_
  bool copies_done_ = false;  // guarded by mu_
  bool woken_ = false;        // guarded by mu_
  bool draining_ = false;     // guarded by mu_
  EngineLoad load_;           // guarded by mu_
};

}  // namespace sluice
