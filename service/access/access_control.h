// AccessControl: the door of the server. Every service asks it the same two questions, whatever the
// protocol:
//
//   Authenticate(authorization header) -> Caller     who is it
//   Admit(caller, samples)             -> Permit     may these requests go to the engine
//
// Thread-safe.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "scheduler/request.h"
#include "service/access/caller.h"
#include "service/access/sip_hash.h"
#include "service/access/tenant_limits.h"
#include "service/access/token_file.h"

namespace sluice {

struct AccessOptions {
  std::string token_file;  // empty: nobody needs a token
  // With tokens: tenants share no cached KV, so that none can read another's prompts from the time
  // an answer takes.
  bool isolate_tenants = true;
  TenantLimitOptions limits;
};

class AccessControl {
 public:
  using Permit = TenantLimits::Permit;

  // `clock` is the engine's. `report` hears when the token file was read again, or could not be.
  // Returns NOT_FOUND or INVALID_ARGUMENT naming the token file.
  static absl::StatusOr<std::unique_ptr<AccessControl>> Create(const AccessOptions& options,
                                                               std::function<absl::Time()> clock,
                                                               TokenFile::Report report);

  // The caller with this `authorization` header ("Bearer TOKEN"); empty: there was none.
  // Returns UNAUTHENTICATED; the message says what is missing, never what was sent.
  absl::StatusOr<Caller> Authenticate(absl::string_view authorization);

  // Lets the samples of one request in; all have the same prompt and tenant. Puts the caller's
  // tenant in place, and keeps its cache apart if tenants are isolated. Returns PERMISSION_DENIED
  // for another's tenant, RESOURCE_EXHAUSTED with a time to try again (RetryAfterOf) above a limit.
  // REQUIRES: `samples` is not empty.
  absl::StatusOr<Permit> Admit(const Caller& caller, std::vector<RequestSpec>* samples);

  // The same for a question about a request, which takes no room.
  absl::Status Prepare(const Caller& caller, RequestSpec* spec) const;

  // Whether the cached KV of this caller's requests is its own tenant's alone, or there is nobody
  // to keep it apart from.
  bool KeepsApart(const Caller& caller) const { return !caller.authenticated || isolate_tenants_; }

  // Returns PERMISSION_DENIED unless the caller may stop the server. `what` names the rpc.
  static absl::Status CheckAdmin(const Caller& caller, absl::string_view what);

 private:
  AccessControl(const AccessOptions& options, std::function<absl::Time()> clock,
                std::unique_ptr<TokenFile> tokens);

  const bool isolate_tenants_;
  const std::function<absl::Time()> clock_;
  const std::unique_ptr<TokenFile> tokens_;  // null: nobody needs a token
  const SipKey key_;                         // of the tenants' salts; new in every process
  const std::shared_ptr<TenantLimits> limits_;
};

}  // namespace sluice
