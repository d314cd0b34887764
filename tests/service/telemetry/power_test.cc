#include <filesystem>
#include <fstream>
#include <string>

#include "gmock/gmock.h"
#include "prometheus/collectable.h"
#include "prometheus/text_serializer.h"
#include "service/telemetry/power_meter.h"
#include "service/telemetry/power_source.h"

namespace sluice {
namespace {

using ::testing::HasSubstr;

const absl::Time kStart = absl::FromUnixSeconds(1000);

// A powercap folder that a test writes.
class RaplTest : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ = std::filesystem::path(::testing::TempDir()) /
              ::testing::UnitTest::GetInstance()->current_test_info()->name();
    std::filesystem::remove_all(folder_);
    std::filesystem::create_directories(folder_);
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  void SetZone(const std::string& zone, const std::string& name, int64_t energy_uj) {
    std::filesystem::create_directories(folder_ / zone);
    std::ofstream(folder_ / zone / "name") << name << "\n";
    std::ofstream(folder_ / zone / "energy_uj") << energy_uj << "\n";
    std::ofstream(folder_ / zone / "max_energy_range_uj") << 1000000000 << "\n";
  }

  std::filesystem::path folder_;
};

TEST_F(RaplTest, EnergyCountsFromTheStartAndPowerIsItsRate) {
  SetZone("intel-rapl:0", "package-0", 5000000);
  const auto rapl = OpenRapl(folder_, kStart);
  ASSERT_NE(rapl, nullptr);
  SetZone("intel-rapl:0", "package-0", 65000000);
  const auto readings = rapl->Read(kStart + absl::Seconds(2));
  ASSERT_EQ(readings.size(), 1U);
  EXPECT_EQ(readings[0].device, "package-0");
  EXPECT_DOUBLE_EQ(readings[0].energy.value(), 60);
  EXPECT_DOUBLE_EQ(readings[0].power.value(), 30);
}

TEST_F(RaplTest, ACounterThatWrapsLosesNothing) {
  SetZone("intel-rapl:0", "package-0", 999000000);
  const auto rapl = OpenRapl(folder_, kStart);
  SetZone("intel-rapl:0", "package-0", 4000000);
  EXPECT_NEAR(rapl->Read(kStart + absl::Seconds(1))[0].energy.value(), 5, 1e-9);
  SetZone("intel-rapl:0", "package-0", 6000000);
  EXPECT_NEAR(rapl->Read(kStart + absl::Seconds(2))[0].energy.value(), 7, 1e-9);
}

TEST_F(RaplTest, OfThePartsOnlyMemoryCountsAndNothingTwice) {
  SetZone("intel-rapl:0", "package-0", 0);
  SetZone("intel-rapl:0:0", "core", 0);
  SetZone("intel-rapl:0:1", "dram", 0);
  SetZone("intel-rapl:1", "psys", 0);
  const auto readings = OpenRapl(folder_, kStart)->Read(kStart);
  ASSERT_EQ(readings.size(), 2U);
  EXPECT_EQ(readings[0].device, "dram-0");
  EXPECT_EQ(readings[1].device, "package-0");
}

TEST_F(RaplTest, AbsentOrUnreadableMeansNoSource) {
  EXPECT_EQ(OpenRapl(folder_ / "nowhere", kStart), nullptr);
  EXPECT_EQ(OpenRapl(folder_, kStart), nullptr);
  SetZone("intel-rapl:0", "package-0", 1);
  std::filesystem::remove(folder_ / "intel-rapl:0" / "energy_uj");
  EXPECT_EQ(OpenRapl(folder_, kStart), nullptr);
}

TEST_F(RaplTest, AZoneThatCannotBeReadAnyMoreKeepsItsEnergy) {
  SetZone("intel-rapl:0", "package-0", 0);
  const auto rapl = OpenRapl(folder_, kStart);
  SetZone("intel-rapl:0", "package-0", 3000000);
  rapl->Read(kStart + absl::Seconds(1));
  std::filesystem::remove(folder_ / "intel-rapl:0" / "energy_uj");
  const auto readings = rapl->Read(kStart + absl::Seconds(2));
  EXPECT_DOUBLE_EQ(readings[0].energy.value(), 3);
  EXPECT_DOUBLE_EQ(readings[0].power.value(), 0);
}

TEST(NvmlTest, GpusCountTheirEnergyOrArePricedByTheirPower) {
  const auto nvml = OpenNvml(FAKE_NVML, kStart);
  ASSERT_NE(nvml, nullptr);
  const auto readings = nvml->Read(kStart + absl::Seconds(4));
  ASSERT_EQ(readings.size(), 2U);
  EXPECT_EQ(readings[0].device, "gpu0");
  EXPECT_DOUBLE_EQ(readings[0].energy.value(), 100);
  EXPECT_DOUBLE_EQ(readings[0].power.value(), 321.5);
  EXPECT_EQ(readings[1].device, "gpu1");
  EXPECT_DOUBLE_EQ(readings[1].energy.value(), 200);
  EXPECT_DOUBLE_EQ(readings[1].power.value(), 50);
}

TEST(NvmlTest, NoLibraryMeansNoSource) {
  EXPECT_EQ(OpenNvml("libno-such-library.so.1", kStart), nullptr);
  EXPECT_EQ(OpenNvml("libm.so.6", kStart), nullptr);  // a library, but not that one
}

std::string Scrape(const PowerMeter& meter) {
  return prometheus::TextSerializer().Serialize(meter.Collect());
}

TEST(PowerMeterTest, WithoutSourcesThereIsNoSeries) {
  std::vector<std::unique_ptr<PowerSource>> none;
  none.push_back(nullptr);
  const PowerMeter meter(std::move(none), [] { return kStart; });
  EXPECT_EQ(Scrape(meter), "");
  EXPECT_EQ(meter.DeviceNames(), "none");
}

TEST(PowerMeterTest, EveryDeviceHasEnergyAndPower) {
  std::vector<std::unique_ptr<PowerSource>> sources;
  sources.push_back(OpenNvml(FAKE_NVML, kStart));
  const PowerMeter meter(
      std::move(sources), [] { return kStart; }, absl::Hours(1));
  EXPECT_EQ(meter.DeviceNames(), "gpu0, gpu1");
  const std::string text = Scrape(meter);
  EXPECT_THAT(text, HasSubstr("sluice_energy_joules_total{device=\"gpu0\"} 100\n"));
  EXPECT_THAT(text, HasSubstr("sluice_power_watts{device=\"gpu1\"} 50\n"));
}

}  // namespace
}  // namespace sluice
