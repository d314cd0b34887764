// TLS: a certificate for the server, one demanded of clients, and new ones while the server runs.
//
// Keys and certificates are made for this test and trusted by nobody: self-signed for localhost,
// valid 2020 to 2120. (openssl req -new; openssl ca -selfsign.)
#include <memory>
#include <string>

#include "gtest/gtest.h"
#include "service/grpc/server_tls.h"
#include "tests/service/grpc/test_server.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"

namespace sluice {
namespace {

using ::sluice::testing::IsOk;
using ::sluice::testing::StatusIs;
using ::testing::HasSubstr;

constexpr char kKey[] = R"(-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgdmTxhBH3QuIQtEMN
n8dJvI6TpU0YVaRpncAlI/xDa2mhRANCAASStnCP8ycSClzA6cb848lukbXtu0xw
Fpxh224i/b5w49xvFPgMsrHSrbZxoC+rO/+enYwQK7yGP4hijvqExqqG
-----END PRIVATE KEY-----
)";

constexpr char kCertificate[] = R"(-----BEGIN CERTIFICATE-----
MIIBajCCARGgAwIBAgIBATAKBggqhkjOPQQDAjAWMRQwEgYDVQQDDAtzbHVpY2Ug
dGVzdDAgFw0yMDAxMDEwMDAwMDBaGA8yMTIwMDEwMTAwMDAwMFowFjEUMBIGA1UE
AwwLc2x1aWNlIHRlc3QwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAASStnCP8ycS
ClzA6cb848lukbXtu0xwFpxh224i/b5w49xvFPgMsrHSrbZxoC+rO/+enYwQK7yG
P4hijvqExqqGo04wTDAPBgNVHRMBAf8EBTADAQH/MBoGA1UdEQQTMBGCCWxvY2Fs
aG9zdIcEfwAAATAdBgNVHQ4EFgQUuicidiDQCaqJFy8QxpWjBaPmGvYwCgYIKoZI
zj0EAwIDRwAwRAIgdvm5ZFSmhpbPbJAkpv1binTvs+0YYC2wBmhJKAXzHB4CIFML
EHSIMJanxqwLhF+TAqrBHReSb1TuPQdMkjyy+2rg
-----END CERTIFICATE-----
)";

// Another pair.
constexpr char kSecondKey[] = R"(-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgHatvze2tjrOUMVze
bPTSingEyw5uaz125Vk9d9qn7nKhRANCAAQ3MC82mK+FhgXQdu6Mj9NYbn+IJLdV
BInnHM7Klv+W8UYoi2YDksK8sn39TT2XzwY0hw+cdu9jxey8OmJ87fcs
-----END PRIVATE KEY-----
)";

constexpr char kSecondCertificate[] = R"(-----BEGIN CERTIFICATE-----
MIIBbjCCARWgAwIBAgIBAjAKBggqhkjOPQQDAjAYMRYwFAYDVQQDDA1zbHVpY2Ug
dGVzdCAyMCAXDTIwMDEwMTAwMDAwMFoYDzIxMjAwMTAxMDAwMDAwWjAYMRYwFAYD
VQQDDA1zbHVpY2UgdGVzdCAyMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAENzAv
NpivhYYF0HbujI/TWG5/iCS3VQSJ5xzOypb/lvFGKItmA5LCvLJ9/U09l88GNIcP
nHbvY8XsvDpifO33LKNOMEwwDwYDVR0TAQH/BAUwAwEB/zAaBgNVHREEEzARggls
b2NhbGhvc3SHBH8AAAEwHQYDVR0OBBYEFB2bkeWqVA4tQPU3RGBj0BUpdmakMAoG
CCqGSM49BAMCA0cAMEQCICwyhgE6/ow9TTceNgHB3AkY65lrGc26rYfKVSHcSeeq
AiAHX/runisAMAb1rYYnws/UfXWkhuvoagazCuUqoE8nYQ==
-----END CERTIFICATE-----
)";

class TlsTest : public ::testing::Test {
 protected:
  // A server with a certificate; `ca` makes it demand one of clients.
  std::unique_ptr<testing::TestServer> Serve(bool ca) {
    testing::TestServerOptions options;
    options.grpc.tls.certificate = dir_.Write("cert.pem", kCertificate);
    options.grpc.tls.key = dir_.Write("key.pem", kKey);
    if (ca) options.grpc.tls.client_ca = options.grpc.tls.certificate;
    options.grpc.tls.reload_interval = absl::Seconds(1);
    return std::make_unique<testing::TestServer>(options);
  }

  static grpc::Status GetLoad(const testing::TestServer& server,
                              const std::shared_ptr<grpc::ChannelCredentials>& credentials) {
    const auto channel =
        grpc::CreateChannel("localhost:" + std::to_string(server.port()), credentials);
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(20));
    v1::Load load;
    return v1::Control::NewStub(channel)->GetLoad(&context, {}, &load);
  }

  static std::shared_ptr<grpc::ChannelCredentials> Trusting(bool with_certificate,
                                                            const char* root = kCertificate) {
    grpc::SslCredentialsOptions ssl;
    ssl.pem_root_certs = root;
    if (with_certificate) {
      ssl.pem_private_key = kKey;
      ssl.pem_cert_chain = kCertificate;
    }
    return grpc::SslCredentials(ssl);
  }

  static absl::Status Start(const std::string& certificate, const std::string& key,
                            const std::string& ca = "") {
    return MakeServerCredentials({certificate, key, ca}).status();
  }

  testing::TempDir dir_;
};

TEST_F(TlsTest, ServesThoseWhoTrustItsCertificateOnly) {
  const auto server = Serve(false);
  EXPECT_TRUE(GetLoad(*server, Trusting(false)).ok());
  EXPECT_EQ(GetLoad(*server, grpc::SslCredentials({})).error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_EQ(GetLoad(*server, grpc::InsecureChannelCredentials()).error_code(),
            grpc::StatusCode::UNAVAILABLE);
}

TEST_F(TlsTest, DemandsACertificateOfClients) {
  const auto server = Serve(true);
  EXPECT_TRUE(GetLoad(*server, Trusting(true)).ok());
  EXPECT_EQ(GetLoad(*server, Trusting(false)).error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_TRUE(GetLoad(*server, Trusting(true)).ok()) << "after one that was refused";
}

// Takes a second or two: gRPC looks at the files once a second.
TEST_F(TlsTest, NewFilesAreUsedWithoutARestart) {
  const auto server = Serve(true);
  EXPECT_TRUE(GetLoad(*server, Trusting(true)).ok());
  EXPECT_EQ(GetLoad(*server, Trusting(true, kSecondCertificate)).error_code(),
            grpc::StatusCode::UNAVAILABLE);

  dir_.Write("key.pem", kSecondKey);
  dir_.Write("cert.pem", kSecondCertificate);  // the file of the clients' CA, too
  grpc::SslCredentialsOptions second;
  second.pem_root_certs = kSecondCertificate;
  second.pem_private_key = kSecondKey;
  second.pem_cert_chain = kSecondCertificate;
  const absl::Time deadline = absl::Now() + absl::Seconds(20);
  bool renewed = false;
  while (!renewed && absl::Now() < deadline) {
    renewed = GetLoad(*server, grpc::SslCredentials(second)).ok();
  }
  EXPECT_TRUE(renewed);
  EXPECT_EQ(GetLoad(*server, Trusting(true)).error_code(), grpc::StatusCode::UNAVAILABLE)
      << "the old certificate is still good";
}

TEST_F(TlsTest, FilesThatCannotWorkAreNamedAtTheStart) {
  const std::string certificate = dir_.Write("cert.pem", kCertificate);
  const std::string key = dir_.Write("key.pem", kKey);
  const std::string other = dir_.Write("other.pem", kSecondKey);
  const std::string noise = dir_.Write("noise.pem", "-----BEGIN NOTHING-----");
  EXPECT_THAT(Start(certificate, key, certificate), IsOk());
  EXPECT_THAT(Start(certificate, ""),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("must both be given")));
  EXPECT_THAT(Start("", "", certificate),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("must both be given")));
  EXPECT_THAT(Start(certificate, dir_.File("none")),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("tls key: cannot read ")));
  EXPECT_THAT(Start(certificate, other),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr(other + " is not the key of the certificate in " + certificate)));
  EXPECT_THAT(Start(noise, key), StatusIs(absl::StatusCode::kInvalidArgument,
                                          HasSubstr(noise + " holds no certificate in PEM")));
  EXPECT_THAT(Start(certificate, certificate),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("holds no private key")));
  EXPECT_THAT(Start(certificate, key, noise),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("tls client ca: " + noise)));
}

}  // namespace
}  // namespace sluice
