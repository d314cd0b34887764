#include "service/access/tenant_limits.h"

#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "service/access/retry_after.h"
#include "tests/support/status_matchers.h"

namespace sluice {
namespace {

using ::sluice::testing::IsOk;
using ::sluice::testing::StatusIs;
using ::testing::HasSubstr;
using Permit = TenantLimits::Permit;

constexpr absl::Time kStart = absl::UnixEpoch();

std::shared_ptr<TenantLimits> Limits(const TenantLimitOptions& options) {
  return std::make_shared<TenantLimits>(options);
}

TEST(TenantLimitsTest, NothingIsRefusedByDefault) {
  const auto limits = Limits({});
  std::vector<Permit> permits;
  for (int i = 0; i < 2000; ++i) {
    auto permit = limits->Admit("a", 16, Tokens(1000000), kStart);
    ASSERT_THAT(permit, IsOk());
    permits.push_back(*std::move(permit));
  }
}

TEST(TenantLimitsTest, ConcurrencyIsPerTenantAndComesBack) {
  const auto limits = Limits({.max_concurrent = 3});
  auto first = limits->Admit("a", 2, Tokens(1), kStart);
  ASSERT_THAT(first, IsOk());
  const auto refused = limits->Admit("a", 2, Tokens(1), kStart);
  EXPECT_THAT(refused, StatusIs(absl::StatusCode::kResourceExhausted,
                                HasSubstr("tenant a has 2 samples under way and wants 2 more "
                                          "(limit 3)")));
  EXPECT_EQ(RetryAfterOf(refused.status()), absl::Seconds(1));
  EXPECT_THAT(limits->Admit("b", 3, Tokens(1), kStart), IsOk());
  first = absl::CancelledError("gone");
  EXPECT_THAT(limits->Admit("a", 3, Tokens(1), kStart), IsOk());
}

TEST(TenantLimitsTest, AStartedSampleLeavesTheQueueButNotTheServer) {
  const auto limits = Limits({.max_concurrent = 4, .queue_share = 0.5, .queue_limit = 4});
  auto first = limits->Admit("a", 2, Tokens(1), kStart);
  ASSERT_THAT(first, IsOk());
  EXPECT_THAT(limits->Admit("a", 1, Tokens(1), kStart),
              StatusIs(absl::StatusCode::kResourceExhausted,
                       HasSubstr("has 2 samples waiting and wants 1 more (limit 2, its share")));
  first->Started();
  auto second = limits->Admit("a", 1, Tokens(1), kStart);
  EXPECT_THAT(second, IsOk());
  first->Started();
  first->Started();  // once too often: ignored
  auto third = limits->Admit("a", 1, Tokens(1), kStart);
  EXPECT_THAT(third, IsOk());
  EXPECT_THAT(limits->Admit("a", 1, Tokens(1), kStart),
              StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("under way")));
}

TEST(TenantLimitsTest, TokensComeBackByTheMinute) {
  const auto limits = Limits({.tokens_per_minute = 600});
  EXPECT_THAT(limits->Admit("a", 1, Tokens(600), kStart), IsOk());
  const auto refused = limits->Admit("a", 1, Tokens(100), kStart);
  EXPECT_THAT(refused, StatusIs(absl::StatusCode::kResourceExhausted,
                                HasSubstr("tenant a has used its 600 tokens per minute; this "
                                          "prompt has 100")));
  EXPECT_EQ(RetryAfterOf(refused.status()), absl::Seconds(10));
  EXPECT_THAT(limits->Admit("a", 1, Tokens(100), kStart + absl::Seconds(9)),
              StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("has used")));
  EXPECT_THAT(limits->Admit("a", 1, Tokens(100), kStart + absl::Seconds(10)), IsOk());
}

TEST(TenantLimitsTest, OutputIsChargedIntoDebt) {
  const auto limits = Limits({.tokens_per_minute = 600});
  auto permit = limits->Admit("a", 1, Tokens(100), kStart);
  ASSERT_THAT(permit, IsOk());
  permit->Charge(Tokens(700), kStart);  // 200 in debt
  const auto refused = limits->Admit("a", 1, Tokens(1), kStart);
  EXPECT_EQ(RetryAfterOf(refused.status()), absl::Seconds(20.1));
  EXPECT_THAT(limits->Admit("b", 1, Tokens(600), kStart), IsOk());
}

TEST(TenantLimitsTest, APromptLongerThanTheBucketNeedsAFullOne) {
  const auto limits = Limits({.tokens_per_minute = 60});
  EXPECT_THAT(limits->Admit("a", 1, Tokens(6000), kStart), IsOk());
  EXPECT_THAT(limits->Admit("a", 1, Tokens(6000), kStart + absl::Minutes(99)),
              StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("has used")));
  EXPECT_THAT(limits->Admit("a", 1, Tokens(6000), kStart + absl::Minutes(100)), IsOk());
}

TEST(TenantLimitsTest, TenantsWhoLeaveAreForgotten) {
  const auto limits = Limits({.max_concurrent = 4, .tokens_per_minute = 60});
  auto stays = limits->Admit("stays", 1, Tokens(60), kStart);
  ASSERT_THAT(stays, IsOk());
  for (int i = 0; i < 20000; ++i) {
    ASSERT_THAT(limits->Admit(absl::StrCat("t", i), 1, Tokens(1), kStart + absl::Minutes(i)),
                IsOk());
  }
  EXPECT_LT(limits->tenants(), 1100);
  EXPECT_THAT(limits->Admit("stays", 4, Tokens(1), kStart + absl::Minutes(30000)),
              StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("1 samples under way")));
}

TEST(PermitTest, MovesWithWhatItHolds) {
  const auto limits = Limits({.max_concurrent = 2});
  Permit kept;
  {
    auto permit = limits->Admit("a", 1, Tokens(1), kStart);
    ASSERT_THAT(permit, IsOk());
    kept = *std::move(permit);
  }
  EXPECT_THAT(limits->Admit("a", 2, Tokens(1), kStart),
              StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("1 samples under way")));
  auto other = limits->Admit("a", 1, Tokens(1), kStart);
  ASSERT_THAT(other, IsOk());
  kept = *std::move(other);  // gives back what it had
  EXPECT_THAT(limits->Admit("a", 1, Tokens(1), kStart), IsOk());
  kept = Permit();
  EXPECT_THAT(limits->Admit("a", 2, Tokens(1), kStart), IsOk());
}

TEST(RetryAfterTest, TravelsWithTheStatus) {
  EXPECT_EQ(RetryAfterOf(absl::ResourceExhaustedError("x")), std::nullopt);
  EXPECT_EQ(RetryAfterOf(WithRetryAfter(absl::ResourceExhaustedError("x"), absl::Seconds(1.5))),
            absl::Seconds(1.5));
}

}  // namespace
}  // namespace sluice
