// Deployments, rates, κ and coefficients, by hand.
#include <cmath>
#include <string>

#include "gtest/gtest.h"
#include "scheduler/cost/cost_model.h"
#include "tests/scheduler/cost/profiles.h"
#include "tests/support/status_matchers.h"

namespace sluice {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::IsOk;
using testing::Llama70b;
using testing::On;
using testing::RoundHardware;
using testing::StatusIs;
using testing::WindowedModel;

constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;

TEST(KappaTest, IsModelTimesHardware) {
  const Deployment d = On(Llama70b());
  EXPECT_DOUBLE_EQ(KappaHardware(d), 50e9 / 400e12);
  EXPECT_DOUBLE_EQ(KappaCritical(d), 140e9 / 327680 * 50e9 / 400e12);
}

TEST(KappaTest, EachBasisTakesItsOwnRates) {
  EXPECT_DOUBLE_EQ(KappaHardware(On(Llama70b(), RateBasis::kPeakDense)), 64e9 / 1000e12);
  EXPECT_DOUBLE_EQ(KappaHardware(On(Llama70b(), RateBasis::kPaper)), 64e9 / (0.951 * 2000e12));
  Deployment stated = On(Llama70b(), RateBasis::kPaper);
  stated.hardware.paper_compute = FlopRate(1600e12);
  stated.hardware.paper_link = ByteRate(32e9);
  EXPECT_DOUBLE_EQ(KappaHardware(stated), 32e9 / 1600e12);
}

TEST(KappaTest, DevicesAddUpAndKappaStays) {
  const Deployment one = On(Llama70b(), RateBasis::kSustained, 2);
  const Deployment four = On(Llama70b(), RateBasis::kSustained, 8);
  EXPECT_DOUBLE_EQ(EffectiveFlopRate(four).value(), 4 * EffectiveFlopRate(one).value());
  EXPECT_DOUBLE_EQ(EffectiveLinkRate(four).value(), 4 * EffectiveLinkRate(one).value());
  EXPECT_DOUBLE_EQ(EffectiveMemoryRate(four).value(), 4 * EffectiveMemoryRate(one).value());
  EXPECT_DOUBLE_EQ(KappaCritical(four), KappaCritical(one));
}

// The paper's 15 GB/s is what all devices get together.
TEST(KappaTest, AnOverriddenLinkIsTheSumOverDevices) {
  Deployment d = On(Llama70b(), RateBasis::kSustained, 8);
  d.link = ByteRate(15e9);
  EXPECT_EQ(EffectiveLinkRate(d), ByteRate(15e9));
  EXPECT_DOUBLE_EQ(KappaHardware(d), 15e9 / (8 * 400e12));
}

TEST(KappaTest, QuantizedKvOnTheLinkRaisesKappa) {
  Deployment d = On(Llama70b());
  const double kappa = KappaCritical(d);
  d.kv_offload = NumberFormat::kInt8;
  EXPECT_DOUBLE_EQ(KappaCritical(d), 2 * kappa);
  d.kv = NumberFormat::kInt8;  // on the device: the link does not care
  EXPECT_DOUBLE_EQ(KappaCritical(d), 2 * kappa);
}

TEST(KappaTest, WeightsInAFormatTheDeviceComputesInUseItsRate) {
  Deployment d = On(Llama70b());
  d.weights = NumberFormat::kFp8;
  EXPECT_EQ(EffectiveFlopRate(d), FlopRate(2 * 800e12));
  d.weights = NumberFormat::kInt4;  // widened to bf16
  EXPECT_EQ(EffectiveFlopRate(d), FlopRate(2 * 400e12));
}

TEST(KappaTest, APowerCapSlowsComputeByTheCubeRootAndNotTheLink) {
  Deployment d = On(Llama70b());
  const double kappa = KappaCritical(d);
  EXPECT_DOUBLE_EQ(PowerCapFactor(d.hardware, Watts(700)), 1);
  EXPECT_DOUBLE_EQ(PowerCapFactor(d.hardware, Watts(900)), 1);
  EXPECT_DOUBLE_EQ(PowerCapFactor(d.hardware, Watts(175)), 0.5);  // (75 / 600)^(1/3)
  d.power_cap = Watts(175);
  EXPECT_DOUBLE_EQ(EffectiveFlopRate(d).value(), 2 * 200e12);
  EXPECT_EQ(EffectiveLinkRate(d), ByteRate(100e9));
  EXPECT_DOUBLE_EQ(KappaCritical(d), 2 * kappa);
  EXPECT_EQ(MakeCoefficients(d).compute_power, Watts(350));
}

TEST(KappaTest, CoefficientsByHand) {
  const CostCoefficients c = MakeCoefficients(On(Llama70b()));
  EXPECT_THAT(c.Validate(), IsOk());
  EXPECT_DOUBLE_EQ(c.launch.value(), 1e-3 + 160 * 25e-6);  // two all-reduces per layer
  EXPECT_DOUBLE_EQ(c.floor.value(), 0.5e-3 + 80 * 50e-6);
  EXPECT_DOUBLE_EQ(c.weight_read.value(), 140e9 / 4e12);
  EXPECT_DOUBLE_EQ(c.per_token.value(), 140e9 / 800e12);
  EXPECT_DOUBLE_EQ(c.per_pair.value(), 80 * 32768 / 800e12);
  EXPECT_DOUBLE_EQ(c.per_context_token.value(), 327680 / 4e12);
  EXPECT_EQ(c.kv_bytes_per_token, Bytes(327680));
  EXPECT_EQ(c.layers, 80);
  const auto& up = c.links[static_cast<size_t>(LinkDirection::kHostToDevice)];
  EXPECT_DOUBLE_EQ(up.per_byte.value(), 1 / 100e9);
  EXPECT_EQ(up.per_run, Seconds(1e-6));
  EXPECT_EQ(up.latency, Seconds(10e-6));
  const auto& down = c.links[static_cast<size_t>(LinkDirection::kDeviceToHost)];
  EXPECT_DOUBLE_EQ(down.per_byte.value(), 1 / 80e9);
  const auto& read = c.links[static_cast<size_t>(LinkDirection::kDiskToHost)];
  EXPECT_DOUBLE_EQ(read.per_byte.value(), 1 / 5e9);
  EXPECT_EQ(read.latency, Seconds(1e-4));
  const auto& write = c.links[static_cast<size_t>(LinkDirection::kHostToDisk)];
  EXPECT_DOUBLE_EQ(write.per_byte.value(), 1 / 2.5e9);
  EXPECT_DOUBLE_EQ(c.duplex_share, 0.8);
  EXPECT_DOUBLE_EQ(c.per_in_place_token.value(), 327680 / 400e9);
  EXPECT_EQ(c.idle_power, Watts(200));
  EXPECT_EQ(c.compute_power, Watts(1400));
  EXPECT_EQ(c.transfer_power, Watts(60));
}

TEST(KappaTest, DirectionsOfASlowerLinkLeaveRoomForEachOther) {
  Deployment d = On(Llama70b());  // its devices carry 144 GB/s in both directions together
  d.link = ByteRate(15e9);
  EXPECT_DOUBLE_EQ(MakeCoefficients(d).duplex_share, 1);
  d.link = ByteRate(90e9);
  EXPECT_DOUBLE_EQ(MakeCoefficients(d).duplex_share, 144.0 / 180);
}

TEST(KappaTest, HostCoresAreLimitedByMemoryOrArithmetic) {
  Deployment d = On(Llama70b());
  d.hardware.host_attention = FlopRate(1e12);
  EXPECT_DOUBLE_EQ(MakeCoefficients(d).per_in_place_token.value(), 80 * 32768 / 2e12);
  d.hardware.host_attention = FlopRate(0);
  EXPECT_EQ(MakeCoefficients(d).per_in_place_token, Seconds(0));
}

TEST(KappaTest, ACpuReadsInPlaceOncePerTileOfQueryRows) {
  Deployment d = On(Llama70b());
  d.hardware.in_place_read = ByteRate(4e9);
  d.hardware.in_place_reread = ByteRate(8e9);
  d.hardware.in_place_rows = 32;
  const CostCoefficients c = MakeCoefficients(d);
  EXPECT_TRUE(c.in_place_on_device);
  EXPECT_EQ(c.per_in_place_token, Seconds(0));
  EXPECT_DOUBLE_EQ(c.per_in_place_read.value(), 327680 / (4e9 * d.tensor_parallel));
  EXPECT_DOUBLE_EQ(c.per_in_place_reread.value(), c.per_in_place_read.value() / 2);
  EXPECT_EQ(c.in_place_tile, Tokens(4)) << "8 query heads to a kv head";
  d.hardware.in_place_rows = 4;
  EXPECT_EQ(MakeCoefficients(d).in_place_tile, Tokens(1));
}

TEST(KappaTest, OneDeviceNeedsNoAllReduce) {
  EXPECT_EQ(MakeCoefficients(On(WindowedModel(), RateBasis::kSustained, 1)).launch, Seconds(1e-3));
}

TEST(KappaTest, AMissingDiskIsDearAndFinite) {
  Deployment d = On(Llama70b());
  d.hardware.disk = {};
  const CostCoefficients c = MakeCoefficients(d);
  EXPECT_THAT(c.Validate(), IsOk());
  EXPECT_EQ(c.links[static_cast<size_t>(LinkDirection::kDiskToHost)].per_byte, Seconds(1));
}

TEST(KappaTest, WindowsShowInTheCoefficients) {
  const CostCoefficients c = MakeCoefficients(On(WindowedModel()));
  EXPECT_EQ(c.window_share, 0.5);
  EXPECT_EQ(c.window, Tokens(128));
  // 12 layers grow, 12 keep 128 of 131,072 tokens.
  EXPECT_EQ(c.kv_bytes_per_token, Bytes(12 * 2048 + 12 * 2048 / 1024));
  ModelProfile all = WindowedModel();
  all.windowed_layers = all.layers;
  EXPECT_GT(MakeCoefficients(On(all)).kv_bytes_per_token, Bytes(0));
}

TEST(KappaTest, ThePaperBasisLeavesOutWhatThePaperLeavesOut) {
  ModelProfile m = Llama70b();
  m.prefill_parameters = 68e9;
  const CostCoefficients c = MakeCoefficients(On(m, RateBasis::kPaper));
  EXPECT_EQ(c.launch + c.floor + c.weight_read + c.per_pair + c.per_context_token, Seconds(0));
  EXPECT_DOUBLE_EQ(c.per_token.value(), 140e9 / (2 * 0.951 * 2000e12));
  EXPECT_EQ(c.links[0].latency + c.links[0].per_run, Seconds(0));
}

TEST(KappaTest, SmallestTensorParallelIsThePowerOfTwoThatHoldsTheWeights) {
  Deployment d = On(Llama70b(), RateBasis::kSustained, 1);
  EXPECT_EQ(SmallestTensorParallel(d), 2);  // 140 GB in 2 x 90 GB
  d.memory_share = 0.5;
  EXPECT_EQ(SmallestTensorParallel(d), 4);
  d.weights = NumberFormat::kInt4;
  EXPECT_EQ(SmallestTensorParallel(d), 1);
  d.model.total_parameters = 1e15;
  EXPECT_EQ(SmallestTensorParallel(d), 0);
}

TEST(KappaTest, ValidateSaysWhatDoesNotFitAndWhatWould) {
  Deployment d = On(Llama70b(), RateBasis::kSustained, 1);
  EXPECT_THAT(d.Validate(),
              StatusIs(kInvalid, AllOf(HasSubstr("tensor_parallel: llama-like-70b in bf16 has 140 "
                                                 "GB of weights; 1 x round have 90 GB"),
                                       HasSubstr("2 devices are enough"))));
  d.basis = RateBasis::kPaper;
  EXPECT_THAT(d.Validate(), IsOk());
}

TEST(KappaTest, ValidateNamesTheFirstBadValue) {
  struct Case {
    void (*change)(Deployment&);
    const char* message;
  };
  const Case cases[] = {
      {[](Deployment& d) { d.model.layers = 0; }, "model llama-like-70b: layers: is missing"},
      {[](Deployment& d) { d.hardware.tdp = Watts(0); }, "hardware round: power.tdp: is missing"},
      {[](Deployment& d) { d.tensor_parallel = 0; }, "tensor_parallel: 0 is not in [1, 1024]"},
      {[](Deployment& d) { d.link = ByteRate(0); }, "link: 0 B/s is not in [1 kB/s, 1 PB/s]"},
      {[](Deployment& d) { d.link = ByteRate(std::nan("")); }, "link: nan B/s"},
      {[](Deployment& d) { d.power_cap = Watts(90); },
       "power_cap: 90 W is not above the idle power of round, 100 W"},
      {[](Deployment& d) { d.memory_share = 1.5; }, "memory_share: 1.5 is not in (0, 1]"},
      {[](Deployment& d) {
         d.basis = RateBasis::kPaper;
         d.hardware.compute[1].peak_sparse = FlopRate(0);
       },
       "basis: round has no sparse 16-bit peak"},
  };
  EXPECT_THAT(On(Llama70b()).Validate(), IsOk());
  for (const Case& bad : cases) {
    Deployment d = On(Llama70b());
    bad.change(d);
    EXPECT_THAT(d.Validate(), StatusIs(kInvalid, HasSubstr(bad.message)));
  }
}

TEST(KappaTest, HardwareThatContradictsItselfIsRefused) {
  struct Case {
    void (*change)(HardwareProfile&);
    const char* message;
  };
  const Case cases[] = {
      {[](HardwareProfile& h) { h.name = ""; }, "hardware: name: is missing"},
      {[](HardwareProfile& h) { h.compute = {}; }, "compute: no number format has a rate"},
      {[](HardwareProfile& h) { h.compute[1].sustained = FlopRate(1100e12); },
       "compute.bf16.sustained: 1.1e+15 is above peak_dense"},
      {[](HardwareProfile& h) { h.compute[1].peak_sparse = FlopRate(900e12); },
       "compute.bf16.peak_dense: 1e+15 is above peak_sparse, 9e+14"},
      {[](HardwareProfile& h) { h.attention_sustained = FlopRate(0); },
       "attention.sustained: is missing; want a value in [1 MFLOP/s, 1 EFLOP/s]"},
      {[](HardwareProfile& h) { h.memory = Bytes(0); }, "memory.size: is missing"},
      {[](HardwareProfile& h) { h.to_device.sustained = ByteRate(-1); },
       "link.to_device.sustained: -1 is not in [1 kB/s, 1 PB/s]"},
      {[](HardwareProfile& h) { h.duplex_sustained = ByteRate(100e9); },
       "link.duplex_total: 1e+11 is above to_device + to_host"},
      {[](HardwareProfile& h) { h.copy_latency = Seconds(std::nan("")); }, "link.latency: nan"},
      {[](HardwareProfile& h) { h.disk.write = ByteRate(0); }, "disk.write: is missing"},
      {[](HardwareProfile& h) { h.idle = Watts(700); }, "power.idle: 700 W is not below tdp, 700"},
  };
  EXPECT_THAT(RoundHardware().Validate(), IsOk());
  for (const Case& bad : cases) {
    HardwareProfile h = RoundHardware();
    bad.change(h);
    EXPECT_THAT(h.Validate(), StatusIs(kInvalid, HasSubstr(bad.message)));
  }
}

}  // namespace
}  // namespace sluice
