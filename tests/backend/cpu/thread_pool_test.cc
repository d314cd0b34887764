#include "backend/cpu/thread_pool.h"

#include <sched.h>

#include <atomic>
#include <numeric>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

namespace sluice {
namespace {

TEST(ThreadPoolTest, RunsEveryTaskOnceWhateverTheNumberOfThreads) {
  for (const int threads : {1, 2, 3, 5}) {
    ThreadPool pool(threads, false);
    ASSERT_EQ(pool.size(), threads);
    for (const int64_t tasks : {0, 1, 2, 3, 4, 7, 64, 1000}) {
      SCOPED_TRACE(absl::StrCat(threads, " threads, ", tasks, " tasks"));
      std::vector<std::atomic<int>> runs(static_cast<size_t>(tasks));
      pool.ParallelFor(tasks, [&](int64_t task, int worker) {
        ASSERT_GE(worker, 0);
        ASSERT_LT(worker, threads);
        runs[static_cast<size_t>(task)].fetch_add(1);
      });
      for (const auto& count : runs) ASSERT_EQ(count.load(), 1);
    }
  }
}

TEST(ThreadPoolTest, WhatTasksWroteIsSeenAfterTheJoin) {
  ThreadPool pool(4, false);
  std::vector<int64_t> values(257);
  for (int64_t round = 0; round < 500; ++round) {
    pool.ParallelFor(257, [&](int64_t task, int) { values[static_cast<size_t>(task)] += task; });
    ASSERT_EQ(std::accumulate(values.begin(), values.end(), int64_t{0}),
              (round + 1) * 257 * 256 / 2);
  }
}

TEST(ThreadPoolTest, AWorkerThatIsDoneHelpsTheOthers) {
  ThreadPool pool(2, false);
  // Task 0 ends only when every other task has run: without help, those behind it in its own run
  // would wait for ever.
  std::atomic<int> others{0};
  pool.ParallelFor(16, [&](int64_t task, int) {
    if (task == 0) {
      while (others.load() < 15) sched_yield();
    } else {
      others.fetch_add(1);
    }
  });
  EXPECT_EQ(others.load(), 15);
}

TEST(ThreadPoolTest, TheCallersCpusAreRestored) {
  const std::vector<int> before = AllowedCpus();
  ThreadPool pool(static_cast<int>(before.size()), true);
  EXPECT_TRUE(pool.pinned());
  {
    const ThreadPool::CallerScope scope(pool);
    EXPECT_EQ(AllowedCpus(), std::vector<int>{before.front()});
  }
  EXPECT_EQ(AllowedCpus(), before);
}

TEST(ThreadPoolTest, MoreThreadsThanCpusAreNotPinned) {
  ThreadPool pool(static_cast<int>(AllowedCpus().size()) + 1, true);
  EXPECT_FALSE(pool.pinned());
}

TEST(ThreadPoolTest, ZeroThreadsMeansOnePerCpu) {
  ThreadPool pool(0, false);
  EXPECT_EQ(pool.size(), static_cast<int>(AllowedCpus().size()));
}

}  // namespace
}  // namespace sluice
