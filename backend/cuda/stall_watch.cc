#include "backend/cuda/stall_watch.h"

#include <algorithm>
#include <utility>

#include "backend/cuda/device/status.h"

namespace sluice::cuda {

StallWatch::StallWatch(const DeviceContext& context, ActivityMeter& meter,
                       std::function<absl::Time()> clock)
    : context_(context), meter_(meter), clock_(std::move(clock)), thread_([this] { Follow(); }) {}

StallWatch::~StallWatch() {
  {
    const std::lock_guard<std::mutex> lock(mu_);
    stop_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void StallWatch::Begin() {
  const std::lock_guard<std::mutex> lock(mu_);
  const absl::Time now = clock_();
  if (begun_.empty()) meter_.BeginCompute(now);
  begun_.push_back(now);
}

absl::Status StallWatch::Watch(cudaStream_t stream, size_t sequence,
                               absl::FunctionRef<absl::Status()> wait) {
  // A wait that cannot be timed is a wait all the same.
  if (!Push(stream, MarkKind::kWaitBegins, sequence).ok()) return wait();
  absl::Status status = wait();
  // Every beginning gets its end, whatever became of the wait.
  Push(stream, MarkKind::kWaitEnds, sequence).IgnoreError();
  return status;
}

absl::Status StallWatch::End(cudaStream_t stream) { return Push(stream, MarkKind::kStepEnds, 0); }

absl::Status StallWatch::Push(cudaStream_t stream, MarkKind kind, size_t sequence) {
  absl::StatusOr<std::shared_ptr<Event>> event = events_.Lend();
  absl::Status status = event.status();
  if (status.ok()) {
    status = CudaStatus(cudaEventRecord((*event)->get(), stream), "event of a step");
  }
  if (kind == MarkKind::kWaitBegins && !status.ok()) return status;
  {
    const std::lock_guard<std::mutex> lock(mu_);
    marks_.push_back({status.ok() ? *std::move(event) : nullptr, kind, sequence});
  }
  changed_.notify_all();
  return status;
}

StallWatch::Times StallWatch::Finish() {
  std::unique_lock<std::mutex> lock(mu_);
  changed_.wait(lock, [this] { return !ended_.empty(); });
  Times times = std::move(ended_.front());
  ended_.pop_front();
  return times;
}

void StallWatch::Follow() {
  // Without a device the events below fail at once, which ends each wait.
  static_cast<void>(context_.MakeCurrent());
  std::unique_lock<std::mutex> lock(mu_);
  while (true) {
    changed_.wait(lock, [this] { return stop_ || !marks_.empty(); });
    if (marks_.empty()) return;
    const Mark mark = std::move(marks_.front());
    marks_.pop_front();
    lock.unlock();
    const cudaError_t error =
        mark.event != nullptr ? cudaEventSynchronize(mark.event->get()) : cudaSuccess;
    lock.lock();
    PassLocked(mark, error, clock_());
    changed_.notify_all();
  }
}

// An error of a wait is one of its step, whose end has it, too.
void StallWatch::PassLocked(const Mark& mark, cudaError_t error, absl::Time now) {
  if (mark.kind == MarkKind::kWaitBegins) {
    wait_since_ = now;
    meter_.EndCompute(now);
    meter_.BeginStall(now);
  } else if (mark.kind == MarkKind::kWaitEnds) {
    meter_.EndStall(now);
    meter_.BeginCompute(now);
    stalls_.push_back({mark.sequence, now - wait_since_});
  } else {
    ended_.push_back({std::max(begun_.front(), last_end_), now, std::exchange(stalls_, {}), error});
    last_end_ = now;
    begun_.pop_front();
    if (begun_.empty()) meter_.EndCompute(now);
  }
}

}  // namespace sluice::cuda
