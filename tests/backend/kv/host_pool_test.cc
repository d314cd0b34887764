#include "backend/kv/host_pool.h"

#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <mutex>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/status_matchers.h"

namespace sluice::testing {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

// What a pool says.
struct Said {
  std::mutex mu;
  std::vector<std::string> info;
  std::vector<std::string> warn;

  HostMemoryOptions Options() {
    HostMemoryOptions options;
    options.info = [this](const std::string& text) {
      std::lock_guard<std::mutex> lock(mu);
      info.push_back(text);
    };
    options.warn = [this](const std::string& text) {
      std::lock_guard<std::mutex> lock(mu);
      warn.push_back(text);
    };
    return options;
  }
};

TEST(HostPoolTest, TakesWhatWasAskedForAndNotAPageMore) {
  for (const int64_t size :
       {int64_t{1}, int64_t{4096}, int64_t{3} << 20, (int64_t{70} << 20) + 17}) {
    Said said;
    HostMemoryOptions options = said.Options();
    options.touch = true;
    absl::StatusOr<HostPool> pool = HostPool::Create(Bytes(size), options, "a pool");
    ASSERT_THAT(pool, IsOk());
    pool->WaitUntilTouched();
    EXPECT_TRUE(pool->touched());
    EXPECT_THAT(said.warn, IsEmpty());
    EXPECT_EQ(pool->size(), Bytes(size));
    const int64_t resident = pool->Resident().value();
    EXPECT_GE(resident, size);
    EXPECT_LT(resident, size + 4096);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(pool->data()) % (2U << 20), 0U);
    EXPECT_THAT(said.info, Contains(HasSubstr("touched in the background in")));
  }
}

TEST(HostPoolTest, WithoutATouchNothingIsTakenBeforeItIsUsed) {
  absl::StatusOr<HostPool> pool = HostPool::Create(MiB(64), {}, "a pool");
  ASSERT_THAT(pool, IsOk());
  EXPECT_TRUE(pool->touched());
  EXPECT_EQ(pool->Resident(), Bytes(0));
  pool->data()[MiB(33).value()] = std::byte{1};
  EXPECT_GT(pool->Resident(), Bytes(0));
  EXPECT_LE(pool->Resident(), MiB(2));
}

TEST(HostPoolTest, WhatIsWrittenWhileItIsTouchedStays) {
  HostMemoryOptions options;
  options.touch = true;
  absl::StatusOr<HostPool> pool = HostPool::Create(MiB(256), options, "a pool");
  ASSERT_THAT(pool, IsOk());
  for (int64_t at = 0; at < MiB(256).value(); at += 4096) {
    ASSERT_EQ(pool->data()[at], std::byte{0});
    pool->data()[at] = static_cast<std::byte>(at / 4096 % 251);
  }
  pool->WaitUntilTouched();
  for (int64_t at = 0; at < MiB(256).value(); at += 4096) {
    ASSERT_EQ(pool->data()[at], static_cast<std::byte>(at / 4096 % 251)) << at;
  }
}

TEST(HostPoolTest, GoesAwayWhileItIsTouched) {
  HostMemoryOptions options;
  options.touch = true;
  for (int i = 0; i < 20; ++i) {
    absl::StatusOr<HostPool> pool = HostPool::Create(MiB(512), options, "a pool");
    ASSERT_THAT(pool, IsOk());
    const HostPool moved = *std::move(pool);
    moved.data()[0] = std::byte{1};
  }
}

TEST(HostPoolTest, AnEmptyPoolIsAPool) {
  absl::StatusOr<HostPool> pool = HostPool::Create(Bytes(0), {}, "a pool");
  ASSERT_THAT(pool, IsOk());
  EXPECT_EQ(pool->Resident(), Bytes(0));
}

TEST(HostPoolTest, MoreThanTheMachineHasIsRefusedByName) {
  EXPECT_THAT(HostPool::Create(Bytes(int64_t{1} << 50), {}, "the host KV pool"),
              StatusIs(absl::StatusCode::kResourceExhausted,
                       HasSubstr("for the host KV pool: the machine has")));
}

// ---- NUMA --------------------------------------------------------------------------------------

TEST(HostPoolTest, ANodeThatIsNotThereIsRefusedNamingThoseThatAre) {
  HostMemoryOptions options;
  options.numa_node = 999;
  const absl::StatusOr<HostPool> pool = HostPool::Create(MiB(1), options, "a pool");
  if (absl::IsUnimplemented(pool.status())) GTEST_SKIP() << "built without libnuma";
  const std::string nodes = NumaNodes();
  EXPECT_THAT(pool,
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr(nodes.empty() ? "knows no NUMA nodes" : "there is " + nodes)));
}

TEST(HostPoolTest, TheNodesThereAreAndAutoAreTaken) {
  for (const int node : {0, HostMemoryOptions::kAutoNode}) {
    if (node == 0 && NumaNodes().empty()) continue;
    Said said;
    HostMemoryOptions options = said.Options();
    options.numa_node = node;
    options.touch = true;
    absl::StatusOr<HostPool> pool = HostPool::Create(MiB(4), options, "a pool");
    ASSERT_THAT(pool, IsOk());
    pool->WaitUntilTouched();
    EXPECT_GE(pool->Resident(), MiB(4));
    // A container may forbid it: then that is said.
    const bool told = !said.warn.empty() || !said.info.empty();
    EXPECT_TRUE(told);
  }
}

// ---- Lock --------------------------------------------------------------------------------------

// In a process of its own, whose limits and rights are other than ours.
int LockInChild(bool allowed) {
  const pid_t child = fork();
  if (child != 0) {
    int status = 0;
    waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  }
  rlimit limit = {};
  if (getrlimit(RLIMIT_MEMLOCK, &limit) != 0 || limit.rlim_cur < (rlim_t{4} << 20)) _exit(10);
  if (!allowed) limit.rlim_cur = rlim_t{1} << 20;
  if (setrlimit(RLIMIT_MEMLOCK, &limit) != 0) _exit(10);
  if (setuid(65534) != 0) _exit(11);  // nobody: without CAP_IPC_LOCK
  Said said;
  HostMemoryOptions options = said.Options();
  options.lock = true;
  const absl::StatusOr<HostPool> pool = HostPool::Create(MiB(4), options, "a pool");
  if (!pool.ok()) _exit(12);
  pool->data()[0] = std::byte{1};
  if (allowed) {
    const bool told = said.warn.empty() && said.info.size() == 1 &&
                      said.info[0].find("locked in memory") != std::string::npos;
    _exit(told ? 0 : 13);
  }
  const bool told = said.warn.size() == 1 &&
                    said.warn[0].find("RLIMIT_MEMLOCK is 1 MiB") != std::string::npos &&
                    said.warn[0].find("it takes 4 MiB") != std::string::npos &&
                    said.warn[0].find("raise it") != std::string::npos;
  _exit(told ? 0 : 14);
}

TEST(HostPoolTest, ALockBeyondTheLimitIsSaidAndThePoolServesAllTheSame) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root, to give up its rights";
  const int code = LockInChild(/*allowed=*/false);
  if (code == 10 || code == 11) GTEST_SKIP() << "cannot change the limits here";
  EXPECT_EQ(code, 0);
}

TEST(HostPoolTest, ALockWithinTheLimitIsTaken) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root, to give up its rights";
  const int code = LockInChild(/*allowed=*/true);
  if (code == 10 || code == 11) GTEST_SKIP() << "cannot change the limits here";
  EXPECT_EQ(code, 0);
}

}  // namespace
}  // namespace sluice::testing
