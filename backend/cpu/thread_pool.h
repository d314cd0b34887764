// ThreadPool: a fixed team of compute threads with a cheap fork and join.
//
// A forward pass forks and joins several times per layer, so the workers spin for some
// microseconds between jobs before they sleep. The calling thread takes part as worker 0.
//
// Tasks are dealt out in contiguous runs, one run per worker, so that a worker sees the same part
// of a matrix in every step; a worker that is done helps the others. Which worker ran a task never
// shows in a result.
//
// Thread-compatible: one caller at a time, and not from inside a task.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <thread>
#include <vector>

#include "absl/functional/function_ref.h"

namespace sluice {

// CPUs this process may run on, ascending.
std::vector<int> AllowedCpus();

class ThreadPool {
 public:
  // `threads` workers, the caller included; 0 = one per allowed CPU. With `pin`, worker i stays on
  // the i-th allowed CPU (the caller only inside a CallerScope); ignored if there are more workers
  // than CPUs.
  ThreadPool(int threads, bool pin);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int size() const { return static_cast<int>(workers_.size()) + 1; }
  bool pinned() const { return pin_; }

  // Runs fn(task, worker) for every task in [0, tasks), worker in [0, size()). Returns when all are
  // done. Tasks of one call run concurrently and must not depend on each other.
  void ParallelFor(int64_t tasks, absl::FunctionRef<void(int64_t task, int worker)> fn);

  // While it lives, the calling thread is worker 0 in full: pinned like the others, and OpenMP code
  // it calls (oneDNN) stays on this one thread.
  class CallerScope {
   public:
    explicit CallerScope(const ThreadPool& pool);
    ~CallerScope();
    CallerScope(const CallerScope&) = delete;
    CallerScope& operator=(const CallerScope&) = delete;

   private:
    std::vector<int> saved_cpus_;
    int saved_omp_threads_;
  };

 private:
  using TaskFn = absl::FunctionRef<void(int64_t, int)>;
  struct alignas(64) Run {  // a worker's run of tasks: [next, end)
    std::atomic<int64_t> next{0};
    int64_t end = 0;
  };

  void WorkerMain(int worker);
  void DrainRuns(int worker, TaskFn fn);

  bool pin_;
  std::vector<int> cpus_;
  std::unique_ptr<Run[]> runs_;
  const TaskFn* job_ = nullptr;  // written before generation_, read after

  alignas(64) std::atomic<uint32_t> generation_{0};  // bumped for every job
  alignas(64) std::atomic<uint32_t> unfinished_{0};  // workers (not the caller) still in the job
  std::atomic<bool> stop_{false};
  std::vector<std::thread> workers_;
};

}  // namespace sluice
