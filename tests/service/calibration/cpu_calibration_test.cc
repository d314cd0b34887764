// The whole calibration with tiny probes: what it fills in, not how fast anything is.
#include "service/calibration/cpu_calibration.h"

#include <filesystem>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "service/profiles/profile_files.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"

namespace sluice::testing {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

CpuCalibrationOptions Tiny(const std::string& disk) {
  CpuCalibrationOptions options;
  options.shape = {64, 128, 4, 2, 16};
  options.layers = 2;
  options.threads = 1;
  options.disk = disk;
  options.large = MiB(4);
  options.control.time = absl::Microseconds(100);
  options.machine = "a machine";
  options.date = "2026-01-02";
  return options;
}

void IgnoreProgress(int64_t, int64_t, const std::string&) {}

TEST(CpuCalibrationTest, MakesAProfileThatReadsBack) {
  const TempDir dir;
  const auto calibration = CalibrateCpu(Tiny(dir.path()), IgnoreProgress);
  ASSERT_THAT(calibration, IsOk());
  const HardwareProfile& profile = calibration->profile;
  EXPECT_THAT(profile.Validate(), IsOk());
  EXPECT_THAT(profile.description, AllOf(HasSubstr("a machine"), HasSubstr("1 thread"),
                                         HasSubstr("layers of 64 x 128")));
  const auto again = HardwareFromJson(HardwareToJson(profile), "file");
  ASSERT_THAT(again, IsOk());
  EXPECT_EQ(again->attention_sustained, profile.attention_sustained);
  EXPECT_EQ(again->host_attention, profile.host_attention);
  EXPECT_GT(profile.in_place_read, ByteRate(0));
  EXPECT_EQ(again->in_place_read, profile.in_place_read);
  EXPECT_GE(profile.in_place_reread, profile.in_place_read);
  EXPECT_EQ(again->in_place_reread, profile.in_place_reread);
  EXPECT_EQ(again->in_place_rows, 32);
  EXPECT_EQ(again->to_device.sustained, profile.to_device.sustained);
  EXPECT_EQ(again->sources, profile.sources);
  EXPECT_TRUE(std::filesystem::is_empty(dir.path()));
}

TEST(CpuCalibrationTest, EverySectionSaysWhereItsNumbersAreFrom) {
  const TempDir dir;
  const auto calibration = CalibrateCpu(Tiny(dir.path()), IgnoreProgress);
  ASSERT_THAT(calibration, IsOk());
  for (const char* section : {"compute.bf16", "compute.f32", "attention", "memory_bandwidth",
                              "link", "step", "host", "in_place", "disk"}) {
    EXPECT_THAT(calibration->profile.sources.at(section),
                AllOf(HasSubstr("sluice calibrate, 2026-01-02"), HasSubstr("80 % of")))
        << section;
  }
  EXPECT_THAT(calibration->profile.sources.at("host"), HasSubstr("attention in place, decode"));
  EXPECT_THAT(calibration->profile.sources.at("power"), HasSubstr("not measured"));
}

TEST(CpuCalibrationTest, ProgressEndsAtItsTotal) {
  std::vector<int64_t> seen;
  int64_t of = 0;
  const auto calibration =
      CalibrateCpu(Tiny(""), [&](int64_t done, int64_t total, const std::string& probe) {
        EXPECT_FALSE(probe.empty());
        seen.push_back(done);
        of = total;
      });
  ASSERT_THAT(calibration, IsOk());
  for (size_t i = 0; i < seen.size(); ++i) EXPECT_EQ(seen[i], static_cast<int64_t>(i));
  EXPECT_EQ(seen.back(), of);
}

TEST(CpuCalibrationTest, WithoutADiskTheProfileHasNone) {
  const auto calibration = CalibrateCpu(Tiny("/nowhere/at/all"), IgnoreProgress);
  ASSERT_THAT(calibration, IsOk());
  EXPECT_FALSE(calibration->profile.disk.exists());
}

TEST(CpuCalibrationTest, ADiskThatWasAskedForMustBeThere) {
  CpuCalibrationOptions options = Tiny("/nowhere/at/all");
  options.require_disk = true;
  EXPECT_THAT(CalibrateCpu(options, IgnoreProgress),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("/nowhere/at/all")));
}

TEST(CpuCalibrationTest, CancellingEndsIt) {
  CpuCalibrationOptions options = Tiny("");
  int64_t probes = 0;
  options.control.cancelled = [&] { return probes == 3; };
  EXPECT_THAT(
      CalibrateCpu(options, [&](int64_t done, int64_t, const std::string&) { probes = done; }),
      StatusIs(absl::StatusCode::kCancelled, HasSubstr("interrupted")));
}

}  // namespace
}  // namespace sluice::testing
