#include "backend/cuda/stall_watch.h"

#include <utility>

#include "backend/cuda/device/status.h"
#include "scheduler/base/status_macros.h"

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

absl::Status StallWatch::Watch(cudaStream_t stream, size_t sequence,
                               absl::FunctionRef<absl::Status()> wait) {
  SLUICE_RETURN_IF_ERROR(Push(stream, /*begins=*/true, sequence));
  absl::Status status = wait();
  // Every beginning gets its end, whatever became of the wait.
  const absl::Status ended = Push(stream, /*begins=*/false, sequence);
  return status.ok() ? ended : status;
}

absl::Status StallWatch::Push(cudaStream_t stream, bool begins, size_t sequence) {
  absl::StatusOr<std::shared_ptr<Event>> event = events_.Lend();
  absl::Status status = event.status();
  if (status.ok()) {
    status = CudaStatus(cudaEventRecord((*event)->get(), stream), "event of a wait for loads");
  }
  if (begins && !status.ok()) return status;
  {
    const std::lock_guard<std::mutex> lock(mu_);
    marks_.push_back({status.ok() ? *std::move(event) : nullptr, begins, sequence});
  }
  changed_.notify_all();
  return status;
}

std::vector<StallWatch::Stall> StallWatch::Finish() {
  std::unique_lock<std::mutex> lock(mu_);
  changed_.wait(lock, [this] { return marks_.empty() && !busy_; });
  return std::exchange(stalls_, {});
}

void StallWatch::Follow() {
  // Without a device the events below fail at once, which ends each wait.
  static_cast<void>(context_.MakeCurrent());
  absl::Time since;
  std::unique_lock<std::mutex> lock(mu_);
  while (true) {
    changed_.wait(lock, [this] { return stop_ || !marks_.empty(); });
    if (marks_.empty()) return;
    const Mark mark = std::move(marks_.front());
    marks_.pop_front();
    busy_ = true;
    lock.unlock();
    // An error is one of the step, which finds it, too.
    if (mark.event != nullptr) static_cast<void>(cudaEventSynchronize(mark.event->get()));
    const absl::Time now = clock_();
    if (mark.begins) {
      since = now;
      meter_.EndCompute(now);
      meter_.BeginStall(now);
    } else {
      meter_.EndStall(now);
      meter_.BeginCompute(now);
    }
    lock.lock();
    if (!mark.begins) stalls_.push_back({mark.sequence, now - since});
    busy_ = false;
    changed_.notify_all();
  }
}

}  // namespace sluice::cuda
