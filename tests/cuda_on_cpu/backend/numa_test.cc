#include "backend/cuda/device/numa.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>

#include <filesystem>
#include <fstream>

namespace sluice::cuda {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

// A tree of files that looks like sysfs.
class NumaTest : public ::testing::Test {
 protected:
  void SetUp() override {
    root_ =
        std::filesystem::path(::testing::TempDir()) /
        ("numa_" + std::string(::testing::UnitTest::GetInstance()->current_test_info()->name()));
    std::filesystem::remove_all(root_);
  }
  void TearDown() override { std::filesystem::remove_all(root_); }

  void Write(const std::string& path, const std::string& text) {
    const std::filesystem::path file = root_ / path;
    std::filesystem::create_directories(file.parent_path());
    std::ofstream(file) << text;
  }
  std::string root() const { return root_.string(); }

  std::filesystem::path root_;
};

TEST_F(NumaTest, ASlotHasANodeOrNone) {
  Write("bus/pci/devices/0000:3b:00.0/numa_node", "1\n");
  Write("bus/pci/devices/0000:5e:00.0/numa_node", "-1\n");
  Write("bus/pci/devices/0000:af:00.0/numa_node", "none\n");
  EXPECT_EQ(NumaNodeOfPci("0000:3b:00.0", root()), 1);
  EXPECT_EQ(NumaNodeOfPci("0000:5e:00.0", root()), std::nullopt);
  EXPECT_EQ(NumaNodeOfPci("0000:af:00.0", root()), std::nullopt);
  EXPECT_EQ(NumaNodeOfPci("0000:00:00.0", root()), std::nullopt);
}

TEST_F(NumaTest, ANodeHasCpus) {
  Write("devices/system/node/node1/cpulist", "0-2,8\n");
  const auto cpus = CpusOfNode(1, root());
  ASSERT_TRUE(cpus.ok()) << cpus.status();
  EXPECT_THAT(*cpus, ElementsAre(0, 1, 2, 8));
  const absl::Status missing = CpusOfNode(7, root()).status();
  EXPECT_EQ(missing.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(missing.message()), HasSubstr("no NUMA node 7"));
  EXPECT_EQ(RunOnNode(7, root()).code(), absl::StatusCode::kNotFound);
}

TEST_F(NumaTest, ListsOfCpusAreRead) {
  EXPECT_THAT(*ParseCpuList("3"), ElementsAre(3));
  EXPECT_THAT(*ParseCpuList("0-1,4-4,1023\n"), ElementsAre(0, 1, 4, 1023));
  EXPECT_THAT(*ParseCpuList(""), ElementsAre());
  for (const char* bad : {"a", "1-", "-1", "3-1", "1,,2", "0-1-2", "1024", "0-99999"}) {
    const absl::Status status = ParseCpuList(bad).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << bad;
    EXPECT_THAT(std::string(status.message()), HasSubstr(bad));
  }
}

TEST_F(NumaTest, MemoryMayPreferANode) {
  constexpr size_t kBytes = 1 << 16;
  void* const data =
      mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(data, MAP_FAILED);
  // Sandboxes may forbid it, and small kernels may not know it; then it says so.
  const absl::Status status = PreferNode(data, Bytes(kBytes), 0);
  if (!status.ok()) {
    EXPECT_THAT(std::string(status.message()), HasSubstr("mbind to NUMA node 0: "));
  }
  EXPECT_EQ(PreferNode(data, Bytes(kBytes), -1).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(PreferNode(data, Bytes(kBytes), 1024).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_FALSE(PreferNode(data, Bytes(kBytes), 1000).ok());
  munmap(data, kBytes);
}

}  // namespace
}  // namespace sluice::cuda
