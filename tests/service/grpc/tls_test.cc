// TLS: a certificate for the server, and one demanded of clients.
//
// Key and certificate are made for this test and trusted by nobody: self-signed for localhost,
// valid 2020 to 2120. (openssl req -new; openssl ca -selfsign.)
#include <memory>
#include <string>

#include "gtest/gtest.h"
#include "tests/service/grpc/test_server.h"
#include "tests/support/temp_dir.h"

namespace sluice {
namespace {

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

class TlsTest : public ::testing::Test {
 protected:
  // A server with a certificate; `ca` makes it demand one of clients.
  std::unique_ptr<testing::TestServer> Serve(bool ca) {
    testing::TestServerOptions options;
    options.grpc.tls_certificate = dir_.Write("cert.pem", kCertificate);
    options.grpc.tls_key = dir_.Write("key.pem", kKey);
    if (ca) options.grpc.tls_ca = options.grpc.tls_certificate;
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

  static std::shared_ptr<grpc::ChannelCredentials> Trusting(bool with_certificate) {
    grpc::SslCredentialsOptions ssl;
    ssl.pem_root_certs = kCertificate;
    if (with_certificate) {
      ssl.pem_private_key = kKey;
      ssl.pem_cert_chain = kCertificate;
    }
    return grpc::SslCredentials(ssl);
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
}

}  // namespace
}  // namespace sluice
