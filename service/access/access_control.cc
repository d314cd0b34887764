#include "service/access/access_control.h"

#include <random>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "scheduler/base/status_macros.h"

namespace sluice {
namespace {

// The tenant of a request that names none.
constexpr char kDefaultTenant[] = "default";

SipKey DrawKey() {
  std::random_device device;
  const auto word = [&device] { return uint64_t{device()} << 32 | device(); };
  return {word(), word()};
}

}  // namespace

absl::StatusOr<std::unique_ptr<AccessControl>> AccessControl::Create(
    const AccessOptions& options, std::function<absl::Time()> clock, TokenFile::Report report) {
  std::unique_ptr<TokenFile> tokens;
  if (!options.token_file.empty()) {
    SLUICE_ASSIGN_OR_RETURN(tokens, TokenFile::Open(options.token_file, clock, std::move(report)));
  }
  return std::unique_ptr<AccessControl>(
      new AccessControl(options, std::move(clock), std::move(tokens)));
}

AccessControl::AccessControl(const AccessOptions& options, std::function<absl::Time()> clock,
                             std::unique_ptr<TokenFile> tokens)
    : isolate_tenants_(options.isolate_tenants),
      clock_(std::move(clock)),
      tokens_(std::move(tokens)),
      key_(DrawKey()),
      limits_(std::make_shared<TenantLimits>(options.limits)) {}

absl::StatusOr<Caller> AccessControl::Authenticate(absl::string_view authorization) {
  if (tokens_ == nullptr) return Caller();
  if (authorization.empty()) {
    return absl::UnauthenticatedError(
        "a token is needed: send the metadata \"authorization: Bearer TOKEN\"");
  }
  const size_t blank = authorization.find(' ');
  if (!absl::EqualsIgnoreCase(authorization.substr(0, blank), "Bearer") ||
      blank == absl::string_view::npos) {
    return absl::UnauthenticatedError("authorization: is not of the form \"Bearer TOKEN\"");
  }
  const std::optional<Caller> caller =
      tokens_->table()->Find(absl::StripAsciiWhitespace(authorization.substr(blank)));
  if (!caller.has_value()) return absl::UnauthenticatedError("authorization: no such token");
  return *caller;
}

absl::Status AccessControl::Prepare(const Caller& caller, RequestSpec* spec) const {
  if (!caller.authenticated) return absl::OkStatus();
  const bool unnamed = spec->tenant.empty() || spec->tenant == kDefaultTenant;
  if (unnamed) spec->tenant = caller.tenant;
  if (spec->tenant != caller.tenant && !caller.admin) {
    return absl::PermissionDeniedError(absl::StrCat("tenant: this token is for ", caller.tenant,
                                                    ", not for ", spec->tenant,
                                                    "; leave the tenant out"));
  }
  if (isolate_tenants_) {
    spec->cache_salt = SipHash(key_, absl::StrCat(spec->cache_salt, "/", spec->tenant));
  }
  return absl::OkStatus();
}

absl::StatusOr<AccessControl::Permit> AccessControl::Admit(const Caller& caller,
                                                           std::vector<RequestSpec>* samples) {
  for (RequestSpec& spec : *samples) SLUICE_RETURN_IF_ERROR(Prepare(caller, &spec));
  const RequestSpec& first = samples->front();
  return limits_->Admit(first.tenant, static_cast<int64_t>(samples->size()),
                        Tokens(static_cast<int64_t>(first.prompt.size())), clock_());
}

absl::Status AccessControl::CheckAdmin(const Caller& caller, absl::string_view what) {
  if (caller.admin) return absl::OkStatus();
  return absl::PermissionDeniedError(
      absl::StrCat(what, ": needs a token with \"admin\" in the token file"));
}

}  // namespace sluice
