// Event: a CUDA event, owned; and EventPool, which lends events.
//
// A wait (cudaStreamWaitEvent) refers to the latest record at the time of the call, so an event may
// be recorded again as soon as everybody who needs the old record has called wait. A wait for an
// event that was never recorded waits for nothing: record first.
#pragma once

#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "backend/cuda/device/status.h"
#include "backend/cuda/gpu/gpu.h"

namespace sluice::cuda {

enum class EventKind {
  kOrder,   // orders streams; a host thread that waits for it sleeps
  kTiming,  // also for cudaEventElapsedTime; costs more
};

class Event {
 public:
  static absl::StatusOr<Event> Create(EventKind kind = EventKind::kOrder) {
    const unsigned flags = kind == EventKind::kOrder
                               ? cudaEventDisableTiming | cudaEventBlockingSync
                               : cudaEventBlockingSync;
    Event event;
    SLUICE_CUDA_RETURN_IF_ERROR(cudaEventCreateWithFlags(&event.event_, flags));
    return event;
  }

  Event() = default;
  ~Event() {
    if (event_ != nullptr) static_cast<void>(cudaEventDestroy(event_));
  }
  Event(Event&& other) noexcept : event_(std::exchange(other.event_, nullptr)) {}
  Event& operator=(Event&& other) noexcept {
    std::swap(event_, other.event_);
    return *this;
  }

  cudaEvent_t get() const { return event_; }

 private:
  cudaEvent_t event_ = nullptr;
};

// Thread-safe. Must outlive what it lends.
class EventPool {
 public:
  // An event that goes back to the pool with its last owner.
  absl::StatusOr<std::shared_ptr<Event>> Lend() {
    Event event;
    {
      const std::lock_guard<std::mutex> lock(mu_);
      if (!free_.empty()) {
        event = std::move(free_.back());
        free_.pop_back();
      }
    }
    if (event.get() == nullptr) {
      absl::StatusOr<Event> fresh = Event::Create();
      if (!fresh.ok()) return fresh.status();
      event = *std::move(fresh);
    }
    return std::shared_ptr<Event>(new Event(std::move(event)), [this](Event* returned) {
      {
        const std::lock_guard<std::mutex> lock(mu_);
        free_.push_back(std::move(*returned));
      }
      delete returned;
    });
  }

 private:
  std::mutex mu_;
  std::vector<Event> free_;
};

}  // namespace sluice::cuda
