#include <string>

#include "gmock/gmock.h"
#include "service/cli/top_frame.h"
#include "service/cli/top_rates.h"

namespace sluice {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

// A server with device and host, `seconds` after its start: 60 % computing, of it a third with a
// copy under way; the link to the device is busy 30 % of the time.
v1::Activity After(double seconds) {
  v1::Activity a;
  a.set_compute_only_s(0.4 * seconds);
  a.set_both_s(0.2 * seconds);
  a.set_transfer_only_s(0.1 * seconds);
  a.set_idle_s(0.3 * seconds);
  a.set_load_stall_s(0.05 * seconds);
  const auto add_link = [&](const char* source, const char* target, double busy) {
    v1::LinkActivity* link = a.add_links();
    link->set_source(source);
    link->set_target(target);
    link->set_busy_s(busy * seconds);
    link->set_bytes(static_cast<uint64_t>(1e8 * seconds));
  };
  add_link("host", "device", 0.3);
  add_link("device", "host", 0.1);
  add_link("disk", "host", 0);
  const auto add_tier = [&](const char* name, uint64_t capacity, uint64_t hits) {
    v1::TierActivity* tier = a.add_tiers();
    tier->set_tier(name);
    tier->mutable_blocks()->set_capacity(capacity);
    tier->mutable_blocks()->set_free(capacity / 4);
    tier->mutable_blocks()->set_referenced(capacity / 2);
    tier->set_hit_tokens(hits * static_cast<uint64_t>(seconds));
  };
  add_tier("device", 100, 50);
  add_tier("host", 400, 300);
  add_tier("disk", 0, 0);
  a.set_running(3);
  a.set_waiting(2);
  a.set_output_tokens(static_cast<uint64_t>(20 * seconds));
  a.set_prompt_tokens_computed(static_cast<uint64_t>(100 * seconds));
  a.set_kappa_critical(2);
  v1::TenantActivity* tenant = a.add_tenants();
  tenant->set_tenant("acme");
  tenant->set_device_s(0.1 * seconds);
  tenant = a.add_tenants();
  tenant->set_tenant("zeta");
  tenant->set_device_s(0.3 * seconds);
  tenant->set_output_tokens(static_cast<uint64_t>(15 * seconds));
  return a;
}

TEST(TopRatesTest, AreDifferencesOverTheServersOwnTime) {
  const TopRates rates = MakeTopRates(After(10), After(20));
  EXPECT_DOUBLE_EQ(rates.seconds, 10);
  EXPECT_DOUBLE_EQ(rates.device_busy, 0.6);
  EXPECT_DOUBLE_EQ(rates.overlap, 0.2);
  EXPECT_DOUBLE_EQ(rates.stall, 0.05);
  EXPECT_EQ(rates.links[0].name, "host -> device");
  EXPECT_DOUBLE_EQ(rates.links[0].busy, 0.3);
  EXPECT_DOUBLE_EQ(rates.links[0].bytes_per_s, 1e8);
  EXPECT_DOUBLE_EQ(rates.output_tokens_per_s, 20);
  EXPECT_DOUBLE_EQ(rates.kappa, 3);  // the device's own hits are not loaded
  ASSERT_EQ(rates.tenants.size(), 2U);
  EXPECT_EQ(rates.tenants[0].name, "zeta");
  EXPECT_DOUBLE_EQ(rates.tenants[0].device, 0.75);
  EXPECT_DOUBLE_EQ(rates.tenants[0].tokens_per_s, 15);
}

TEST(TopRatesTest, NoTimePassedMeansNoRates) {
  const TopRates rates = MakeTopRates(After(10), After(10));
  EXPECT_EQ(rates.device_busy, 0);
  EXPECT_EQ(rates.output_tokens_per_s, 0);
  EXPECT_FALSE(rates.loaded);
}

TEST(TopRatesTest, ATenantThatIsNewCountsFromZero) {
  v1::Activity before = After(10);
  before.clear_tenants();
  EXPECT_EQ(MakeTopRates(before, After(20)).tenants.size(), 2U);
}

TEST(BottleneckTest, IsSaidInWords) {
  v1::Activity now;
  TopRates rates;
  EXPECT_EQ(Bottleneck(now, rates), "idle: no requests");
  now.set_running(2);
  now.set_waiting(5);
  rates.links.push_back({"host -> device", 0.95, 0, 0});
  rates.device_busy = 0.4;
  EXPECT_EQ(Bottleneck(now, rates), "the link host -> device: 95 % busy, device 40 %");
  rates.device_busy = 0.9;
  EXPECT_THAT(Bottleneck(now, rates), StartsWith("none is spare: "));
  rates.links[0].busy = 0.2;
  EXPECT_THAT(Bottleneck(now, rates), StartsWith("compute: device 90 % busy"));
  rates.device_busy = 0.5;
  EXPECT_THAT(Bottleneck(now, rates), StartsWith("none: "));
  rates.decisions_per_s["wait_blocks"] = 3;
  EXPECT_EQ(Bottleneck(now, rates), "device memory: 5 requests wait for blocks");
  rates.stall = 0.3;
  EXPECT_EQ(Bottleneck(now, rates), "loads: steps wait for copies 30 % of the time");
  now.set_draining(true);
  EXPECT_THAT(Bottleneck(now, rates), StartsWith("draining"));
}

v1::ServerInfo Info() {
  v1::ServerInfo info;
  info.set_model("demo");
  info.set_backend("cpu");
  info.set_policy("slack");
  info.set_block_bytes(1000000);
  info.set_uptime_s(3725);
  return info;
}

std::string Text(const std::vector<std::string>& lines) {
  std::string text;
  for (const std::string& line : lines) text += line + "\n";
  return text;
}

TEST(TopFrameTest, EveryTierIsAsLargeAsItsBlocksAre) {
  v1::Activity now = After(20);
  for (v1::TierActivity& tier : *now.mutable_tiers()) tier.mutable_blocks()->set_capacity(1000);
  v1::ServerInfo info = Info();
  const auto text = [&] {
    return Text(MakeTopFrame(info, "127.0.0.1:50051", now, MakeTopRates(After(10), now), {}));
  };
  EXPECT_THAT(text(), Not(HasSubstr("of 2 GB")));  // an older server: all are of one size
  info.set_device_block_bytes(2000000);
  EXPECT_THAT(text(), HasSubstr("of 2 GB"));
  EXPECT_THAT(text(), HasSubstr("of 1 GB"));
}

TEST(TopFrameTest, ShowsWhatMattersOn80By24) {
  v1::Activity now = After(20);
  now.mutable_first_token()->set_count(12);
  now.mutable_first_token()->set_p50_s(0.0301);
  now.mutable_first_token()->set_p99_s(12);
  const std::vector<std::string> lines =
      MakeTopFrame(Info(), "127.0.0.1:50051", now, MakeTopRates(After(10), now), {});
  EXPECT_LE(lines.size(), 24U);
  for (const std::string& line : lines) EXPECT_LE(line.size(), 80U) << line;
  const std::string text = Text(lines);
  EXPECT_THAT(text, HasSubstr("sluice top  up 01:02:05  demo on 127.0.0.1:50051  (cpu, slack)"));
  EXPECT_THAT(text, HasSubstr("bottleneck: none"));
  EXPECT_THAT(text, HasSubstr(" 60 %  overlap 20 %  stall 5 %"));
  EXPECT_THAT(text, HasSubstr("host -> device"));
  EXPECT_THAT(text, Not(HasSubstr("disk")));  // there is no such tier
  EXPECT_THAT(text, HasSubstr("3.00 loaded per computed token, critical 2.0, loads outweigh"));
  EXPECT_THAT(text, HasSubstr("p50 30.1 ms"));
  EXPECT_THAT(text, HasSubstr("p99 12.0 s"));
  EXPECT_THAT(text, HasSubstr("none in the last 10 s"));
  EXPECT_THAT(text, HasSubstr("KV host"));
  EXPECT_THAT(text, HasSubstr("running 3 (0 loading)  waiting 2"));
  EXPECT_LT(text.find("zeta"), text.find("acme"));
}

TEST(TopFrameTest, NeverLeavesTheTerminal) {
  v1::Activity now = After(20);
  for (int i = 0; i < 40; ++i) now.add_tenants()->set_tenant("t" + std::string(200, 'x'));
  v1::ServerInfo info = Info();
  info.set_model("m\x1b[2J" + std::string(300, 'y'));
  for (const TopSize size : {TopSize{20, 4}, TopSize{80, 24}, TopSize{300, 60}}) {
    const std::vector<std::string> lines =
        MakeTopFrame(info, "e", now, MakeTopRates(After(10), now), size);
    EXPECT_LE(lines.size(), static_cast<size_t>(size.rows));
    for (const std::string& line : lines) {
      EXPECT_LE(line.size(), static_cast<size_t>(size.columns));
      EXPECT_EQ(line.find('\x1b'), std::string::npos);
    }
  }
}

TEST(TopFrameTest, BarsAndBytesAreShort) {
  EXPECT_EQ(Bar(0, 12), "[..........]");
  EXPECT_EQ(Bar(0.5, 12), "[#####.....]");
  EXPECT_EQ(Bar(7, 12), "[##########]");
  EXPECT_EQ(ShortBytes(0), "0 B");
  EXPECT_EQ(ShortBytes(999), "999 B");
  EXPECT_EQ(ShortBytes(1234), "1.2 kB");
  EXPECT_EQ(ShortBytes(999.9e6), "1.0 GB");
  EXPECT_EQ(ShortBytes(123.4e9), "123 GB");
}

}  // namespace
}  // namespace sluice
