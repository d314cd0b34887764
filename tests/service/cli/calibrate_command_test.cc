#include "service/cli/calibrate_command.h"

#include <sstream>

#include "gtest/gtest.h"
#include "service/cli/app.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"

namespace sluice::testing {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

absl::Status Parse(CalibrateCommand& command, const std::vector<std::string>& args) {
  FlagSet flags;
  command.DefineFlags(flags);
  return ParseCommandLine(command, flags, args);
}

TEST(CalibrateCommandTest, TakesItsFlags) {
  CalibrateCommand command;
  ASSERT_THAT(Parse(command, {"--model", "m", "--disk", "d", "--out", "o", "--quick", "--threads",
                              "3", "--backend", "cpu"}),
              IsOk());
  EXPECT_EQ(command.options().model, "m");
  EXPECT_EQ(command.options().disk, "d");
  EXPECT_EQ(command.options().out, "o");
  EXPECT_EQ(command.options().threads, 3);
  EXPECT_TRUE(command.options().quick);
}

TEST(CalibrateCommandTest, AnUnknownBackendIsRefusedWithTheChoices) {
  CalibrateCommand command;
  EXPECT_THAT(Parse(command, {"--backend", "tpu"}),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(HasSubstr("tpu"), HasSubstr("cpu, cuda"))));
}

// A build without CUDA says how to get one that has it, one with CUDA what is wrong with the
// device.
TEST(CalibrateCommandTest, AGpuThatCannotBeMeasuredIsSaidInOneLine) {
  CalibrateCommand command;
  ASSERT_THAT(Parse(command, {"--backend", "cuda", "--device", "no-such-gpu"}), IsOk());
  EXPECT_EQ(command.options().device, "no-such-gpu");
  const absl::Status status =
      CudaProbe::Open(command.options().device, MiB(1), ProbeControl()).status();
  EXPECT_FALSE(status.ok());
  EXPECT_EQ(status.message().find('\n'), absl::string_view::npos);
  if (absl::IsUnimplemented(status)) {
    EXPECT_THAT(std::string(status.message()), HasSubstr("cmake --preset cuda"));
  }
}

TEST(CalibrateCommandTest, FindsTheNearestDirectoryThatExists) {
  const TempDir dir;
  EXPECT_EQ(NearestDirectory(dir.File("a/b/c.json")), dir.path());
  EXPECT_EQ(NearestDirectory(dir.File("c.json")), dir.path());
}

TEST(CalibrateCommandTest, FiguresAreATable) {
  Measured figure;
  figure.what = "reading memory";
  figure.unit = UnitKind::kByteRate;
  figure.value = 2e9;
  figure.low = 1e9;
  figure.high = 3e9;
  figure.repeats = 7;
  const std::string table = RenderFigures({figure});
  for (const char* text : {"probe", "reading memory", "2 GB/s", "1 GB/s", "3 GB/s", "7"}) {
    EXPECT_THAT(table, HasSubstr(text));
  }
}

}  // namespace
}  // namespace sluice::testing
