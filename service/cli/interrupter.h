// Interrupter: what Ctrl-C and SIGTERM do to a client command.
//
// Without a handler the first signal ends the process at once (exit code 128 + signal). With one,
// the first signal calls it, and the command winds down by itself; the second ends the process.
//
// Construct it before any other thread (also before gRPC's). Thread-safe.
#pragma once

#include <functional>
#include <mutex>

#include "service/cli/signals.h"

namespace sluice {

class Interrupter {
 public:
  Interrupter();

  // Replaces the handler; empty removes it. The handler runs on the watcher's thread; it does not
  // run any more after this has returned. Called at once if a signal has come already.
  void SetHandler(std::function<void()> handler);

  // The first signal; 0 if none has come.
  int signal() const;

 private:
  void OnSignal(int signal, int count);

  mutable std::mutex mu_;
  std::function<void()> handler_;  // guarded by mu_
  int signal_ = 0;                 // guarded by mu_
  SignalWatcher watcher_;          // last: its thread uses the above
};

}  // namespace sluice
