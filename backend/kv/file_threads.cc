// FileIo with preadv and pwritev on a few threads.
#include <sys/uio.h>

#include <cerrno>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "backend/kv/file_io.h"

namespace sluice {
namespace {

absl::Status RunOne(FileOp& op) {
  while (!op.parts.empty()) {
    const auto count = static_cast<int>(op.parts.size());
    const ssize_t n = op.write ? pwritev(op.fd, op.parts.data(), count, op.offset)
                               : preadv(op.fd, op.parts.data(), count, op.offset);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return ErrorOfErrno(op.write ? "cannot be written" : "cannot be read", errno);
    if (n == 0 && op.write) return ErrorOfErrno("cannot be written", EIO);
    if (n == 0) return absl::DataLossError(absl::StrCat("the file ends at ", op.offset));
    Advance(op, n);
  }
  return absl::OkStatus();
}

class ThreadIo final : public FileIo {
 public:
  explicit ThreadIo(int threads) {
    for (int i = 0; i < threads; ++i) threads_.emplace_back([this] { WorkerMain(); });
  }
  ~ThreadIo() override {
    {
      std::lock_guard<std::mutex> lock(mu_);
      stop_ = true;
    }
    work_.notify_all();
    for (std::thread& thread : threads_) thread.join();
  }

  const char* name() const override { return "threads"; }

  void Run(std::span<FileOp> ops, absl::FunctionRef<void()> meanwhile,
           absl::FunctionRef<void(size_t, const absl::Status&)> done) override {
    {
      std::lock_guard<std::mutex> lock(mu_);
      for (size_t i = 0; i < ops.size(); ++i) queue_.push_back({&ops[i], i});
    }
    work_.notify_all();
    meanwhile();
    for (size_t left = ops.size(); left > 0;) {
      std::unique_lock<std::mutex> lock(mu_);
      ended_.wait(lock, [this] { return !results_.empty(); });
      const std::vector<Result> results = std::exchange(results_, {});
      lock.unlock();
      for (const Result& result : results) done(result.index, result.status);
      left -= results.size();
    }
  }

 private:
  struct Task {
    FileOp* op;
    size_t index;
  };
  struct Result {
    size_t index;
    absl::Status status;
  };

  void WorkerMain() {
    std::unique_lock<std::mutex> lock(mu_);
    for (;;) {
      work_.wait(lock, [this] { return stop_ || !queue_.empty(); });
      if (stop_) return;
      const Task task = queue_.front();
      queue_.pop_front();
      lock.unlock();
      absl::Status status = RunOne(*task.op);
      lock.lock();
      results_.push_back({task.index, std::move(status)});
      ended_.notify_one();
    }
  }

  std::mutex mu_;
  std::condition_variable work_;
  std::condition_variable ended_;
  std::deque<Task> queue_;       // guarded by mu_
  std::vector<Result> results_;  // guarded by mu_
  bool stop_ = false;            // guarded by mu_
  std::vector<std::thread> threads_;
};

}  // namespace

std::unique_ptr<FileIo> MakeThreadIo(int threads) { return std::make_unique<ThreadIo>(threads); }

}  // namespace sluice
