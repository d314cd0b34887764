#include "backend/disk_probe.h"

#include <filesystem>

#include "gtest/gtest.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"

namespace sluice::testing {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

ProbeControl Short() {
  ProbeControl control;
  control.time = absl::Milliseconds(1);
  return control;
}

TEST(DiskProbeTest, MeasuresAndLeavesNothingBehind) {
  const TempDir dir;
  const auto rates = ProbeDisk(dir.path(), MiB(8), Short());
  ASSERT_THAT(rates, IsOk());
  EXPECT_EQ(rates->piece, MiB(4));
  for (const RunTimes& times : {rates->write, rates->read, rates->latency}) {
    EXPECT_GT(times.best, absl::ZeroDuration());
    EXPECT_LE(times.best, times.median);
    EXPECT_LE(times.median, times.high);
  }
  EXPECT_LT(rates->latency.best, rates->read.high) << "4 KiB against 4 MiB";
  EXPECT_TRUE(std::filesystem::is_empty(dir.path()));
}

TEST(DiskProbeTest, NothingIsThereWhileItMeasures) {
  const TempDir dir;
  ProbeControl control = Short();
  bool empty = true;
  control.cancelled = [&] {
    empty = empty && std::filesystem::is_empty(dir.path());
    return false;
  };
  ASSERT_THAT(ProbeDisk(dir.path(), MiB(4), control), IsOk());
  EXPECT_TRUE(empty) << "a killed process would leave its file";
}

TEST(DiskProbeTest, ADirectoryThatIsNotThereIsNamed) {
  const TempDir dir;
  EXPECT_THAT(ProbeDisk(dir.File("none"), MiB(4), Short()),
              StatusIs(absl::StatusCode::kNotFound,
                       AllOf(HasSubstr(dir.File("none")), HasSubstr("that exists"))));
}

TEST(DiskProbeTest, CanBeCancelled) {
  const TempDir dir;
  ProbeControl control = Short();
  control.cancelled = [] { return true; };
  EXPECT_THAT(ProbeDisk(dir.path(), MiB(4), control),
              StatusIs(absl::StatusCode::kCancelled, HasSubstr("interrupted")));
}

}  // namespace
}  // namespace sluice::testing
