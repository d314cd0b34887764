#include "service/telemetry/periodic.h"

#include <utility>

namespace sluice {

Periodic::Periodic(std::function<void()> work, absl::Duration interval)
    : work_(std::move(work)), interval_(interval), thread_([this] { ThreadMain(); }) {}

Periodic::~Periodic() {
  {
    const std::lock_guard<std::mutex> lock(mu_);
    stopping_ = true;
    stop_.notify_all();
  }
  thread_.join();
}

void Periodic::ThreadMain() {
  for (;;) {
    {
      std::unique_lock<std::mutex> lock(mu_);
      stop_.wait_for(lock, absl::ToChronoNanoseconds(interval_), [this] { return stopping_; });
      if (stopping_) return;
    }
    work_();
  }
}

}  // namespace sluice
