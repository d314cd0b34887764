// Periodic: does something on a thread of its own, again and again, until it is destroyed.
#pragma once

#include <condition_variable>
#include <functional>
#include <mutex>
#include <thread>

#include "absl/time/time.h"

namespace sluice {

class Periodic {
 public:
  // The first call of `work` comes after one `interval`.
  Periodic(std::function<void()> work, absl::Duration interval);
  ~Periodic();  // waits for a call that is going on
  Periodic(const Periodic&) = delete;
  Periodic& operator=(const Periodic&) = delete;

 private:
  void ThreadMain();

  const std::function<void()> work_;
  const absl::Duration interval_;
  std::mutex mu_;
  std::condition_variable stop_;
  bool stopping_ = false;  // guarded by mu_
  std::thread thread_;     // last: everything above is ready when it starts
};

}  // namespace sluice
