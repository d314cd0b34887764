#include "scheduler/disk_gate.h"

#include "gtest/gtest.h"

namespace sluice {
namespace {

TEST(DiskGateTest, ShutsAfterFailuresInARow) {
  DiskGate gate;
  EXPECT_TRUE(gate.Open(Seconds(0)));
  gate.OnCopy(true, Seconds(1));
  gate.OnCopy(true, Seconds(1));
  gate.OnCopy(false, Seconds(1));
  gate.OnCopy(true, Seconds(1));
  gate.OnCopy(true, Seconds(1));
  EXPECT_TRUE(gate.Open(Seconds(1))) << "not in a row";
  gate.OnCopy(true, Seconds(1));
  EXPECT_FALSE(gate.Open(Seconds(1)));
  EXPECT_FALSE(gate.Open(Seconds(1.9)));
  EXPECT_TRUE(gate.Open(Seconds(2)));
  EXPECT_EQ(gate.times_shut(), 1);
}

TEST(DiskGateTest, TriesOnceAndStaysShutTwiceAsLong) {
  DiskGate gate;
  for (int i = 0; i < DiskGate::kFailures; ++i) gate.OnCopy(true, Seconds(0));
  gate.OnCopy(true, Seconds(0.5));  // was under way when it shut
  EXPECT_TRUE(gate.Open(Seconds(1)));
  gate.OnCopy(true, Seconds(1));
  EXPECT_FALSE(gate.Open(Seconds(2.9)));
  EXPECT_TRUE(gate.Open(Seconds(3)));
}

TEST(DiskGateTest, NeverStaysShutForLongAndASuccessForgivesAll) {
  DiskGate gate;
  Seconds now;
  for (int i = 0; i < 50; ++i) {
    gate.OnCopy(true, now);
    if (!gate.Open(now)) now += DiskGate::kLongest;
    EXPECT_TRUE(gate.Open(now));
  }
  gate.OnCopy(false, now);
  for (int i = 0; i < DiskGate::kFailures; ++i) gate.OnCopy(true, now);
  EXPECT_FALSE(gate.Open(now));
  EXPECT_TRUE(gate.Open(now + DiskGate::kFirst));
}

}  // namespace
}  // namespace sluice
