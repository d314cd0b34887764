// Hardware files: reading, writing, and everything that can be wrong with them.
#include <nlohmann/json.hpp>
#include <string>

#include "gtest/gtest.h"
#include "scheduler/cost/hardware_profile.h"
#include "service/profiles/built_in.h"
#include "service/profiles/catalogue.h"
#include "service/profiles/profile_files.h"
#include "tests/support/status_matchers.h"

namespace sluice {
namespace {

using nlohmann::json;
using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::IsOk;
using testing::StatusIs;

constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;

json GoodFile() {
  for (const BuiltInFile& file : BuiltInProfiles()) {
    if (std::string(file.path) == "hardware/h100-pcie5.json") return json::parse(file.text);
  }
  return json();
}

TEST(HardwareProfilesTest, ReadsEveryNumberOfH100) {
  const auto h = HardwareFromJson(GoodFile().dump(), "h.json");
  ASSERT_THAT(h, IsOk());
  EXPECT_EQ(h->name, "h100-pcie5");
  const ComputeRate& bf16 = h->compute[static_cast<size_t>(NumberFormat::kBf16)];
  EXPECT_EQ(bf16.peak_dense, FlopRate(989.4e12));
  EXPECT_EQ(bf16.peak_sparse, FlopRate(1978.9e12));
  EXPECT_EQ(h->memory, Bytes(80'000'000'000));
  EXPECT_EQ(h->memory_bandwidth_peak, ByteRate(3.35e12));
  EXPECT_EQ(h->to_device.peak, ByteRate(64e9));
  EXPECT_EQ(h->to_device.sustained, ByteRate(55e9));
  EXPECT_EQ(h->to_host.sustained, ByteRate(53e9));
  EXPECT_DOUBLE_EQ(h->copy_overhead.value(), 0.55e-6);
  EXPECT_EQ(h->tdp, Watts(700));
  EXPECT_EQ(h->paper_compute, FlopRate(1882e12));
  EXPECT_THAT(h->sources.at("compute.bf16"), HasSubstr("data sheet"));
}

TEST(HardwareProfilesTest, FormatsADeviceLacksFallBackToBf16) {
  const auto catalogue = Catalogue::Load();
  ASSERT_THAT(catalogue, IsOk());
  const auto a100 = catalogue->FindHardware("a100-pcie4");
  ASSERT_THAT(a100, IsOk());
  EXPECT_EQ(a100->RateFor(NumberFormat::kFp8).peak_dense, FlopRate(312e12));
  EXPECT_EQ(a100->RateFor(NumberFormat::kInt8).peak_dense, FlopRate(624e12));
  EXPECT_EQ(a100->RateFor(NumberFormat::kF32).peak_dense, FlopRate(19.5e12));
}

// What a data sheet and physics say of every profile.
TEST(HardwareProfilesTest, EveryBuiltInProfileIsPlausible) {
  const auto catalogue = Catalogue::Load();
  ASSERT_THAT(catalogue, IsOk());
  EXPECT_GE(catalogue->hardware().size(), 14u);
  for (const auto& [name, h] : catalogue->hardware()) {
    SCOPED_TRACE(name);
    EXPECT_THAT(h.Validate(), IsOk());
    EXPECT_LE(h.attention_sustained, h.RateFor(NumberFormat::kBf16).sustained);
    EXPECT_LE(h.duplex_sustained, h.to_device.sustained + h.to_host.sustained);
    EXPECT_LT(h.to_device.sustained, h.memory_bandwidth_sustained);
    for (const auto& [key, source] : h.sources) EXPECT_GE(source.size(), 4u) << key;
  }
}

TEST(HardwareProfilesTest, WritingAndReadingGivesTheSameProfile) {
  const auto catalogue = Catalogue::Load();
  ASSERT_THAT(catalogue, IsOk());
  for (const auto& [name, h] : catalogue->hardware()) {
    const std::string text = HardwareToJson(h);
    const auto again = HardwareFromJson(text, name);
    ASSERT_THAT(again, IsOk()) << text;
    EXPECT_EQ(HardwareToJson(*again), text);
    for (size_t i = 0; i < h.compute.size(); ++i) {
      EXPECT_EQ(again->compute[i].sustained, h.compute[i].sustained);
      EXPECT_EQ(again->compute[i].peak_sparse, h.compute[i].peak_sparse);
    }
    EXPECT_EQ(again->memory, h.memory);
    EXPECT_EQ(again->copy_overhead, h.copy_overhead);
    EXPECT_EQ(again->disk.read, h.disk.read);
    EXPECT_EQ(again->remote.latency, h.remote.latency);
    EXPECT_EQ(again->transfer, h.transfer);
    EXPECT_EQ(again->sources, h.sources);
  }
}

TEST(HardwareProfilesTest, AMeasuredProfileReadsBackToTheLastBit) {
  auto h = HardwareFromJson(GoodFile().dump(), "h.json");
  ASSERT_THAT(h, IsOk());
  h->to_device.sustained = ByteRate(1e11 / 7);
  h->duplex_sustained = ByteRate(2e11 / 7);
  h->copy_latency = Seconds(1e-5 / 3);
  h->sources["link"] = "measured; 95 % interval 14.1 to 14.4 GB/s";
  const auto again = HardwareFromJson(HardwareToJson(*h), "again.json");
  ASSERT_THAT(again, IsOk());
  EXPECT_EQ(again->to_device.sustained, h->to_device.sustained);
  EXPECT_EQ(again->copy_latency, h->copy_latency);
  EXPECT_EQ(again->sources.at("link"), h->sources.at("link"));
}

TEST(HardwareProfilesTest, WhereAGatherKernelIsFasterMayBeMissingNoneOrMeasured) {
  json file = GoodFile();
  auto h = HardwareFromJson(file.dump(), "h.json");
  ASSERT_THAT(h, IsOk());
  EXPECT_FALSE(h->kernel_below.has_value());
  EXPECT_EQ(HardwareToJson(*h).find("kernel_below"), std::string::npos);
  file["link"]["kernel_below"] = "none";
  h = HardwareFromJson(file.dump(), "h.json");
  ASSERT_THAT(h, IsOk());
  EXPECT_EQ(h->kernel_below, Bytes(0));
  for (const Bytes below : {Bytes(0), Bytes(11264), Bytes(32768), Bytes(123457)}) {
    h->kernel_below = below;
    const auto again = HardwareFromJson(HardwareToJson(*h), "again.json");
    ASSERT_THAT(again, IsOk());
    EXPECT_EQ(again->kernel_below, below);
  }
}

struct BadCase {
  const char* change;  // JSON merged over the good one; null removes a key (RFC 7386)
  const char* message;
};

constexpr BadCase kBadCases[] = {
    // Missing.
    {R"({"name": null})", "h.json: name: is missing"},
    {R"({"description": null})", "description: is missing"},
    {R"({"compute": null})", "compute: is missing; want an object"},
    {R"({"compute": {"bf16": {"peak_sparse": null}}})",
     "compute.bf16.peak_sparse: is missing; want \"none\", or a number"},
    {R"({"memory": {"size": null}})", "memory.size: is missing; want a number, a space and one of"},
    {R"({"memory": {"source": null}})", "memory.source: is missing"},
    {R"({"link": {"to_host": null}})", "link.to_host: is missing; want an object"},
    {R"({"link": {"to_host": {"sustained": null}}})", "link.to_host.sustained: is missing"},
    {R"({"host": {"attention": null}})", "host.attention: is missing; want \"none\", or a number"},
    {R"({"disk": null})", "disk: is missing; want an object or \"none\""},
    {R"({"power": {"tdp": null}})", "power.tdp: is missing"},
    // Without a unit, or with another one.
    {R"({"memory_bandwidth": {"peak": 3350000000000}})",
     "memory_bandwidth.peak: 3350000000000 has no unit; want a text: a number, a space and one of "
     "B/s, kB/s, MB/s, GB/s, TB/s"},
    {R"({"memory_bandwidth": {"peak": "3.35"}})", "memory_bandwidth.peak: \"3.35\" has no unit"},
    {R"({"memory_bandwidth": {"peak": "3.35 TB"}})", "has the unit \"TB\", which is not one of"},
    {R"({"memory": {"size": "80 Gb"}})", "memory.size: \"80 Gb\" has the unit \"Gb\""},
    {R"({"link": {"per_run": "0.55 µs"}})", "want a number, a space and one of ns, us, ms, s"},
    {R"({"power": {"tdp": true}})", "power.tdp: true is no text"},
    {R"({"disk": {"latency": ["1 ms"]}})", "disk.latency: an array is no text"},
    // Negative, absurd or contradictory.
    {R"({"memory": {"size": "-80 GB"}})", "memory.size: \"-80 GB\" is negative"},
    {R"({"memory": {"size": "80 B"}})", "memory.size: 80 is not in [1 MB, 1 PB]"},
    {R"({"compute": {"bf16": {"sustained": "989 PFLOP/s"}}})", "compute.bf16.sustained"},
    {R"({"compute": {"bf16": {"peak_dense": "2000 TFLOP/s"}}})", "is above peak_sparse"},
    {R"({"link": {"to_device": {"sustained": "90 GB/s"}}})",
     "link.to_device.sustained: 9e+10 is above peak"},
    {R"({"link": {"duplex_total": "200 GB/s"}})",
     "link.duplex_total: 2e+11 is above to_device + to_host"},
    {R"({"link": {"latency": "1e9 s"}})", "link.latency: 1e+09 is not in [0 s, 10 s]"},
    {R"({"link": {"kernel_below": "2 GB"}})", "link.kernel_below: 2e+09 is not in [0 B, 1 GB]"},
    {R"({"link": {"kernel_below": 32768}})", "link.kernel_below: 32768 has no unit"},
    {R"({"step": {"launch": "11 s"}})", "step.launch: 11 is not in [0 s, 10 s]"},
    {R"({"power": {"idle": "800 W"}})", "power.idle: 800 W is not below tdp, 700 W"},
    {R"({"compute": {"bf16": null, "f32": null, "int8": null}})", "has neither bf16 nor f32"},
    // Unknown.
    {R"({"compute": {"bf61": {}}})", "\"bf61\" is not a number format; want one of f32, bf16"},
    {R"({"memroy_bandwidth": {}})",
     "memroy_bandwidth: is not a known key; did you mean memory_bandwidth?"},
    {R"({"link": {"to_hots": {}}})",
     "link.to_hots: is not a known key; did you mean link.to_host?"},
    {R"({"memory": {"sise": "80 GB"}})",
     "memory.sise: is not a known key; did you mean memory.size?"},
    {R"({"memory": 80})", "memory: 80 is not an object"},
    {R"({"remote": "nothing"})", "remote: \"nothing\" is not an object or \"none\""},
};

TEST(HardwareProfilesTest, BadFilesNameFileKeyValueAndWhatIsAllowed) {
  for (const BadCase& bad : kBadCases) {
    json file = GoodFile();
    file.merge_patch(json::parse(bad.change));
    EXPECT_THAT(HardwareFromJson(file.dump(), "h.json"),
                StatusIs(kInvalid, AllOf(HasSubstr("h.json: "), HasSubstr(bad.message))))
        << bad.change;
  }
}

}  // namespace
}  // namespace sluice
