// StallWatch measures how long the compute stream waits for loads, while the engine's thread goes
// on launching kernels: events before and after each wait, and a thread that follows them.
//
// In that time nothing is computed: the ActivityMeter is told so as it happens.
//
// Watch(), Finish(): one thread at a time.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "backend/activity.h"
#include "backend/cuda/device/context.h"
#include "backend/cuda/device/event.h"
#include "backend/cuda/gpu/gpu.h"

namespace sluice::cuda {

class StallWatch {
 public:
  struct Stall {
    size_t sequence = 0;
    absl::Duration time;
  };

  // All must outlive it. `clock` must not go back.
  StallWatch(const DeviceContext& context, ActivityMeter& meter, std::function<absl::Time()> clock);
  ~StallWatch();
  StallWatch(const StallWatch&) = delete;
  StallWatch& operator=(const StallWatch&) = delete;

  // Calls `wait`, which makes `stream` wait for the loads of `sequence`, and watches how long it
  // does. Returns what `wait` returns, or an error of the events.
  // REQUIRES: BeginCompute() was called on the meter for this step.
  absl::Status Watch(cudaStream_t stream, size_t sequence, absl::FunctionRef<absl::Status()> wait);

  // Blocks until every watched wait is over. Returns the stalls since the last call.
  std::vector<Stall> Finish();

 private:
  struct Mark {
    std::shared_ptr<Event> event;  // null: passed, since it could not be recorded
    bool begins = false;           // of a wait; else its end
    size_t sequence = 0;
  };

  absl::Status Push(cudaStream_t stream, bool begins, size_t sequence);
  void Follow();

  const DeviceContext& context_;
  ActivityMeter& meter_;
  const std::function<absl::Time()> clock_;
  EventPool events_;

  std::mutex mu_;
  std::condition_variable changed_;
  std::deque<Mark> marks_;  // guarded by mu_, as is what follows
  std::vector<Stall> stalls_;
  bool busy_ = false;  // the thread is at a mark that is in marks_ no more
  bool stop_ = false;

  std::thread thread_;
};

}  // namespace sluice::cuda
