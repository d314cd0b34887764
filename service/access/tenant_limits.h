// TenantLimits: how much of the server one tenant may have at a time. The scheduler shares what
// there is fairly; these limits refuse at the door what would not be worth queueing.
//
// Three limits, each off by default:
//   concurrency   samples admitted and not ended
//   queue share   samples admitted and without a first token, as a share of the queue
//   tokens/minute a bucket of one minute: a request needs room for its prompt, and pays for it at
//                 once; what it generates is charged as it comes, if need be into debt
//
// Thread-safe.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <string>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "scheduler/base/units.h"

namespace sluice {

struct TenantLimitOptions {
  int64_t max_concurrent = 0;     // 0: no limit
  double queue_share = 1;         // (0, 1]; 1: no limit
  int64_t tokens_per_minute = 0;  // 0: no limit
  int64_t queue_limit = 1024;     // what queue_share is a share of
};

class TenantLimits : public std::enable_shared_from_this<TenantLimits> {
 public:
  // The right to have some samples in the server, until it goes.
  //
  // Thread-compatible.
  class Permit {
   public:
    Permit() = default;  // of nobody: all methods do nothing
    Permit(Permit&& other) noexcept = default;
    Permit& operator=(Permit&& other) noexcept;
    ~Permit();

    // A sample has its first token. At most as often as there are samples.
    void Started();
    // Tokens were generated.
    void Charge(Tokens output, absl::Time now);

   private:
    friend class TenantLimits;
    std::shared_ptr<TenantLimits> limits_;  // null: of nobody
    std::string tenant_;
    int64_t samples_ = 0;
    int64_t waiting_ = 0;
  };

  explicit TenantLimits(const TenantLimitOptions& options) : options_(options) {}

  // Lets `samples` samples of a prompt of `prompt` tokens in. `now` never goes back.
  // Returns RESOURCE_EXHAUSTED, with the time to try again (RetryAfterOf), naming the limit.
  absl::StatusOr<Permit> Admit(const std::string& tenant, int64_t samples, Tokens prompt,
                               absl::Time now);

  // Tenants that are remembered: those with samples, or with an account that is not full.
  size_t tenants() const;

 private:
  struct Account {
    int64_t samples = 0;
    int64_t waiting = 0;
    double tokens = 0;  // in the bucket; negative: in debt
    absl::Time updated;
  };

  Account& AccountLocked(const std::string& tenant, absl::Time now);
  void RefillLocked(Account& account, absl::Time now) const;
  // Forgets tenants about whom there is nothing to know.
  void SweepLocked(absl::Time now);
  absl::Status CheckLocked(const std::string& tenant, const Account& account, int64_t samples,
                           Tokens prompt) const;

  void Release(const std::string& tenant, int64_t samples, int64_t waiting);
  void Start(const std::string& tenant);
  void Charge(const std::string& tenant, Tokens output, absl::Time now);

  const TenantLimitOptions options_;

  mutable std::mutex mu_;
  absl::flat_hash_map<std::string, Account> accounts_;  // guarded by mu_
  size_t sweep_at_ = 1024;                              // guarded by mu_
};

}  // namespace sluice
