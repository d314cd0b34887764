#include "service/cli/child_process.h"

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <filesystem>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace sluice {
namespace {

constexpr size_t kKeptLines = 200;
constexpr int kCannotExecute = 127;

struct Pipe {
  int read_end = -1;
  int write_end = -1;
};

bool MakePipe(Pipe* result) {
  std::array<int, 2> fds;
  if (pipe2(fds.data(), O_CLOEXEC) != 0) return false;
  *result = {fds[0], fds[1]};
  return true;
}

// In the child, between fork and exec: async-signal-safe calls only.
[[noreturn]] void Execute(char* const* argv, const Pipe& out, const Pipe& err, pid_t parent) {
  setpgid(0, 0);
  prctl(PR_SET_PDEATHSIG, SIGTERM);
  if (getppid() != parent) _exit(kCannotExecute);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  dup2(out.write_end, STDOUT_FILENO);
  dup2(err.write_end, STDERR_FILENO);
  execv(argv[0], argv);
  _exit(kCannotExecute);
}

}  // namespace

absl::StatusOr<std::unique_ptr<ChildProcess>> ChildProcess::Start(
    const std::vector<std::string>& argv) {
  std::vector<char*> raw;
  for (const std::string& arg : argv) raw.push_back(const_cast<char*>(arg.c_str()));
  raw.push_back(nullptr);
  Pipe out, err;
  if (!MakePipe(&out) || !MakePipe(&err)) {
    return absl::InternalError(absl::StrCat("cannot make a pipe: ", std::strerror(errno)));
  }
  const pid_t parent = getpid();
  const pid_t pid = fork();
  if (pid == 0) Execute(raw.data(), out, err, parent);
  const int error = errno;
  close(out.write_end);
  close(err.write_end);
  if (pid < 0) {
    close(out.read_end);
    close(err.read_end);
    return absl::InternalError(absl::StrCat("cannot start ", argv[0], ": ", std::strerror(error)));
  }
  return std::unique_ptr<ChildProcess>(new ChildProcess(pid, out.read_end, err.read_end));
}

ChildProcess::ChildProcess(pid_t pid, int out_fd, int err_fd) : pid_(pid) {
  out_.fd = out_fd;
  err_.fd = err_fd;
  out_reader_ = std::thread([this] { ReadLines(out_); });
  err_reader_ = std::thread([this] { ReadLines(err_); });
}

ChildProcess::~ChildProcess() {
  if (!exit_code_.has_value()) {
    Signal(SIGTERM);
    Wait();
  }
  out_reader_.join();
  err_reader_.join();
}

void ChildProcess::ReadLines(Stream& stream) {
  std::string partial;
  std::array<char, 4096> buffer;
  while (true) {
    const ssize_t n = read(stream.fd, buffer.data(), buffer.size());
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) break;
    partial.append(buffer.data(), static_cast<size_t>(n));
    const std::lock_guard<std::mutex> lock(mu_);
    for (size_t end; (end = partial.find('\n')) != std::string::npos;) {
      stream.lines.push_back(partial.substr(0, end));
      partial.erase(0, end + 1);
      if (stream.lines.size() > kKeptLines) stream.lines.pop_front();
    }
    changed_.notify_all();
  }
  close(stream.fd);
  const std::lock_guard<std::mutex> lock(mu_);
  if (!partial.empty()) stream.lines.push_back(partial);
  stream.ended = true;
  changed_.notify_all();
}

std::string ChildProcess::ErrorTailLocked() const { return absl::StrJoin(err_.lines, "\n"); }

std::string ChildProcess::ErrorTail() const {
  const std::lock_guard<std::mutex> lock(mu_);
  return ErrorTailLocked();
}

absl::StatusOr<std::string> ChildProcess::WaitForLine(const std::string& prefix,
                                                      absl::Duration timeout) {
  std::unique_lock<std::mutex> lock(mu_);
  std::optional<std::string> found;
  const auto done = [&] {
    for (const std::string& line : out_.lines) {
      if (absl::StartsWith(line, prefix)) found = line;
    }
    return found.has_value() || (out_.ended && err_.ended);
  };
  const bool in_time = changed_.wait_for(lock, absl::ToChronoMilliseconds(timeout), done);
  if (found.has_value()) return *found;
  if (in_time) {
    return absl::UnavailableError(
        absl::StrCat("it ended early; its last words:\n", ErrorTailLocked()));
  }
  return absl::DeadlineExceededError(absl::StrCat("no answer after ", absl::FormatDuration(timeout),
                                                  "; its last words:\n", ErrorTailLocked()));
}

void ChildProcess::Signal(int signal) {
  if (!exit_code_.has_value()) kill(pid_, signal);
}

int ChildProcess::Wait() {
  if (exit_code_.has_value()) return *exit_code_;
  int status = 0;
  while (waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
  }
  exit_code_ = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
  return *exit_code_;
}

std::string SelfPath() {
  std::error_code error;
  return std::filesystem::read_symlink("/proc/self/exe", error).string();
}

}  // namespace sluice
