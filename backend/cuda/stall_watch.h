// StallWatch measures when steps end, and how long the compute stream waits for loads, while the
// engine's thread goes on launching kernels: events behind each step and around each wait, and a
// thread that follows them. A step's time begins when it is launched or, behind another one, when
// that has ended: the times of steps do not overlap.
//
//   watch.Begin();  watch.Watch(...), for loads that have not arrived;  watch.End(stream);
//   ... the same for the next step ...
//   watch.Finish();                                    // of the first one
//
// While a step waits nothing is computed: the ActivityMeter is told so as it happens.
//
// All but the constructor: one thread at a time.
#pragma once

#include <condition_variable>
#include <cstdint>
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
  struct Times {
    absl::Time started;
    absl::Time finished;
    std::vector<Stall> stalls;
    cudaError_t error = cudaSuccess;  // of waiting for its end
  };

  // All must outlive it. `clock` must not go back.
  StallWatch(const DeviceContext& context, ActivityMeter& meter, std::function<absl::Time()> clock);
  ~StallWatch();
  StallWatch(const StallWatch&) = delete;
  StallWatch& operator=(const StallWatch&) = delete;

  // A step begins, behind those that have begun.
  void Begin();

  // Calls `wait`, which makes `stream` wait for the loads of `sequence`, and watches how long it
  // does. Returns what `wait` returns.
  // REQUIRES: between Begin() and End().
  absl::Status Watch(cudaStream_t stream, size_t sequence, absl::FunctionRef<absl::Status()> wait);

  // All of the step that has begun last is in `stream`. Not OK: its end cannot be seen; to Finish()
  // it is over at once.
  absl::Status End(cudaStream_t stream);

  // Blocks until the oldest step that was not asked for yet has ended. REQUIRES: there is one.
  Times Finish();

 private:
  enum class MarkKind : uint8_t { kWaitBegins, kWaitEnds, kStepEnds };
  struct Mark {
    std::shared_ptr<Event> event;  // null: passed, since it could not be recorded
    MarkKind kind = MarkKind::kWaitBegins;
    size_t sequence = 0;
  };

  // Puts a mark into `stream`. One that ends something counts even if it cannot be recorded.
  absl::Status Push(cudaStream_t stream, MarkKind kind, size_t sequence);
  void Follow();
  void PassLocked(const Mark& mark, cudaError_t error, absl::Time now);

  const DeviceContext& context_;
  ActivityMeter& meter_;
  const std::function<absl::Time()> clock_;
  EventPool events_;

  std::mutex mu_;
  std::condition_variable changed_;
  std::deque<Mark> marks_;        // guarded by mu_, as is what follows
  std::deque<absl::Time> begun_;  // when the steps that have not ended were launched
  std::deque<Times> ended_;
  absl::Time last_end_ = absl::InfinitePast();
  absl::Time wait_since_;
  std::vector<Stall> stalls_;  // of the oldest step that has not ended
  bool stop_ = false;

  std::thread thread_;
};

}  // namespace sluice::cuda
