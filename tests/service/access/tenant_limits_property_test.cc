// Random tenants come, start, are charged and go; a slow, obvious model says what must be refused.
#include <algorithm>
#include <cstdint>
#include <map>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "service/access/tenant_limits.h"

namespace sluice {
namespace {

struct Held {
  TenantLimits::Permit permit;
  std::string tenant;
  int64_t samples;
  int64_t waiting;
};

// Tokens in the bucket, by replaying everything that happened to it.
struct Bucket {
  double tokens;
  absl::Time updated;
  void Refill(absl::Time now, double limit) {
    tokens = std::min(limit, tokens + limit * absl::FDivDuration(now - updated, absl::Minutes(1)));
    updated = now;
  }
};

class World {
 public:
  explicit World(uint64_t seed) : random_(seed) {
    options_.max_concurrent = Draw(0, 6);
    options_.queue_share = Draw(0, 1) == 0 ? 1 : 0.25 * static_cast<double>(Draw(1, 3));
    options_.queue_limit = Draw(4, 12);
    options_.tokens_per_minute = Draw(0, 1) * Draw(50, 500);
    limits_ = std::make_shared<TenantLimits>(options_);
  }

  void Step() {
    now_ += absl::Milliseconds(Draw(0, 3000));
    switch (Draw(0, 3)) {
      case 0:
      case 1:
        return Admit();
      case 2:
        return Leave();
      default:
        return Progress();
    }
  }

 private:
  int64_t Draw(int64_t low, int64_t high) {
    return std::uniform_int_distribution<int64_t>(low, high)(random_);
  }

  Bucket& BucketOf(const std::string& tenant) {
    const auto limit = static_cast<double>(options_.tokens_per_minute);
    Bucket& bucket = buckets_.try_emplace(tenant, Bucket{limit, now_}).first->second;
    bucket.Refill(now_, limit);
    return bucket;
  }

  bool Expected(const std::string& tenant, int64_t samples, int64_t prompt) {
    int64_t live = samples;
    int64_t waiting = samples;
    for (const Held& held : held_) {
      if (held.tenant != tenant) continue;
      live += held.samples;
      waiting += held.waiting;
    }
    if (options_.max_concurrent > 0 && live > options_.max_concurrent) return false;
    const double share = options_.queue_share * static_cast<double>(options_.queue_limit);
    if (options_.queue_share < 1 && static_cast<double>(waiting) > share) return false;
    if (options_.tokens_per_minute == 0) return true;
    const int64_t need = std::min(prompt, options_.tokens_per_minute);
    return BucketOf(tenant).tokens >= static_cast<double>(need);
  }

  void Admit() {
    const std::string tenant(1, static_cast<char>('a' + Draw(0, 2)));
    const int64_t samples = Draw(1, 3);
    const int64_t prompt = Draw(1, 200);
    const bool expected = Expected(tenant, samples, prompt);
    auto permit = limits_->Admit(tenant, samples, Tokens(prompt), now_);
    ASSERT_EQ(permit.ok(), expected) << permit.status();
    if (!expected) return;
    if (options_.tokens_per_minute > 0) BucketOf(tenant).tokens -= static_cast<double>(prompt);
    held_.push_back({*std::move(permit), tenant, samples, samples});
  }

  void Leave() {
    if (held_.empty()) return;
    const auto index = static_cast<size_t>(Draw(0, static_cast<int64_t>(held_.size()) - 1));
    std::swap(held_[index], held_.back());
    held_.pop_back();
  }

  void Progress() {
    if (held_.empty()) return;
    Held& held = held_[static_cast<size_t>(Draw(0, static_cast<int64_t>(held_.size()) - 1))];
    held.permit.Started();
    held.waiting = std::max<int64_t>(0, held.waiting - 1);
    const int64_t output = Draw(0, 50);
    held.permit.Charge(Tokens(output), now_);
    if (options_.tokens_per_minute > 0) BucketOf(held.tenant).tokens -= static_cast<double>(output);
  }

  std::mt19937_64 random_;
  TenantLimitOptions options_;
  std::shared_ptr<TenantLimits> limits_;
  absl::Time now_ = absl::UnixEpoch();
  std::map<std::string, Bucket> buckets_;
  std::vector<Held> held_;
};

TEST(TenantLimitsPropertyTest, RefusesWhatTheModelRefusesAndNothingElse) {
  for (uint64_t seed = 1; seed <= 200; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    World world(seed);
    for (int i = 0; i < 200 && !HasFatalFailure(); ++i) world.Step();
    if (HasFatalFailure()) return;
  }
}

}  // namespace
}  // namespace sluice
