#include "service/cli/child_process.h"

#include <csignal>

#include "gtest/gtest.h"
#include "tests/support/status_matchers.h"

namespace sluice {
namespace {

using ::sluice::testing::IsOk;
using ::sluice::testing::StatusIs;
using ::testing::HasSubstr;

absl::StatusOr<std::unique_ptr<ChildProcess>> Shell(const std::string& script) {
  return ChildProcess::Start({"/bin/sh", "-c", script});
}

TEST(ChildProcessTest, FindsTheLineItWaitsFor) {
  auto child = Shell("echo one; echo 'ready: 7'; read -r never");
  ASSERT_THAT(child, IsOk());
  const absl::StatusOr<std::string> line = (*child)->WaitForLine("ready", absl::Seconds(30));
  ASSERT_THAT(line, IsOk());
  EXPECT_EQ(*line, "ready: 7");
}

TEST(ChildProcessTest, ReportsTheLastWordsOfAnEarlyEnd) {
  auto child = Shell("echo 'no such model' >&2; exit 3");
  ASSERT_THAT(child, IsOk());
  EXPECT_THAT((*child)->WaitForLine("ready", absl::Seconds(30)),
              StatusIs(absl::StatusCode::kUnavailable, HasSubstr("no such model")));
  EXPECT_EQ((*child)->Wait(), 3);
}

TEST(ChildProcessTest, AProgramThatIsNotThereExitsWith127) {
  auto child = ChildProcess::Start({"/nowhere/program"});
  ASSERT_THAT(child, IsOk());
  EXPECT_EQ((*child)->Wait(), 127);
}

TEST(ChildProcessTest, SignalsReachTheChildAndShowInTheExitCode) {
  auto child = Shell("echo up; exec cat /dev/zero > /dev/null");
  ASSERT_THAT(child, IsOk());
  ASSERT_THAT((*child)->WaitForLine("up", absl::Seconds(30)), IsOk());
  (*child)->Signal(SIGTERM);
  EXPECT_EQ((*child)->Wait(), 128 + SIGTERM);
}

TEST(ChildProcessTest, GivesUpWaitingAfterTheTimeout) {
  auto child = Shell("echo up; exec cat /dev/zero > /dev/null");
  ASSERT_THAT(child, IsOk());
  EXPECT_THAT((*child)->WaitForLine("ready", absl::Milliseconds(50)),
              StatusIs(absl::StatusCode::kDeadlineExceeded, HasSubstr("no answer after 50ms")));
}

}  // namespace
}  // namespace sluice
