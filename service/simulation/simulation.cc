#include "service/simulation/simulation.h"

#include <algorithm>
#include <limits>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "backend/sim/sim_backend.h"
#include "backend/sim/sim_clock.h"
#include "scheduler/base/check.h"
#include "scheduler/base/status_macros.h"
#include "scheduler/cost/measure.h"
#include "scheduler/scheduler.h"
#include "service/engine/engine_loop.h"
#include "service/simulation/books.h"

namespace sluice {
namespace {

// Turns of the engine in which time may stand still before that is called a fault.
constexpr int64_t kMostTurnsAtOnce = 1'000'000;
// Requests that end between two calls of `progress`.
constexpr int64_t kProgressEvery = 64;

absl::Status CheckOptions(const SimulationOptions& options) {
  SLUICE_RETURN_IF_ERROR(options.scheduler.Validate());
  const SchedulerOptions& s = options.scheduler;
  const SimOptions& m = options.machine;
  if (s.device_blocks != m.device_blocks || s.host_blocks != m.host_blocks ||
      s.disk_blocks != m.disk_blocks) {
    return absl::InvalidArgumentError(
        "simulation: the scheduler's pools differ from the machine's; make them equal");
  }
  return absl::OkStatus();
}

// Everything that runs during one simulation.
class Run {
 public:
  Run(const std::vector<TraceRequest>& requests, const SimulationOptions& options)
      : requests_(requests),
        options_(options),
        recorder_(clock_.now()),
        scheduler_(options.scheduler),
        books_(std::make_shared<Books>(clock_, requests.size())) {}

  absl::Status Start();
  absl::Status Finish(const std::function<bool(int64_t)>& progress);
  SimulationResult TakeResult();

 private:
  static EngineOptions LoopOptions();
  int64_t count() const { return static_cast<int64_t>(requests_.size()); }
  absl::Time ArrivalOf(size_t index) const { return start_ + requests_[index].arrival; }
  void SubmitArrived();
  absl::Status Submit(size_t index);
  absl::Status Idle();
  absl::Status Stuck(const char* how) const;
  void Sample();
  void MindWindow();

  const std::vector<TraceRequest>& requests_;
  const SimulationOptions& options_;
  SimClock clock_;
  const absl::Time start_ = clock_.now();
  WindowRecorder recorder_;
  Scheduler scheduler_;
  const std::shared_ptr<Books> books_;
  std::shared_ptr<const SamplingParams> sampling_;
  // The backend goes before the loop, which it may call.
  std::unique_ptr<EngineLoop> loop_;
  std::unique_ptr<SimBackend> backend_;
  UsageSampler sampler_;

  size_t next_ = 0;  // to arrive
  size_t window_first_ = 0;
  size_t window_last_ = 0;
  int64_t turns_at_once_ = 0;
  absl::Time last_turn_ = absl::InfinitePast();
};

EngineOptions Run::LoopOptions() {
  EngineOptions options;
  options.inbox_limit = std::numeric_limits<int64_t>::max();
  options.publish_interval = absl::InfiniteDuration();
  return options;
}

absl::Status Run::Start() {
  SimOptions machine = options_.machine;
  machine.observer = &recorder_;
  // One id more than prompts use: the one that ends an answer.
  const TokenId stop = machine.vocab_size++;
  SLUICE_ASSIGN_OR_RETURN(backend_, SimBackend::Create(machine, clock_));
  loop_ = std::make_unique<EngineLoop>(
      scheduler_, *backend_, /*metrics=*/nullptr, [this] { return clock_.now(); }, LoopOptions());
  auto sampling = std::make_shared<SamplingParams>();
  sampling->stop_ids = {stop};
  sampling_ = std::move(sampling);
  const size_t window = std::min(
      requests_.size(), static_cast<size_t>(std::max<int64_t>(options_.window_requests, 0)));
  window_first_ = (requests_.size() - window) / 2;
  window_last_ = window_first_ + window;
  return absl::OkStatus();
}

absl::Status Run::Submit(size_t index) {
  const TraceRequest& request = requests_[index];
  RequestRecord& record = books_->record(index);
  record.arrival = absl::ToDoubleSeconds(request.arrival);
  record.tenant = request.tenant;
  record.prompt = request.input();
  RequestSpec spec;
  spec.id = RequestId(static_cast<int64_t>(index));
  spec.prompt = MakePrompt(request.prompt, options_.machine.vocab_size);
  spec.max_new = request.max_new();
  spec.sampling = sampling_;
  spec.priority = request.priority;
  spec.tenant = TenantName(request.tenant);
  backend_->oracle().SetLength(spec.id, request.output);
  return loop_->Submit(std::move(spec), books_);
}

void Run::SubmitArrived() {
  const absl::Time now = clock_.now();
  for (; next_ < requests_.size() && ArrivalOf(next_) <= now; ++next_) {
    const absl::Status submitted = Submit(next_);
    SLUICE_CHECK(submitted.ok());  // the inbox has no limit here
  }
}

absl::Status Run::Stuck(const char* how) const {
  return absl::InternalError(
      absl::StrCat("simulation: ", how, " at ", absl::FormatDuration(clock_.now() - start_),
                   " with ", books_->ended(), " of ", requests_.size(), " requests ended (policy ",
                   options_.scheduler.policy, ")"));
}

absl::Status Run::Idle() {
  absl::Time next = std::min(backend_->next_event(), scheduler_.NextWakeup());
  if (next_ < requests_.size()) next = std::min(next, ArrivalOf(next_));
  if (next == absl::InfiniteFuture()) return Stuck("nothing would ever happen again");
  clock_.AdvanceTo(std::max(next, clock_.now()));
  return absl::OkStatus();
}

void Run::Sample() {
  const double now = books_->Now();
  if (!sampler_.Due(now)) return;
  const ActivitySnapshot activity = backend_->activity();
  const SchedulerStats stats = scheduler_.stats();
  UsageSample sample;
  sample.at = now;
  sample.compute_s = absl::ToDoubleSeconds(activity.compute_only + activity.both);
  for (size_t d = 0; d < kLinkDirectionCount; ++d) {
    sample.link_s[d] = absl::ToDoubleSeconds(activity.links[d].busy);
  }
  sample.waiting = stats.waiting;
  sample.running = stats.running;
  sampler_.Add(sample);
}

void Run::MindWindow() {
  if (window_first_ == window_last_) return;
  if (!recorder_.open()) {
    if (next_ > window_first_ && !books_->records()[window_first_].ended) recorder_.Open();
    return;
  }
  for (size_t i = window_first_; i < window_last_; ++i) {
    if (!books_->records()[i].ended) return;
  }
  recorder_.Close();
}

absl::Status Run::Finish(const std::function<bool(int64_t)>& progress) {
  int64_t told = 0;
  while (books_->ended() < count()) {
    SubmitArrived();
    MindWindow();
    const bool worked = loop_->RunOnce();
    if (clock_.now() > last_turn_) {
      turns_at_once_ = 0;
      last_turn_ = clock_.now();
    } else if (++turns_at_once_ > kMostTurnsAtOnce) {
      return Stuck("time does not move on");
    }
    Sample();
    if (!worked && books_->ended() < count()) SLUICE_RETURN_IF_ERROR(Idle());
    if (progress && books_->ended() - told >= kProgressEvery) {
      told = books_->ended();
      if (!progress(told)) return absl::CancelledError("simulation: stopped");
    }
  }
  if (progress) progress(count());
  return absl::OkStatus();
}

SimulationResult Run::TakeResult() {
  SimulationResult result;
  result.requests = books_->records();
  result.token_gaps = books_->gaps().distribution();
  result.scheduler = scheduler_.stats();
  result.activity = backend_->activity();
  result.exposed = backend_->exposed();
  result.usage = sampler_.samples();
  result.window_first = window_first_;
  result.window_last = window_last_;
  result.window_steps = recorder_.steps();
  result.window_moves = recorder_.moves();
  return result;
}

}  // namespace

absl::StatusOr<SimulationResult> Simulate(const std::vector<TraceRequest>& requests,
                                          const SimulationOptions& options,
                                          const std::function<bool(int64_t)>& progress) {
  SLUICE_RETURN_IF_ERROR(CheckOptions(options));
  Run run(requests, options);
  SLUICE_RETURN_IF_ERROR(run.Start());
  SLUICE_RETURN_IF_ERROR(run.Finish(progress));
  return run.TakeResult();
}

}  // namespace sluice
