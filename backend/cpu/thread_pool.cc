#include "backend/cpu/thread_pool.h"

#include <sched.h>

#include <algorithm>
#include <chrono>
#include <span>

#include "scheduler/base/check.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

// From libgomp. Declared here because <omp.h> is the compiler's own header and clang has none.
extern "C" {
void omp_set_num_threads(int);
int omp_get_max_threads(void);
}

namespace sluice {
namespace {

// Longer than the gap between two jobs of one step, much shorter than a time slice.
constexpr std::chrono::microseconds kSpin(40);

void Relax() {
#if defined(__x86_64__)
  _mm_pause();
#endif
}

void PinTo(std::span<const int> cpus) {
  cpu_set_t set;
  CPU_ZERO(&set);
  for (int cpu : cpus) CPU_SET(cpu, &set);
  // Not being allowed to pin costs speed, nothing else.
  (void)sched_setaffinity(0, sizeof(set), &set);
}

// Returns once `value` differs from `old`: spins first, then sleeps.
void WaitWhileEqual(const std::atomic<uint32_t>& value, uint32_t old) {
  const auto deadline = std::chrono::steady_clock::now() + kSpin;
  do {
    for (int i = 0; i < 64; ++i) {
      if (value.load(std::memory_order_acquire) != old) return;
      Relax();
    }
  } while (std::chrono::steady_clock::now() < deadline);
  value.wait(old, std::memory_order_acquire);
}

}  // namespace

std::vector<int> AllowedCpus() {
  std::vector<int> cpus;
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof(set), &set) == 0) {
    for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
      if (CPU_ISSET(cpu, &set)) cpus.push_back(cpu);
    }
  }
  if (cpus.empty()) cpus.push_back(0);
  return cpus;
}

ThreadPool::ThreadPool(int threads, bool pin) : cpus_(AllowedCpus()) {
  SLUICE_CHECK(threads >= 0);
  const size_t count = threads == 0 ? cpus_.size() : static_cast<size_t>(threads);
  pin_ = pin && count <= cpus_.size();
  runs_ = std::make_unique<Run[]>(count);
  workers_.reserve(count - 1);
  for (size_t i = 1; i < count; ++i) {
    workers_.emplace_back([this, i] { WorkerMain(static_cast<int>(i)); });
  }
}

ThreadPool::~ThreadPool() {
  stop_.store(true, std::memory_order_relaxed);
  generation_.fetch_add(1, std::memory_order_release);
  generation_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

void ThreadPool::WorkerMain(int worker) {
  if (pin_) PinTo(std::span<const int>(&cpus_[static_cast<size_t>(worker)], 1));
  omp_set_num_threads(1);
  uint32_t seen = 0;
  while (true) {
    WaitWhileEqual(generation_, seen);
    seen = generation_.load(std::memory_order_acquire);
    if (stop_.load(std::memory_order_relaxed)) return;
    DrainRuns(worker, *job_);
    if (unfinished_.fetch_sub(1, std::memory_order_acq_rel) == 1) unfinished_.notify_one();
  }
}

void ThreadPool::DrainRuns(int worker, TaskFn fn) {
  const int count = size();
  for (int i = 0; i < count; ++i) {
    Run& run = runs_[static_cast<size_t>((worker + i) % count)];
    while (true) {
      const int64_t task = run.next.fetch_add(1, std::memory_order_relaxed);
      if (task >= run.end) break;
      fn(task, worker);
    }
  }
}

void ThreadPool::ParallelFor(int64_t tasks, TaskFn fn) {
  if (workers_.empty() || tasks <= 1) {
    for (int64_t task = 0; task < tasks; ++task) fn(task, 0);
    return;
  }
  const int64_t count = size();
  for (int64_t i = 0; i < count; ++i) {
    Run& run = runs_[static_cast<size_t>(i)];
    run.next.store(tasks * i / count, std::memory_order_relaxed);
    run.end = tasks * (i + 1) / count;
  }
  job_ = &fn;
  unfinished_.store(static_cast<uint32_t>(workers_.size()), std::memory_order_relaxed);
  generation_.fetch_add(1, std::memory_order_release);
  generation_.notify_all();
  DrainRuns(0, fn);
  while (true) {
    const uint32_t left = unfinished_.load(std::memory_order_acquire);
    if (left == 0) break;
    WaitWhileEqual(unfinished_, left);
  }
}

ThreadPool::CallerScope::CallerScope(const ThreadPool& pool)
    : saved_omp_threads_(omp_get_max_threads()) {
  omp_set_num_threads(1);
  if (!pool.pin_) return;
  saved_cpus_ = AllowedCpus();
  PinTo(std::span<const int>(pool.cpus_.data(), 1));
}

ThreadPool::CallerScope::~CallerScope() {
  omp_set_num_threads(saved_omp_threads_);
  if (!saved_cpus_.empty()) PinTo(saved_cpus_);
}

}  // namespace sluice
