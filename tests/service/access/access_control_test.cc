#include "service/access/access_control.h"

#include <set>

#include "absl/time/clock.h"
#include "gtest/gtest.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"

namespace sluice {
namespace {

using ::sluice::testing::IsOk;
using ::sluice::testing::StatusIs;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr char kTokens[] =
    "anna-0123456789abcdef anna\n"
    "bert-0123456789abcdef bert\n"
    "gate-0123456789abcdef gate admin\n";

class AccessControlTest : public ::testing::Test {
 protected:
  std::unique_ptr<AccessControl> Make(AccessOptions options) {
    auto access = AccessControl::Create(options, absl::Now, nullptr);
    EXPECT_THAT(access, IsOk());
    return *std::move(access);
  }
  std::unique_ptr<AccessControl> MakeWithTokens(bool isolate = true) {
    AccessOptions options;
    options.token_file = dir_.Write("tokens", kTokens);
    options.isolate_tenants = isolate;
    return Make(options);
  }
  // The caller with this token.
  static Caller Of(AccessControl& access, const std::string& name) {
    auto caller = access.Authenticate("Bearer " + name + "-0123456789abcdef");
    EXPECT_THAT(caller, IsOk());
    return caller.ok() ? *caller : Caller();
  }
  static RequestSpec Spec(const std::string& tenant, uint64_t salt) {
    RequestSpec spec;
    spec.tenant = tenant;
    spec.cache_salt = salt;
    spec.prompt = {1, 2, 3};
    return spec;
  }
  static uint64_t SaltOf(AccessControl& access, const std::string& name, const std::string& tenant,
                         uint64_t salt) {
    RequestSpec spec = Spec(tenant, salt);
    EXPECT_THAT(access.Prepare(Of(access, name), &spec), IsOk());
    return spec.cache_salt;
  }

  testing::TempDir dir_;
};

TEST_F(AccessControlTest, WithoutTokensEverybodyIsWhoTheySayTheyAre) {
  const auto access = Make({});
  for (const char* header : {"", "Bearer x", "nonsense"}) {
    const auto caller = access->Authenticate(header);
    ASSERT_THAT(caller, IsOk()) << header;
    EXPECT_FALSE(caller->authenticated);
    EXPECT_THAT(AccessControl::CheckAdmin(*caller, "Drain"), IsOk());
    std::vector<RequestSpec> samples = {Spec("anyone", 7)};
    EXPECT_THAT(access->Admit(*caller, &samples), IsOk());
    EXPECT_EQ(samples[0].tenant, "anyone");
    EXPECT_EQ(samples[0].cache_salt, 7);
  }
}

TEST_F(AccessControlTest, ATokenIsNeededAndMustBeRight) {
  const auto access = MakeWithTokens();
  EXPECT_EQ(Of(*access, "anna").tenant, "anna");
  EXPECT_THAT(access->Authenticate("bearer   anna-0123456789abcdef "), IsOk());
  const auto refused = [&](const char* header, const char* why) {
    EXPECT_THAT(access->Authenticate(header),
                StatusIs(absl::StatusCode::kUnauthenticated,
                         AllOf(HasSubstr(why), Not(HasSubstr("secret")))));
  };
  refused("", "a token is needed: send the metadata");
  refused("Basic secretsecretsecret", "is not of the form");
  refused("secretsecretsecretsecret", "is not of the form");
  refused("Bearer", "is not of the form");
  refused("Bearer ", "no such token");
  refused("Bearer secretsecretsecret", "no such token");
}

TEST_F(AccessControlTest, TheTenantIsThatOfTheToken) {
  const auto access = MakeWithTokens();
  const auto tenant = [&](const char* name, const char* wanted) -> absl::StatusOr<std::string> {
    RequestSpec spec = Spec(wanted, 0);
    if (auto status = access->Prepare(Of(*access, name), &spec); !status.ok()) return status;
    return spec.tenant;
  };
  EXPECT_EQ(*tenant("anna", ""), "anna");
  EXPECT_EQ(*tenant("anna", "default"), "anna");
  EXPECT_EQ(*tenant("anna", "anna"), "anna");
  EXPECT_THAT(tenant("anna", "bert"), StatusIs(absl::StatusCode::kPermissionDenied,
                                               HasSubstr("this token is for anna, not for bert")));
  EXPECT_EQ(*tenant("gate", "bert"), "bert");
  EXPECT_EQ(*tenant("gate", ""), "gate");
}

TEST_F(AccessControlTest, OnlyAdminsMayStopTheServer) {
  const auto access = MakeWithTokens();
  EXPECT_THAT(AccessControl::CheckAdmin(Of(*access, "gate"), "Drain"), IsOk());
  EXPECT_THAT(AccessControl::CheckAdmin(Of(*access, "anna"), "Drain"),
              StatusIs(absl::StatusCode::kPermissionDenied,
                       HasSubstr("Drain: needs a token with \"admin\"")));
}

TEST_F(AccessControlTest, CachesOfTenantsAreApart) {
  const auto access = MakeWithTokens();
  const std::set<uint64_t> salts = {SaltOf(*access, "anna", "", 0), SaltOf(*access, "bert", "", 0),
                                    SaltOf(*access, "anna", "", 1), SaltOf(*access, "bert", "", 1)};
  EXPECT_EQ(salts.size(), 4);
  EXPECT_FALSE(salts.contains(0)) << "0 is everybody's";
  EXPECT_EQ(SaltOf(*access, "anna", "", 1), SaltOf(*access, "anna", "anna", 1));
  EXPECT_EQ(SaltOf(*access, "gate", "bert", 1), SaltOf(*access, "bert", "", 1));
}

TEST_F(AccessControlTest, NobodyKnowsTheSaltsOfAnotherProcess) {
  const auto one = MakeWithTokens();
  const auto other = MakeWithTokens();
  EXPECT_NE(SaltOf(*one, "anna", "", 0), SaltOf(*other, "anna", "", 0));
}

TEST_F(AccessControlTest, TenantsMayShareIfToldTo) {
  const auto access = MakeWithTokens(/*isolate=*/false);
  EXPECT_EQ(SaltOf(*access, "anna", "", 5), 5);
  EXPECT_EQ(SaltOf(*access, "bert", "", 5), 5);
}

TEST_F(AccessControlTest, LimitsCountAllSamplesOfTheTokensTenant) {
  AccessOptions options;
  options.token_file = dir_.Write("tokens", kTokens);
  options.limits.max_concurrent = 2;
  const auto access = Make(options);
  std::vector<RequestSpec> two = {Spec("", 0), Spec("", 0)};
  const auto held = access->Admit(Of(*access, "anna"), &two);
  ASSERT_THAT(held, IsOk());
  std::vector<RequestSpec> one = {Spec("", 0)};
  EXPECT_THAT(access->Admit(Of(*access, "anna"), &one),
              StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("tenant anna has 2")));
  std::vector<RequestSpec> other = {Spec("", 0)};
  EXPECT_THAT(access->Admit(Of(*access, "bert"), &other), IsOk());
}

}  // namespace
}  // namespace sluice
