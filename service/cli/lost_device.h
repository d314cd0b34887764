// LostDevice: the news that the backend's device is gone for good, from the engine's thread to
// whoever ends the server.
//
// Thread-safe.
#pragma once

#include <functional>
#include <mutex>
#include <utility>

#include "absl/status/status.h"

namespace sluice {

class LostDevice {
 public:
  // The first reason counts.
  void Set(const absl::Status& why) {
    std::function<void()> on_lost;
    {
      const std::lock_guard<std::mutex> lock(mu_);
      if (!why_.ok()) return;
      why_ = why;
      on_lost = on_lost_;
    }
    if (on_lost) on_lost();
  }

  // Calls `on_lost` once, at once if the news is there already.
  void Notify(std::function<void()> on_lost) {
    {
      const std::lock_guard<std::mutex> lock(mu_);
      on_lost_ = on_lost;
      if (why_.ok()) return;
    }
    on_lost();
  }

  // OK: it is there.
  absl::Status why() const {
    const std::lock_guard<std::mutex> lock(mu_);
    return why_;
  }

 private:
  mutable std::mutex mu_;
  absl::Status why_;
  std::function<void()> on_lost_;
};

}  // namespace sluice
