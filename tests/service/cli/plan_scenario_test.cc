#include "service/cli/plan_scenario.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/service/cli/plan_runner.h"
#include "tests/support/status_matchers.h"

namespace sluice {
namespace {

using ::sluice::testing::PlanOptionsOf;
using ::sluice::testing::StatusIs;
using ::testing::HasSubstr;

constexpr absl::StatusCode kBad = absl::StatusCode::kInvalidArgument;

class PlanScenarioTest : public ::testing::Test {
 protected:
  PlanScenarioTest() : catalogue_(*Catalogue::Load()) {}

  absl::StatusOr<PlanScenario> Make(std::vector<std::string> args,
                                    const std::string& model = "llama-3.1-70b") {
    args.insert(args.end(), {"--model=" + model, "--hardware=h100-pcie5"});
    return BaseScenario(PlanOptionsOf(args), catalogue_);
  }
  Deployment Base() { return Make({"--tp=8"})->deployment; }
  // The deployment after one what-if.
  Deployment After(const std::string& what_if) {
    absl::StatusOr<PlanScenario> scenario = ApplyWhatIf(*Make({"--tp=8"}), what_if, catalogue_);
    EXPECT_TRUE(scenario.ok()) << scenario.status();
    return scenario.ok() ? scenario->deployment : Deployment();
  }
  absl::Status Refused(const std::string& what_if) {
    return ApplyWhatIf(*Make({}), what_if, catalogue_).status();
  }

  Catalogue catalogue_;
};

TEST_F(PlanScenarioTest, FlagsBecomeADeployment) {
  const absl::StatusOr<PlanScenario> scenario =
      Make({"--tp=4", "--link=15GB/s", "--power-cap=300W", "--kv-dtype=fp8",
            "--kv-offload-dtype=int4", "--weights-dtype=int8", "--basis=peak"});
  ASSERT_TRUE(scenario.ok()) << scenario.status();
  const Deployment& d = scenario->deployment;
  EXPECT_EQ(d.model.name, "llama-3.1-70b");
  EXPECT_EQ(d.hardware.name, "h100-pcie5");
  EXPECT_EQ(d.tensor_parallel, 4);
  EXPECT_EQ(d.link, ByteRate(15e9));
  EXPECT_EQ(d.power_cap, Watts(300));
  EXPECT_EQ(d.kv, NumberFormat::kFp8);
  EXPECT_EQ(d.kv_offload, NumberFormat::kInt4);
  EXPECT_EQ(d.weights, NumberFormat::kInt8);
  EXPECT_EQ(d.basis, RateBasis::kPeakDense);
  EXPECT_EQ(Make({"--kv-dtype=fp8"})->deployment.kv_offload, NumberFormat::kFp8)
      << "off the device as on it, unless said otherwise";
}

TEST_F(PlanScenarioTest, WithoutTpThereIsRoomForWeightsAndAWholeContext) {
  const Deployment d = Make({})->deployment;
  EXPECT_GE(LargestBatch(d, Tokens(d.model.max_context)), 1);
  Deployment smaller = d;
  smaller.tensor_parallel /= 2;
  EXPECT_TRUE(!smaller.Validate().ok() || LargestBatch(smaller, Tokens(d.model.max_context)) == 0);
  EXPECT_EQ(Make({"--paper"})->deployment.tensor_parallel, 1) << "the paper's rates are of one";
}

TEST_F(PlanScenarioTest, WhatDoesNotFitIsRefusedWithTheWayOut) {
  EXPECT_THAT(Make({"--tp=1"}).status(),
              StatusIs(kBad, HasSubstr("--tp: llama-3.1-70b in bf16 has 141.107 GB of weights")));
  EXPECT_THAT(Make({"--tp=1"}).status(), StatusIs(kBad, HasSubstr("2 devices are enough")));
}

TEST_F(PlanScenarioTest, UnknownNamesGetASuggestion) {
  EXPECT_THAT(Make({}, "llama-3.1-70").status(),
              StatusIs(absl::StatusCode::kNotFound,
                       HasSubstr("--model: model \"llama-3.1-70\" is not known; did you mean "
                                 "llama-3.1-70b?")));
}

TEST_F(PlanScenarioTest, EveryWhatIfChangesWhatItSays) {
  const Deployment base = Base();
  EXPECT_EQ(After("link=450GB/s").link, ByteRate(450e9));
  EXPECT_EQ(After("kv-dtype=fp8").kv, NumberFormat::kFp8);
  EXPECT_EQ(After("kv-dtype=fp8").kv_offload, NumberFormat::kFp8);
  EXPECT_EQ(After("kv-offload-dtype=int4").kv_offload, NumberFormat::kInt4);
  EXPECT_EQ(After("kv-offload-dtype=int4").kv, base.kv);
  EXPECT_EQ(After("weights-dtype=fp8").weights, NumberFormat::kFp8);
  EXPECT_EQ(After("tp=4").tensor_parallel, 4);
  EXPECT_EQ(After("power-cap=300W").power_cap, Watts(300));
  EXPECT_EQ(After("hardware=gh200").hardware.name, "gh200");
  EXPECT_EQ(After("model=llama-3.1-8b").model.name, "llama-3.1-8b");
  EXPECT_EQ(After("memory=192GB").hardware.memory, Bytes(192'000'000'000));
  EXPECT_EQ(After("step_floor=20ms").hardware.step_floor, Seconds(0.02)) << "snake_case too";
  EXPECT_EQ(After("step-floor=20ms").hardware.layer_floor, Seconds(0));
  const Deployment mla = After("mla=576");
  EXPECT_EQ(mla.model.latent_dim, 576);
  EXPECT_DOUBLE_EQ(KvBytesPerToken(mla.model, NumberFormat::kBf16), 80 * 576 * 2);
}

TEST_F(PlanScenarioTest, AWhatIfMayChangeSeveralThings) {
  const Deployment d = After("link=450GB/s,hardware=gh200,kv-offload-dtype=fp8");
  EXPECT_EQ(d.hardware.name, "gh200");
  EXPECT_EQ(d.link, ByteRate(450e9)) << "a link that is named is kept, whatever the order";
  EXPECT_EQ(d.kv_offload, NumberFormat::kFp8);
}

TEST_F(PlanScenarioTest, OtherHardwareBringsItsOwnLink) {
  const PlanScenario base = *Make({"--link=15GB/s"});
  const PlanScenario other = *ApplyWhatIf(base, "hardware=gh200", catalogue_);
  EXPECT_FALSE(other.deployment.link.has_value());
  EXPECT_EQ(other.label, "hardware=gh200");
}

TEST_F(PlanScenarioTest, DevicesAreCountedAnewForAnotherModelUnlessFixed) {
  const PlanScenario free = *Make({});
  EXPECT_EQ(ApplyWhatIf(free, "memory=2TB", catalogue_)->deployment.tensor_parallel,
            free.deployment.tensor_parallel);
  EXPECT_EQ(ApplyWhatIf(free, "model=llama-3.1-8b", catalogue_)->label,
            "model=llama-3.1-8b (tp 1)");
  EXPECT_LT(ApplyWhatIf(free, "model=llama-3.1-8b", catalogue_)->deployment.tensor_parallel,
            free.deployment.tensor_parallel);
  EXPECT_EQ(
      ApplyWhatIf(*Make({"--tp=8"}), "model=llama-3.1-8b", catalogue_)->deployment.tensor_parallel,
      8);
}

TEST_F(PlanScenarioTest, BadWhatIfsNameKeyValueAndWhatIsAllowed) {
  EXPECT_THAT(Refused("lnk=3GB/s"),
              StatusIs(kBad, HasSubstr("--what-if: unknown key in \"lnk=3GB/s\"; did you mean "
                                       "link?; keys: model, hardware")));
  EXPECT_THAT(Refused("link=3"), StatusIs(kBad, HasSubstr("--what-if: link: \"3\" has no unit")));
  EXPECT_THAT(Refused("link"), StatusIs(kBad, HasSubstr("\"link\" is not KEY=VALUE")));
  EXPECT_THAT(Refused("tp=0"), StatusIs(kBad, HasSubstr("tp: 0 is not in [1, 1024]")));
  EXPECT_THAT(Refused("tp=2,tp=4"), StatusIs(kBad, HasSubstr("\"tp\" is given twice")));
  EXPECT_THAT(Refused("kv-dtype=f8"), StatusIs(kBad, HasSubstr("\"f8\" is not a number format")));
  EXPECT_THAT(Refused("mla=64"), StatusIs(kBad, HasSubstr("mla: 64 is not in [65, 65536]")));
  EXPECT_THAT(Refused("power-cap=20W"), StatusIs(kBad, HasSubstr("power-cap: 20 W is not above")));
  EXPECT_THAT(Refused("model=llama"), StatusIs(absl::StatusCode::kNotFound,
                                               HasSubstr("--what-if: model: model \"llama\"")));
  EXPECT_THAT(Refused("tp=1"), StatusIs(kBad, HasSubstr("--what-if tp=1: tp: llama-3.1-70b")));
}

TEST_F(PlanScenarioTest, DefaultsAskOnlyWhatCanChange) {
  const PlanScenario base = *Make({});
  const std::vector<std::string> defaults = DefaultWhatIfs(base);
  EXPECT_THAT(defaults, ::testing::Contains("kv-offload-dtype=fp8"));
  EXPECT_THAT(defaults, ::testing::Contains("mla=576"));
  const PlanScenario mla = *Make({"--kv-dtype=fp8", "--power-cap=400W"}, "deepseek-v3");
  for (const std::string& what_if : DefaultWhatIfs(mla)) {
    EXPECT_THAT(what_if, ::testing::Not(HasSubstr("mla")));
    EXPECT_THAT(what_if, ::testing::Not(HasSubstr("fp8")));
    EXPECT_THAT(what_if, ::testing::Not(HasSubstr("power-cap")));
  }
  EXPECT_EQ(WhatIfScenarios(base, {}, catalogue_)->size(), defaults.size());
  EXPECT_TRUE(WhatIfScenarios(base, {"none"}, catalogue_)->empty());
  EXPECT_EQ(WhatIfScenarios(base, {"tp=8", "tp=16"}, catalogue_)->size(), 2u);
}

}  // namespace
}  // namespace sluice
