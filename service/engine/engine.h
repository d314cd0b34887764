// Engine: an EngineLoop on a thread of its own, with drain and stop.
//
// Thread-safe.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <thread>

#include "absl/time/time.h"
#include "service/engine/engine_loop.h"

namespace sluice {

class Engine {
 public:
  // `loop` must outlive this. Starts the thread.
  explicit Engine(EngineLoop& loop);
  // Stops without waiting for live requests; they end with UNAVAILABLE.
  ~Engine();
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  EngineLoop& loop() { return loop_; }

  // Refuses new requests and waits until the live ones have ended, or for `timeout`.
  // Returns whether none is left.
  bool Drain(absl::Duration timeout);

 private:
  void ThreadMain();

  EngineLoop& loop_;
  std::atomic<bool> stop_{false};

  std::mutex mu_;
  std::condition_variable turn_ended_;
  int64_t turn_ = 0;       // guarded by mu_; turns started
  int64_t idle_turn_ = 0;  // guarded by mu_; the last turn that left nothing live, if the latest

  std::thread thread_;  // last: everything above is ready when it starts
};

}  // namespace sluice
