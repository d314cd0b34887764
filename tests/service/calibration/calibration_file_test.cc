#include "service/calibration/calibration_file.h"

#include <filesystem>

#include "gtest/gtest.h"
#include "service/profiles/catalogue.h"
#include "tests/support/random_checkpoint.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"

namespace sluice::testing {
namespace {

using ::testing::AllOf;
using ::testing::EndsWith;
using ::testing::HasSubstr;

constexpr auto kLoad = static_cast<size_t>(LinkDirection::kHostToDevice);

HardwareProfile Profile() { return *Catalogue::Load()->FindHardware("cpu-default"); }

// A directory with a model's config.json, and room for a calibration file.
class CalibrationFileTest : public ::testing::Test {
 protected:
  CalibrationFileTest() {
    dir_.Write("config.json", RandomModelConfigJson({.layers = 4, .dtype = DType::kBF16}));
    request_.model = dir_.path();
    request_.path = dir_.File("hardware.json");
  }
  TempDir dir_;
  CalibrationRequest request_;
};

TEST_F(CalibrationFileTest, WhatIsWrittenIsWhatCostsStartFrom) {
  HardwareProfile profile = Profile();
  profile.name = "mine";
  ASSERT_THAT(WriteCalibration(request_.path, profile), IsOk());
  const auto slow = LoadCalibration(request_);
  ASSERT_THAT(slow, IsOk());
  EXPECT_TRUE(slow->measured);
  EXPECT_THAT(slow->provenance, AllOf(HasSubstr(request_.path), HasSubstr("mine")));
  EXPECT_EQ(slow->model.layers, 4);
  EXPECT_THAT(slow->cost.Validate(), IsOk());

  ComputeRate& rate = profile.compute[static_cast<size_t>(NumberFormat::kBf16)];
  rate.peak_dense = rate.peak_dense * 10;
  rate.sustained = rate.sustained * 10;
  ASSERT_THAT(WriteCalibration(request_.path, profile), IsOk());
  const auto fast = LoadCalibration(request_);
  ASSERT_THAT(fast, IsOk());
  EXPECT_NEAR(slow->cost.per_token / fast->cost.per_token, 10, 1e-6);
}

TEST_F(CalibrationFileTest, NothingButTheFileIsLeft) {
  const TempDir empty;
  ASSERT_THAT(WriteCalibration(empty.File("a/b/hardware.json"), Profile()), IsOk());
  int files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(empty.File("a/b"))) {
    EXPECT_EQ(entry.path().filename(), "hardware.json");
    ++files;
  }
  EXPECT_EQ(files, 1);
}

TEST_F(CalibrationFileTest, APathThatCannotBeWrittenIsNamedAndLeftAlone) {
  const std::string file = dir_.Write("file", "kept");
  EXPECT_THAT(WriteCalibration(file + "/hardware.json", Profile()),
              StatusIs(absl::StatusCode::kUnavailable,
                       AllOf(HasSubstr(file), HasSubstr("cannot be written"))));
  EXPECT_EQ(dir_.Read("file"), "kept");
}

TEST_F(CalibrationFileTest, AFileThatWasNamedMustBeThereAndRight) {
  EXPECT_THAT(LoadCalibration(request_),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr(request_.path)));
  dir_.Write("hardware.json", "{\"name\": \"x\"}");
  EXPECT_THAT(LoadCalibration(request_),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(request_.path)));
}

TEST_F(CalibrationFileTest, ThePaceOfTheLinkBoundsCopies) {
  ASSERT_THAT(WriteCalibration(request_.path, Profile()), IsOk());
  request_.link = ByteRate(1e9);
  const auto paced = LoadCalibration(request_);
  ASSERT_THAT(paced, IsOk());
  EXPECT_DOUBLE_EQ(paced->cost.links[kLoad].per_byte.value(), 1e-9);
  EXPECT_DOUBLE_EQ(paced->cost.duplex_share, 1) << "memory carries 6 GB/s, both ways want 2";
  request_.link = ByteRate(100e9);
  const auto unpaced = LoadCalibration(request_);
  ASSERT_THAT(unpaced, IsOk());
  EXPECT_DOUBLE_EQ(unpaced->cost.links[kLoad].per_byte.value(), 1 / 4e9) << "memory is the limit";
  EXPECT_DOUBLE_EQ(unpaced->cost.duplex_share, 0.75);
}

TEST_F(CalibrationFileTest, TheModelMustHaveAConfig) {
  ASSERT_THAT(WriteCalibration(request_.path, Profile()), IsOk());
  request_.model = dir_.File("none");
  EXPECT_THAT(LoadCalibration(request_),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("none/config.json")));
}

TEST_F(CalibrationFileTest, ForeignFormatsDecideWhichRatesCount) {
  ASSERT_THAT(WriteCalibration(request_.path, Profile()), IsOk());
  const auto narrow = LoadCalibration(request_);
  request_.weights = NumberFormat::kF32;
  request_.kv = NumberFormat::kF32;
  const auto wide = LoadCalibration(request_);
  ASSERT_THAT(narrow, IsOk());
  ASSERT_THAT(wide, IsOk());
  EXPECT_NEAR(wide->cost.weight_read / narrow->cost.weight_read, 2, 1e-9);
  EXPECT_EQ(wide->cost.kv_bytes_per_token.value(), 2 * narrow->cost.kv_bytes_per_token.value());
}

TEST(DefaultCalibrationPathTest, LiesInTheUsersCache) {
  const std::string path = DefaultCalibrationPath();
  if (path.empty()) GTEST_SKIP() << "this user has no home directory";
  EXPECT_THAT(path, EndsWith("/.cache/sluice/hardware.json"));
}

}  // namespace
}  // namespace sluice::testing
