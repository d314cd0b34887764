#include "service/cli/client_security.h"

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

TEST(ChannelCredentialsTest, FlagsThatDoNotFitAreNamed) {
  EXPECT_THAT(MakeChannelCredentials({}), IsOk());
  EXPECT_THAT(MakeChannelCredentials({.tls_ca = "system"}), IsOk());
  EXPECT_THAT(MakeChannelCredentials({.tls_cert = "c", .tls_key = "k"}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("--tls-ca: is missing")));
  EXPECT_THAT(MakeChannelCredentials({.tls_ca = "system", .tls_cert = "c"}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("want both or none")));
  EXPECT_THAT(MakeChannelCredentials({.tls_ca = "/nonexistent/ca.pem"}),
              StatusIs(absl::StatusCode::kNotFound,
                       HasSubstr("--tls-ca: cannot read /nonexistent/ca.pem")));
}

TEST(TokenInterceptorTest, WantsOneWordAndNeverRepeatsIt) {
  const testing::TempDir dir;
  const auto make = [&](const std::string& content) {
    return MakeTokenInterceptor({.token_file = dir.Write("token", content)});
  };
  const auto none = MakeTokenInterceptor({});
  ASSERT_THAT(none, IsOk());
  EXPECT_EQ(*none, nullptr);
  const auto one = make("secret-0123456789\n");
  ASSERT_THAT(one, IsOk());
  EXPECT_NE(*one, nullptr);
  for (const char* content : {"secret one\n", " \n", "secret\x01\n"}) {
    EXPECT_THAT(make(content),
                StatusIs(absl::StatusCode::kInvalidArgument,
                         AllOf(HasSubstr("--token-file"), Not(HasSubstr("secret")))));
  }
  EXPECT_THAT(make(""), StatusIs(absl::StatusCode::kNotFound, HasSubstr("or it is empty")));
}

}  // namespace
}  // namespace sluice
