// Steps worked out by hand.
#include "backend/sim/sim_machine.h"

#include <cmath>

#include "gmock/gmock.h"
#include "tests/backend/sim/small_machine.h"

namespace sluice {
namespace {

using ::testing::HasSubstr;
using testing::MakeCopy;
using testing::Ms;
using testing::SmallMachine;
using testing::StepOf;

constexpr double kNear = 1e-6;  // of a millisecond
const absl::Time kStart = absl::UnixEpoch();

// first 32, count 10: pairs 320 + 55. 1 (launch) + 3 (weights) + 0.375 (attention) ms.
constexpr double kPrefillMs = 4.375;

TEST(SimMachineTest, AStepCostsLaunchWeightsAndAttention) {
  SimMachine machine(SmallMachine(), kStart);
  StepOf step(1);
  step.Add(1, 32, 10);
  const StepResult result = machine.Run(step.plan(), kStart);
  EXPECT_TRUE(result.status.ok());
  EXPECT_EQ(result.id, StepId(1));
  EXPECT_NEAR(Ms(result.finished - kStart), kPrefillMs, kNear);
  EXPECT_EQ(result.load_stall, absl::ZeroDuration());
  ASSERT_EQ(result.sequences.size(), 1u);
  EXPECT_TRUE(result.sequences[0].sampled.has_value());
}

// 500 tokens are more than the weights hide: 5 ms; with the decode's 0.033 + 0.01 ms.
TEST(SimMachineTest, SequencesShareTheWeightsAndAddTheirAttention) {
  SimMachine machine(SmallMachine(), kStart);
  StepOf step(1);
  step.Add(1, 0, 500).Add(2, 32, 1);
  const double linear = 501 * 0.01;
  const double attention = (500.0 * 501 / 2 + 33) * 1e-3;
  EXPECT_NEAR(Ms(machine.Run(step.plan(), kStart).finished - kStart), 1 + linear + attention,
              kNear);
}

TEST(SimMachineTest, ContextInHostMemoryCostsTheHostsTime) {
  SimOptions options = SmallMachine();
  options.attends_in_place = true;
  options.cost.per_in_place_token = Seconds(5e-6);
  SimMachine machine(options, kStart);
  StepOf step(1);
  step.Add(1, 32, 10, {}, /*in_place_blocks=*/2);
  // 55 pairs on the device, meanwhile 32 x 10 on the host at 5 µs.
  EXPECT_NEAR(Ms(machine.Run(step.plan(), kStart).finished - kStart), 1 + 3 + 1.6, kNear);
}

// Two blocks: 1 ms latency, then a layer every 2 ms: 3, 5, 7, 9. The last layer's quarter of the
// step comes after that.
TEST(SimMachineTest, AStepMeetsASlowLoadLayerByLayer) {
  SimMachine machine(SmallMachine(), kStart);
  const std::vector<Copy> copies = {MakeCopy(1, LinkDirection::kHostToDevice, 2, 1)};
  machine.link().Start(copies, kStart);
  StepOf step(1);
  step.Add(1, 32, 10, {CopyId(1)});
  const StepResult result = machine.Run(step.plan(), kStart);
  EXPECT_NEAR(Ms(result.finished - kStart), 9 + kPrefillMs / 4, kNear);
  EXPECT_NEAR(Ms(result.load_stall), 9 + kPrefillMs / 4 - kPrefillMs, kNear);
  EXPECT_EQ(result.sequences[0].load_stall, result.load_stall);

  const ActivitySnapshot& activity = machine.activity().snapshot();
  EXPECT_NEAR(Ms(activity.wall()), Ms(result.finished - kStart), kNear);
  EXPECT_NEAR(Ms(activity.compute_only + activity.both), kPrefillMs, kNear);
  EXPECT_NEAR(Ms(activity.transfer_only), Ms(result.load_stall), kNear);
  EXPECT_EQ(activity.load_stall, result.load_stall);
  EXPECT_EQ(machine.activity().exposed(), result.load_stall);
  EXPECT_NEAR(Ms(activity.links[0].busy), 9, kNear);
  EXPECT_EQ(activity.links[0].moved, Bytes(8000));
  EXPECT_EQ(activity.links[0].in_flight, Bytes(0));
}

// One block arrives at 2, 3, 4, 5 ms and the step's layers take 6.02 ms each: only the first waits.
TEST(SimMachineTest, AStepMeetsAFastLoadAtItsFirstLayer) {
  SimMachine machine(SmallMachine(), kStart);
  const std::vector<Copy> copies = {MakeCopy(1, LinkDirection::kHostToDevice, 1, 1)};
  machine.link().Start(copies, kStart);
  StepOf step(1);
  step.Add(1, 16, 190, {CopyId(1)});
  const double compute = 1 + 3 + (190.0 * 16 + 190.0 * 191 / 2) * 1e-3;
  const StepResult result = machine.Run(step.plan(), kStart);
  EXPECT_NEAR(Ms(result.finished - kStart), 2 + compute, kNear);
  EXPECT_NEAR(Ms(result.load_stall), 2, kNear);
}

TEST(SimMachineTest, LayersThatArrivedBeforeTheStepAreNotWaitedFor) {
  SimMachine machine(SmallMachine(), kStart);
  const std::vector<Copy> copies = {MakeCopy(1, LinkDirection::kHostToDevice, 2, 1)};
  machine.link().Start(copies, kStart);
  StepOf step(1);
  step.Add(1, 32, 10, {CopyId(1)});
  const absl::Time late = kStart + absl::Milliseconds(8);  // three layers are there
  const StepResult result = machine.Run(step.plan(), late);
  // The fourth comes 1 ms later, before its quarter of the step is due.
  EXPECT_NEAR(Ms(result.finished - late), kPrefillMs, kNear);
  EXPECT_EQ(result.load_stall, absl::ZeroDuration());
}

TEST(SimMachineTest, StallsArePutDownToSequencesInPlanOrder) {
  SimMachine machine(SmallMachine(), kStart);
  const std::vector<Copy> copies = {MakeCopy(1, LinkDirection::kHostToDevice, 2, 1),
                                    MakeCopy(2, LinkDirection::kHostToDevice, 3, 2)};
  machine.link().Start(copies, kStart);
  StepOf step(1);
  step.Add(1, 32, 10, {CopyId(1)}).Add(2, 48, 1, {CopyId(1), CopyId(2)}).Add(3, 16, 1);
  const StepResult result = machine.Run(step.plan(), kStart);
  // The second load follows at 9 ms: 1 latency, 4 layers of 3 ms.
  const double compute = kPrefillMs + 0.049 + 0.017;
  EXPECT_NEAR(Ms(result.finished - kStart), 22 + compute / 4, kNear);
  EXPECT_NEAR(Ms(result.sequences[0].load_stall), 9 + compute / 4 - compute, kNear);
  EXPECT_EQ(result.sequences[0].load_stall + result.sequences[1].load_stall, result.load_stall);
  EXPECT_EQ(result.sequences[2].load_stall, absl::ZeroDuration());
}

TEST(SimMachineTest, AFailedLoadFailsItsSequenceAlone) {
  SimOptions options = SmallMachine();
  options.copy_failure_rate = 1;
  SimMachine machine(options, kStart);
  const std::vector<Copy> copies = {MakeCopy(1, LinkDirection::kHostToDevice, 2, 1)};
  machine.link().Start(copies, kStart);
  StepOf step(1);
  step.Add(1, 32, 10, {CopyId(1)}).Add(2, 16, 1);
  const StepResult result = machine.Run(step.plan(), kStart);
  EXPECT_TRUE(result.status.ok());
  EXPECT_EQ(result.sequences[0].status.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(result.sequences[0].status.message(), HasSubstr("copy 1: injected failure"));
  EXPECT_FALSE(result.sequences[0].sampled.has_value());
  EXPECT_TRUE(result.sequences[1].sampled.has_value());
  // It stays failed for later steps.
  StepOf again(2);
  again.Add(1, 32, 10, {CopyId(1)});
  EXPECT_FALSE(machine.Run(again.plan(), result.finished).sequences[0].status.ok());
}

TEST(SimMachineTest, WaitingForACopyThatNeverWasIsAnError) {
  SimMachine machine(SmallMachine(), kStart);
  StepOf step(1);
  step.Add(1, 32, 10, {CopyId(7)});
  EXPECT_THAT(machine.Run(step.plan(), kStart).sequences[0].status.message(),
              HasSubstr("copy 7, which was never started"));
}

TEST(SimMachineTest, AFailedStepTakesItsTimeAndGivesNothing) {
  SimOptions options = SmallMachine();
  options.step_failure_rate = 1;
  SimMachine machine(options, kStart);
  StepOf step(3);
  step.Add(1, 32, 10);
  const StepResult result = machine.Run(step.plan(), kStart);
  EXPECT_THAT(result.status.message(), HasSubstr("step 3: injected failure"));
  EXPECT_TRUE(result.sequences.empty());
  EXPECT_NEAR(Ms(result.finished - kStart), kPrefillMs, kNear);
}

TEST(SimMachineTest, NoiseIsAFunctionOfSeedAndStep) {
  SimOptions options = SmallMachine();
  options.noise = 0.1;
  options.seed = 5;
  SimMachine machine(options, kStart);
  SimMachine same(options, kStart);
  double log_sum = 0;
  double squares = 0;
  absl::Time now = kStart;
  constexpr int kSteps = 4000;
  for (int i = 0; i < kSteps; ++i) {
    StepOf step(i);
    step.Add(1, 32, 10);
    const StepResult result = machine.Run(step.plan(), now);
    EXPECT_EQ(same.Run(step.plan(), now).finished, result.finished);
    const double log = std::log(Ms(result.finished - now) / kPrefillMs);
    log_sum += log;
    squares += log * log;
    now = result.finished;
  }
  // Standard errors: 0.1 / sqrt(4000) = 0.0016 of the mean, 0.0011 of the deviation.
  EXPECT_NEAR(log_sum / kSteps, 0, 0.008);
  EXPECT_NEAR(std::sqrt(squares / kSteps), 0.1, 0.006);
}

// 4.375 ms at 500 W, then 8.625 ms of waiting at 100 W; the link for 9 ms at 50 W more.
TEST(SimMachineTest, EnergyAddsUpComputeIdleAndTransfers) {
  SimOptions options = SmallMachine();
  SimMachine machine(options, kStart);
  const std::vector<Copy> copies = {MakeCopy(1, LinkDirection::kHostToDevice, 2, 1)};
  machine.link().Start(copies, kStart);
  StepOf step(1);
  step.Add(1, 32, 10);
  machine.Run(step.plan(), kStart);
  machine.link().AdvanceTo(kStart + absl::Milliseconds(13));
  EXPECT_NEAR(EnergyOf(options.cost, machine.activity().snapshot()).value(),
              500 * 4.375e-3 + 100 * 8.625e-3 + 50 * 9e-3, 1e-9);
  // The load was awaited, and from 4.375 to 9 ms the device had nothing else.
  EXPECT_NEAR(Ms(machine.activity().exposed()), 9 - kPrefillMs, kNear);
}

TEST(SimMachineTest, BadOptionsAreNamed) {
  SimOptions options = SmallMachine();
  options.copy_failure_rate = 1.5;
  EXPECT_THAT(options.Validate().message(), HasSubstr("copy_failure_rate: 1.5 is not in [0, 1]"));
  options = SmallMachine();
  options.attends_in_place = true;
  EXPECT_THAT(options.Validate().message(), HasSubstr("per_in_place_token is 0"));
  options = SmallMachine();
  options.device_blocks = Blocks(0);
  EXPECT_THAT(options.Validate().message(), HasSubstr("device_blocks: 0"));
}

}  // namespace
}  // namespace sluice
