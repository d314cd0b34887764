#include "backend/kv/disk_lock.h"

#include <unistd.h>

#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"

namespace sluice::testing {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

TEST(DiskLockTest, ASecondTakerIsToldWhoHasIt) {
  const TempDir dir;
  EXPECT_EQ(DiskLock::Holder(dir.path()), 0);
  absl::StatusOr<std::unique_ptr<DiskLock>> first = DiskLock::Acquire(dir.path());
  ASSERT_THAT(first, IsOk());
  EXPECT_EQ(DiskLock::Holder(dir.path()), getpid());
  EXPECT_THAT(
      DiskLock::Acquire(dir.path()),
      StatusIs(absl::StatusCode::kFailedPrecondition,
               AllOf(HasSubstr(dir.path()), HasSubstr("process " + std::to_string(getpid())),
                     HasSubstr("another directory"))));
  first->reset();
  EXPECT_EQ(DiskLock::Holder(dir.path()), 0);
  EXPECT_THAT(DiskLock::Acquire(dir.path()), IsOk());
}

TEST(DiskLockTest, MakesTheDirectory) {
  const TempDir dir;
  EXPECT_THAT(DiskLock::Acquire(dir.File("a/b")), IsOk());
}

TEST(DiskLockTest, NamesADirectoryThatCannotBe) {
  const TempDir dir;
  dir.Write("file", "");
  EXPECT_THAT(DiskLock::Acquire(dir.File("file")),
              StatusIs(absl::StatusCode::kUnavailable, HasSubstr(dir.File("file"))));
}

}  // namespace
}  // namespace sluice::testing
