// SignalWatcher: SIGINT and SIGTERM as calls on a thread, not as interruptions.
//
// Construct it before any other thread: it blocks both signals in the calling thread, and threads
// started later inherit that. Only one at a time.
#pragma once

#include <functional>
#include <thread>

namespace sluice {

class SignalWatcher {
 public:
  // `on_signal(signal, count)` runs on the watcher's thread; `count` is 1 for the first signal.
  explicit SignalWatcher(std::function<void(int signal, int count)> on_signal);
  // Unblocks the signals. The callback does not run any more afterwards.
  ~SignalWatcher();
  SignalWatcher(const SignalWatcher&) = delete;
  SignalWatcher& operator=(const SignalWatcher&) = delete;

 private:
  void ThreadMain();

  const std::function<void(int, int)> on_signal_;
  int signal_fd_ = -1;
  int stop_fd_ = -1;
  std::thread thread_;
};

}  // namespace sluice
