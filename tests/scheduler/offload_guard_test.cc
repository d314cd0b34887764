#include "scheduler/offload_guard.h"

#include "gtest/gtest.h"

namespace sluice::testing {
namespace {

// Stores that cost `share` of the time, one a second, from `from` on. Returns when the guard
// stopped them, or `until`.
Seconds SpendUntilStopped(OffloadGuard& guard, double share, Seconds from, Seconds until) {
  Seconds now = from;
  for (; now < until; now += Seconds(1)) {
    guard.OnStore(now, Seconds(share));
    if (!guard.Stores(now)) return now;
  }
  return now;
}

TEST(OffloadGuardTest, StoresThatNobodyUsesAreStoppedSoon) {
  OffloadGuard guard;
  EXPECT_TRUE(guard.Stores(Seconds(0)));
  EXPECT_LT(SpendUntilStopped(guard, 0.5, Seconds(0), Seconds(1000)), Seconds(10));
  EXPECT_FALSE(guard.stores());
  EXPECT_EQ(guard.saved(), Seconds(0));
  EXPECT_GT(guard.spent(), Seconds(1));
}

TEST(OffloadGuardTest, LittleSpendingIsNeverWorthADecision) {
  OffloadGuard guard;
  const double share = OffloadGuard::kTolerated * 0.9;
  EXPECT_EQ(SpendUntilStopped(guard, share, Seconds(0), Seconds(5000)), Seconds(5000));
}

TEST(OffloadGuardTest, StoresThatPayGoOnWhateverTheyCost) {
  OffloadGuard guard;
  for (Seconds now; now < Seconds(2000); now += Seconds(1)) {
    guard.OnUse(now, Seconds(0.6));
    guard.OnStore(now, Seconds(0.5));
    ASSERT_TRUE(guard.Stores(now)) << now.value();
  }
  EXPECT_NEAR(guard.saved().value(), 1200, 1);
  EXPECT_NEAR(guard.spent().value(), 1000, 1);
}

// Savings of long ago do not pay for the present.
TEST(OffloadGuardTest, TheBalanceFades) {
  OffloadGuard guard;
  guard.OnUse(Seconds(0), Seconds(100));
  EXPECT_LT(SpendUntilStopped(guard, 0.5, Seconds(0), Seconds(5000)), Seconds(600));
}

TEST(OffloadGuardTest, ItTriesAgainAfterPausesThatDouble) {
  OffloadGuard guard;
  Seconds now;
  Seconds pause = OffloadGuard::kFirstPause;
  for (int round = 0; round < 4; ++round) {
    now = SpendUntilStopped(guard, 1, now, now + Seconds(100));
    ASSERT_FALSE(guard.stores());
    EXPECT_FALSE(guard.Stores(now + pause - Seconds(1))) << round;
    now += pause;
    EXPECT_TRUE(guard.Stores(now)) << round;
    pause = pause * 2;
  }
}

}  // namespace
}  // namespace sluice::testing
