#include "backend/kv/circuit_breaker.h"

#include <set>

#include "gtest/gtest.h"

namespace sluice::testing {
namespace {

using State = CircuitBreaker::State;

constexpr absl::Time kStart = absl::UnixEpoch();

CircuitBreakerOptions Options(double jitter = 0) {
  CircuitBreakerOptions options;
  options.failures = 3;
  options.first_pause = absl::Seconds(1);
  options.longest_pause = absl::Seconds(8);
  options.jitter = jitter;
  return options;
}

void FailUntilOpen(CircuitBreaker& breaker, absl::Time now) {
  for (int i = 0; i < 3; ++i) breaker.OnFailure(now);
}

TEST(CircuitBreakerTest, OpensAfterFailuresInARowOnly) {
  CircuitBreaker breaker(Options());
  for (int round = 0; round < 10; ++round) {
    breaker.OnFailure(kStart);
    breaker.OnFailure(kStart);
    EXPECT_TRUE(breaker.closed());
    breaker.OnSuccess();
  }
  FailUntilOpen(breaker, kStart);
  EXPECT_EQ(breaker.state(), State::kOpen);
  EXPECT_EQ(breaker.times_opened(), 1);
}

TEST(CircuitBreakerTest, OneTrialAtATimeAndOnlyAfterThePause) {
  CircuitBreaker breaker(Options());
  EXPECT_FALSE(breaker.StartTrial(kStart)) << "closed";
  EXPECT_EQ(breaker.next_trial(), absl::InfiniteFuture());
  FailUntilOpen(breaker, kStart);
  EXPECT_EQ(breaker.next_trial(), kStart + absl::Seconds(1));
  EXPECT_FALSE(breaker.StartTrial(kStart + absl::Milliseconds(999)));
  EXPECT_TRUE(breaker.StartTrial(kStart + absl::Seconds(1)));
  EXPECT_EQ(breaker.state(), State::kHalfOpen);
  EXPECT_FALSE(breaker.closed());
  EXPECT_FALSE(breaker.StartTrial(kStart + absl::Seconds(9)));
  breaker.OnSuccess(/*trial=*/true);
  EXPECT_TRUE(breaker.closed());
  EXPECT_EQ(breaker.trials(), 1);
}

TEST(CircuitBreakerTest, PausesDoubleUpToTheLimitAndStartAnewAfterASuccess) {
  CircuitBreaker breaker(Options());
  absl::Time now = kStart;
  FailUntilOpen(breaker, now);
  for (const int expected : {1, 2, 4, 8, 8}) {
    EXPECT_EQ(breaker.next_trial() - now, absl::Seconds(expected));
    now = breaker.next_trial();
    ASSERT_TRUE(breaker.StartTrial(now));
    breaker.OnFailure(now, /*trial=*/true);
  }
  EXPECT_EQ(breaker.times_opened(), 1) << "a failed trial is no new opening";
  now = breaker.next_trial();
  ASSERT_TRUE(breaker.StartTrial(now));
  breaker.OnSuccess(/*trial=*/true);
  FailUntilOpen(breaker, now);
  EXPECT_EQ(breaker.next_trial() - now, absl::Seconds(1));
  EXPECT_EQ(breaker.times_opened(), 2);
}

TEST(CircuitBreakerTest, LateAnswersChangeNothingWhileItIsOpen) {
  CircuitBreaker breaker(Options());
  FailUntilOpen(breaker, kStart);
  const absl::Time retry = breaker.next_trial();
  breaker.OnSuccess();
  breaker.OnFailure(kStart + absl::Milliseconds(500));
  EXPECT_EQ(breaker.state(), State::kOpen);
  EXPECT_EQ(breaker.next_trial(), retry);
  ASSERT_TRUE(breaker.StartTrial(retry));
  breaker.OnSuccess();
  EXPECT_EQ(breaker.state(), State::kHalfOpen);
}

TEST(CircuitBreakerTest, PausesOfManyServersDifferWithinTheJitter) {
  std::set<absl::Duration> pauses;
  for (uint64_t seed = 0; seed < 100; ++seed) {
    CircuitBreakerOptions options = Options(0.2);
    options.seed = seed;
    CircuitBreaker breaker(options);
    FailUntilOpen(breaker, kStart);
    const absl::Duration pause = breaker.next_trial() - kStart;
    EXPECT_GE(pause, absl::Seconds(0.8));
    EXPECT_LE(pause, absl::Seconds(1.2));
    pauses.insert(pause);
  }
  EXPECT_GT(pauses.size(), 90u);
}

}  // namespace
}  // namespace sluice::testing
