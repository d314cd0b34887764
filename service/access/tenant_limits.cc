#include "service/access/tenant_limits.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "scheduler/base/status_macros.h"
#include "service/access/retry_after.h"

namespace sluice {
namespace {

// Nobody knows when a sample ends; clients back off from here.
constexpr absl::Duration kGuess = absl::Seconds(1);

absl::Status Refuse(absl::Duration retry, std::string message) {
  return WithRetryAfter(absl::ResourceExhaustedError(message), retry);
}

}  // namespace

TenantLimits::Permit& TenantLimits::Permit::operator=(Permit&& other) noexcept {
  Permit old = std::move(*this);
  limits_ = std::move(other.limits_);
  tenant_ = std::move(other.tenant_);
  samples_ = other.samples_;
  waiting_ = other.waiting_;
  return *this;
}

TenantLimits::Permit::~Permit() {
  if (limits_ != nullptr) limits_->Release(tenant_, samples_, waiting_);
}

void TenantLimits::Permit::Started() {
  if (limits_ == nullptr || waiting_ == 0) return;
  --waiting_;
  limits_->Start(tenant_);
}

void TenantLimits::Permit::Charge(Tokens output, absl::Time now) {
  if (limits_ != nullptr) limits_->Charge(tenant_, output, now);
}

absl::StatusOr<TenantLimits::Permit> TenantLimits::Admit(const std::string& tenant, int64_t samples,
                                                         Tokens prompt, absl::Time now) {
  std::lock_guard<std::mutex> lock(mu_);
  Account& account = AccountLocked(tenant, now);
  SLUICE_RETURN_IF_ERROR(CheckLocked(tenant, account, samples, prompt));
  account.samples += samples;
  account.waiting += samples;
  if (options_.tokens_per_minute > 0) account.tokens -= static_cast<double>(prompt.value());
  Permit permit;
  permit.limits_ = shared_from_this();
  permit.tenant_ = tenant;
  permit.samples_ = samples;
  permit.waiting_ = samples;
  return permit;
}

absl::Status TenantLimits::CheckLocked(const std::string& tenant, const Account& account,
                                       int64_t samples, Tokens prompt) const {
  const auto most = options_.max_concurrent;
  if (most > 0 && account.samples + samples > most) {
    return Refuse(kGuess, absl::StrCat("tenant ", tenant, " has ", account.samples,
                                       " samples under way and wants ", samples, " more (limit ",
                                       most, "); wait for some to end"));
  }
  const double share = options_.queue_share * static_cast<double>(options_.queue_limit);
  if (options_.queue_share < 1 && static_cast<double>(account.waiting + samples) > share) {
    return Refuse(kGuess, absl::StrCat("tenant ", tenant, " has ", account.waiting,
                                       " samples waiting and wants ", samples, " more (limit ",
                                       static_cast<int64_t>(share), ", its share of the queue)"));
  }
  if (options_.tokens_per_minute == 0) return absl::OkStatus();
  // A prompt longer than the bucket waits for a full one.
  const auto bucket = static_cast<double>(options_.tokens_per_minute);
  const double missing = std::min(static_cast<double>(prompt.value()), bucket) - account.tokens;
  if (missing <= 0) return absl::OkStatus();
  return Refuse(absl::Minutes(1) * (missing / bucket),
                absl::StrCat("tenant ", tenant, " has used its ", options_.tokens_per_minute,
                             " tokens per minute; this prompt has ", prompt.value()));
}

TenantLimits::Account& TenantLimits::AccountLocked(const std::string& tenant, absl::Time now) {
  if (accounts_.size() >= sweep_at_ && !accounts_.contains(tenant)) SweepLocked(now);
  const auto [it, inserted] = accounts_.try_emplace(tenant);
  if (inserted) {
    it->second.tokens = static_cast<double>(options_.tokens_per_minute);
    it->second.updated = now;
  }
  RefillLocked(it->second, now);
  return it->second;
}

void TenantLimits::RefillLocked(Account& account, absl::Time now) const {
  const auto bucket = static_cast<double>(options_.tokens_per_minute);
  const double minutes = std::max(0.0, absl::FDivDuration(now - account.updated, absl::Minutes(1)));
  account.tokens = std::min(bucket, account.tokens + bucket * minutes);
  account.updated = std::max(account.updated, now);
}

void TenantLimits::SweepLocked(absl::Time now) {
  const auto bucket = static_cast<double>(options_.tokens_per_minute);
  absl::erase_if(accounts_, [&](auto& entry) {
    RefillLocked(entry.second, now);
    return entry.second.samples == 0 && entry.second.tokens >= bucket;
  });
  sweep_at_ = std::max<size_t>(1024, 2 * accounts_.size());
}

void TenantLimits::Release(const std::string& tenant, int64_t samples, int64_t waiting) {
  std::lock_guard<std::mutex> lock(mu_);
  Account& account = accounts_.at(tenant);
  account.samples -= samples;
  account.waiting -= waiting;
}

void TenantLimits::Start(const std::string& tenant) {
  std::lock_guard<std::mutex> lock(mu_);
  --accounts_.at(tenant).waiting;
}

void TenantLimits::Charge(const std::string& tenant, Tokens output, absl::Time now) {
  if (options_.tokens_per_minute == 0) return;
  std::lock_guard<std::mutex> lock(mu_);
  AccountLocked(tenant, now).tokens -= static_cast<double>(output.value());
}

size_t TenantLimits::tenants() const {
  std::lock_guard<std::mutex> lock(mu_);
  return accounts_.size();
}

}  // namespace sluice
