#include "service/telemetry/gpu_meter.h"

#include <filesystem>
#include <fstream>
#include <string>

#include "gmock/gmock.h"
#include "prometheus/text_serializer.h"

namespace sluice {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr char kNowhere[] = "/nowhere";

std::string Scrape(const GpuMeter& meter) {
  return prometheus::TextSerializer().Serialize(meter.Collect());
}

TEST(GpuLinkTest, ReadsLinkSlotAndCard) {
  const auto library = NvmlLibrary::Open(FAKE_NVML);
  ASSERT_NE(library, nullptr);
  const std::vector<GpuLink> links = ReadGpuLinks(*library, kNowhere);
  ASSERT_EQ(links.size(), 2U);
  EXPECT_EQ(links[1].device, "gpu1");
  EXPECT_EQ(links[1].name, "Slow card");
  EXPECT_EQ(links[1].bus, "0000:af:00.0");
  EXPECT_EQ(links[1].now, (PcieLink{1, 8}));
  EXPECT_EQ(links[1].slot, (PcieLink{3, 8}));
  EXPECT_EQ(links[1].card, (PcieLink{5, 16}));
}

TEST(GpuLinkTest, ASlowSlotIsReportedAndAnIdleLinkIsNot) {
  const auto library = NvmlLibrary::Open(FAKE_NVML);
  ASSERT_NE(library, nullptr);
  const std::vector<GpuLink> links = ReadGpuLinks(*library, kNowhere);
  ASSERT_EQ(links.size(), 2U);
  EXPECT_EQ(SlowSlotWarning(links[0]), std::nullopt);
  EXPECT_EQ(SlowSlotWarning(links[1]),
            "gpu1 (Slow card, 0000:af:00.0): PCIe gen 3 x8, expected gen 5 x16: copies run at 12 % "
            "of what the card can do; check slot, riser and firmware settings");
}

TEST(GpuLinkTest, TheKernelKnowsLanesThatTheSlotDoesNotHave) {
  const std::filesystem::path folder =
      std::filesystem::path(::testing::TempDir()) / "gpu_link_lanes";
  std::filesystem::create_directories(folder / "0000:3b:00.0");
  std::ofstream(folder / "0000:3b:00.0" / "max_link_width") << "32\n";
  const auto library = NvmlLibrary::Open(FAKE_NVML);
  ASSERT_NE(library, nullptr);
  const std::vector<GpuLink> links = ReadGpuLinks(*library, folder);
  std::filesystem::remove_all(folder);
  EXPECT_EQ(links[0].card.lanes, 32);
  EXPECT_THAT(SlowSlotWarning(links[0]).value_or(""),
              HasSubstr("PCIe gen 5 x16, expected gen 5 x32: copies run at 50 %"));
}

TEST(GpuLinkTest, WhatIsNotKnownIsNoReasonToWarn) {
  GpuLink link;
  link.slot = {3, 8};
  EXPECT_EQ(SlowSlotWarning(link), std::nullopt);
  link.card = {0, 16};
  EXPECT_EQ(SlowSlotWarning(link), std::nullopt);
}

TEST(GpuLinkTest, RatesAreThoseOfTheStandard) {
  EXPECT_NEAR((PcieLink{3, 16}.Rate().value()), 15.75e9, 0.01e9);
  EXPECT_NEAR((PcieLink{5, 16}.Rate().value()), 63.0e9, 0.1e9);
  EXPECT_EQ((PcieLink{0, 16}.Rate().value()), 0);
}

TEST(GpuMeterTest, ExportsWhatEachDeviceKnows) {
  const GpuMeter meter(NvmlLibrary::Open(FAKE_NVML), kNowhere, absl::Hours(1));
  const std::string text = Scrape(meter);
  for (const char* line : {
           "sluice_gpu_pcie_generation{device=\"gpu1\",of=\"slot\"} 3\n",
           "sluice_gpu_pcie_generation{device=\"gpu1\",of=\"card\"} 5\n",
           "sluice_gpu_pcie_lanes{device=\"gpu1\",of=\"now\"} 8\n",
           "sluice_gpu_pcie_bytes_per_second{device=\"gpu0\",direction=\"to_device\"} 30000000\n",
           "sluice_gpu_pcie_bytes_per_second{device=\"gpu0\",direction=\"to_host\"} 2000000\n",
           "sluice_gpu_pcie_replays_total{device=\"gpu0\"} 7\n",
           "sluice_gpu_clock_hertz{clock=\"sm\",device=\"gpu0\"} 1980000000\n",
           "sluice_gpu_clock_hertz{clock=\"memory\",device=\"gpu0\"} 2619000000\n",
       }) {
    EXPECT_THAT(text, HasSubstr(line));
  }
  EXPECT_THAT(text, Not(HasSubstr("device=\"gpu1\"} 1980")));
  EXPECT_THAT(text, Not(HasSubstr("sluice_gpu_pcie_replays_total{device=\"gpu1\"")));
}

TEST(GpuMeterTest, SlowSlotsAreNamed) {
  const GpuMeter meter(NvmlLibrary::Open(FAKE_NVML), kNowhere, absl::Hours(1));
  EXPECT_THAT(meter.SlowSlots(), ElementsAre(HasSubstr("gpu1 (Slow card")));
}

TEST(GpuMeterTest, WithoutTheLibraryThereIsNoSeries) {
  EXPECT_EQ(NvmlLibrary::Open("libno-such-library.so.1"), nullptr);
  const GpuMeter meter(nullptr, kNowhere);
  EXPECT_EQ(Scrape(meter), "");
  EXPECT_TRUE(meter.SlowSlots().empty());
}

}  // namespace
}  // namespace sluice
