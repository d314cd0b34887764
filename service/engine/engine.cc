#include "service/engine/engine.h"

namespace sluice {

Engine::Engine(EngineLoop& loop) : loop_(loop), thread_([this] { ThreadMain(); }) {}

Engine::~Engine() {
  stop_.store(true);
  loop_.StartDrain();
  loop_.Wake();
  thread_.join();
  loop_.Abandon();
}

bool Engine::Drain(absl::Duration timeout) {
  loop_.StartDrain();
  std::unique_lock<std::mutex> lock(mu_);
  // Only a turn that starts from here on has seen everything that was let in.
  const int64_t target = turn_ + 1;
  loop_.Wake();
  const auto idle = [&] { return idle_turn_ >= target; };
  if (timeout == absl::InfiniteDuration()) {
    turn_ended_.wait(lock, idle);
    return true;
  }
  return turn_ended_.wait_for(lock, absl::ToChronoNanoseconds(timeout), idle);
}

void Engine::ThreadMain() {
  while (!stop_.load()) {
    int64_t turn = 0;
    {
      std::lock_guard<std::mutex> lock(mu_);
      turn = ++turn_;
    }
    const bool worked = loop_.RunOnce();
    const bool idle = loop_.idle();
    {
      std::lock_guard<std::mutex> lock(mu_);
      idle_turn_ = idle ? turn : -1;
    }
    if (idle) turn_ended_.notify_all();
    if (!worked) loop_.WaitForWork();
  }
}

}  // namespace sluice
