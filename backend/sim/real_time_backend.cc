#include "backend/sim/real_time_backend.h"

#include <algorithm>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "backend/sim/sim_machine.h"
#include "scheduler/base/status_macros.h"

namespace sluice {
namespace {

class RealTimeSimBackend final : public Backend {
 public:
  RealTimeSimBackend(const SimOptions& options, std::function<absl::Time()> clock)
      : clock_(std::move(clock)), machine_(options, clock_()), booked_(clock_()) {
    worker_ = std::thread([this] { WorkerMain(); });
  }
  ~RealTimeSimBackend() override {
    {
      std::lock_guard<std::mutex> lock(mu_);
      stop_ = true;
    }
    work_.notify_all();
    worker_.join();
  }

  const BackendInfo& info() const override { return machine_.info(); }
  void SetCopyListener(std::function<void()> on_done) override {
    std::lock_guard<std::mutex> lock(mu_);
    on_done_ = std::move(on_done);
  }
  void StartCopies(std::span<const Copy> copies) override;
  void RevokeCopies(std::span<const CopyId> copies) override;
  std::vector<CopyResult> TakeFinishedCopies() override;
  StepResult Run(const StepPlan& plan) override;
  ActivitySnapshot activity() override;

 private:
  // The clock, or the time up to which the machine has been computed ahead if that is later.
  absl::Time NowLocked() { return booked_ = std::max(booked_, clock_()); }
  void CollectLocked();
  void WorkerMain();

  const std::function<absl::Time()> clock_;

  std::mutex mu_;
  std::condition_variable work_;
  SimMachine machine_;                // guarded by mu_; info() is immutable
  absl::Time booked_;                 // guarded by mu_; the machine's time
  bool in_step_ = false;              // guarded by mu_
  ActivitySnapshot before_step_;      // guarded by mu_
  std::vector<CopyResult> finished_;  // guarded by mu_; some may lie in the future
  std::function<void()> on_done_;     // guarded by mu_
  bool stop_ = false;                 // guarded by mu_

  std::thread worker_;  // tells the listener of copies that end between steps
};

void RealTimeSimBackend::StartCopies(std::span<const Copy> copies) {
  {
    std::lock_guard<std::mutex> lock(mu_);
    machine_.link().Start(copies, NowLocked());
  }
  work_.notify_one();
}

void RealTimeSimBackend::RevokeCopies(std::span<const CopyId> copies) {
  {
    std::lock_guard<std::mutex> lock(mu_);
    machine_.link().Revoke(copies, NowLocked());
  }
  work_.notify_one();
}

void RealTimeSimBackend::CollectLocked() {
  std::vector<CopyResult> results = machine_.link().TakeFinished();
  finished_.insert(finished_.end(), std::make_move_iterator(results.begin()),
                   std::make_move_iterator(results.end()));
}

std::vector<CopyResult> RealTimeSimBackend::TakeFinishedCopies() {
  std::lock_guard<std::mutex> lock(mu_);
  machine_.link().AdvanceTo(NowLocked());
  CollectLocked();
  const absl::Time now = clock_();
  const auto future = std::stable_partition(finished_.begin(), finished_.end(),
                                            [&](const CopyResult& r) { return r.finished <= now; });
  std::vector<CopyResult> taken(std::make_move_iterator(finished_.begin()),
                                std::make_move_iterator(future));
  finished_.erase(finished_.begin(), future);
  return taken;
}

StepResult RealTimeSimBackend::Run(const StepPlan& plan) {
  std::unique_lock<std::mutex> lock(mu_);
  machine_.link().AdvanceTo(NowLocked());
  before_step_ = machine_.activity().snapshot();
  StepResult result = machine_.Run(plan, booked_);
  booked_ = result.finished;
  in_step_ = true;
  while (!stop_) {
    const absl::Time now = clock_();
    if (now >= result.finished) break;
    work_.wait_for(lock, absl::ToChronoNanoseconds(result.finished - now));
  }
  in_step_ = false;
  lock.unlock();
  work_.notify_one();  // the worker's turn again
  return result;
}

ActivitySnapshot RealTimeSimBackend::activity() {
  std::lock_guard<std::mutex> lock(mu_);
  if (in_step_) return before_step_;
  machine_.link().AdvanceTo(NowLocked());
  return machine_.activity().snapshot();
}

void RealTimeSimBackend::WorkerMain() {
  std::unique_lock<std::mutex> lock(mu_);
  while (!stop_) {
    const absl::Time next = in_step_ ? absl::InfiniteFuture() : machine_.link().next_event();
    const absl::Time now = clock_();
    if (next > now) {
      if (next == absl::InfiniteFuture()) {
        work_.wait(lock);
      } else {
        work_.wait_for(lock, absl::ToChronoNanoseconds(next - now));
      }
      continue;
    }
    machine_.link().AdvanceTo(NowLocked());
    const size_t before = finished_.size();
    CollectLocked();
    if (finished_.size() == before || !on_done_) continue;
    const std::function<void()> on_done = on_done_;
    lock.unlock();
    on_done();
    lock.lock();
  }
}

}  // namespace

absl::StatusOr<std::unique_ptr<Backend>> MakeRealTimeSimBackend(const SimOptions& options,
                                                                std::function<absl::Time()> clock) {
  SLUICE_RETURN_IF_ERROR(options.Validate());
  return std::unique_ptr<Backend>(std::make_unique<RealTimeSimBackend>(options, std::move(clock)));
}

}  // namespace sluice
