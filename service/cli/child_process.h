// ChildProcess: a program run beside this one, with its output read line by line.
//
// The child gets a process group of its own, so Ctrl-C on the terminal reaches this process only,
// and SIGTERM if this process dies.
#pragma once

#include <sys/types.h>

#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace sluice {

class ChildProcess {
 public:
  // Starts argv[0], a path, with the arguments argv[1..].
  // Returns INTERNAL if the process cannot be made. A program that cannot be executed exits with
  // 127.
  static absl::StatusOr<std::unique_ptr<ChildProcess>> Start(const std::vector<std::string>& argv);
  // Terminates the child if it still runs, and waits for it.
  ~ChildProcess();
  ChildProcess(const ChildProcess&) = delete;
  ChildProcess& operator=(const ChildProcess&) = delete;

  // Waits for a line of standard output that begins with `prefix` and returns it.
  // Returns DEADLINE_EXCEEDED after `timeout`, UNAVAILABLE if the output ends before, with the last
  // lines of standard error.
  absl::StatusOr<std::string> WaitForLine(const std::string& prefix, absl::Duration timeout);

  void Signal(int signal);
  // Waits for the end and returns the exit code (128 + signal if one killed it).
  int Wait();

  // The last lines of standard error.
  std::string ErrorTail() const;

 private:
  struct Stream {
    int fd = -1;
    std::deque<std::string> lines;  // guarded by mu_; the last ones only
    bool ended = false;             // guarded by mu_
  };

  ChildProcess(pid_t pid, int out_fd, int err_fd);
  void ReadLines(Stream& stream);
  std::string ErrorTailLocked() const;

  const pid_t pid_;
  std::optional<int> exit_code_;

  mutable std::mutex mu_;
  std::condition_variable changed_;
  Stream out_;
  Stream err_;
  std::thread out_reader_;
  std::thread err_reader_;
};

// The path of the running program.
std::string SelfPath();

}  // namespace sluice
