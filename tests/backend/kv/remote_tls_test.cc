// TLS to a real redis-server: what passes, and what is said where one side does not accept the
// other.
#include <chrono>
#include <thread>

#include "backend/kv/remote_resolver.h"
#include "backend/kv/remote_socket.h"
#include "tests/backend/kv/link_world.h"
#include "tests/backend/kv/remote_fixture.h"
#include "tests/backend/kv/tls_fixture.h"

namespace sluice::testing {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr char kHere[] = "DNS:localhost,IP:127.0.0.1,IP:::1";

class RemoteTlsTest : public RemoteStoreTest {
 protected:
  void SetUp() override {
    RemoteStoreTest::SetUp();
    if (std::system("openssl version >/dev/null 2>&1") != 0) GTEST_SKIP() << "openssl is missing";
  }

  // A server with the certificate `name`; `clients`: "no", or "yes" if they need one, too.
  std::unique_ptr<RedisServer> Serve(const std::string& name, const std::string& clients = "no") {
    port_ = FreePort();
    return std::make_unique<RedisServer>(std::vector<std::string>{
        "--tls-port", absl::StrCat(port_), "--tls-cert-file", authority_.certificate(name),
        "--tls-key-file", authority_.key(name), "--tls-ca-cert-file", authority_.authority(),
        "--tls-auth-clients", clients, "--bind", "127.0.0.1"});
  }
  RemoteTlsOptions Trusting(const Certificates& authority) const {
    return {.ca_file = authority.authority(), .certificate_file = "", .key_file = ""};
  }
  RemoteTlsOptions Showing(const Certificates& signer, const std::string& name) const {
    return {authority_.authority(), signer.certificate(name), signer.key(name)};
  }
  absl::Status Try(const RemoteTlsOptions& tls, const std::string& host = "127.0.0.1",
                   absl::Duration timeout = absl::Seconds(10)) const {
    return RedisConnection::Connect(RedisServer::AtPort(port_, true, host), "", timeout, tls)
        .status();
  }
  std::unique_ptr<RemoteStore> OpenTls(const RedisServer& server, const RemoteTlsOptions& tls,
                                       DiskNamespace space = SmallSpace()) {
    RemoteStoreOptions options = Options(server, std::move(space));
    options.pool.address = RedisServer::AtPort(port_, true);
    options.pool.tls = tls;
    options.pool.timeout = absl::Seconds(10);
    return *RemoteStore::Create(std::move(options));
  }

  const Certificates authority_;
  int port_ = 0;
};

TEST_F(RemoteTlsTest, BlocksOfAllSizesGoThroughAndComeBack) {
  authority_.Issue("server", kHere);
  const auto server = Serve("server");
  for (const int64_t layer : {4096, 300 << 10}) {
    const StoreShape shape = SmallShape(3 * layer);
    const DiskNamespace space = SmallSpace(shape);
    const std::vector<TestBlock> blocks = MakePrompt(1, layer == 4096 ? 100 : 2, 0, shape);
    RemoteStoreOptions options = Options(*server, space);
    const auto store = OpenTls(*server, Trusting(authority_), space);
    ASSERT_THAT(store->pool().Start(), IsOk());
    LinkWorld world(*store, 200);
    ASSERT_THAT(world.Spill(1, blocks, 0, 0).status, IsOk());
    const CopyResult staged = world.Stage(2, blocks, 0, 100);
    EXPECT_THAT(staged.status, IsOk());
    for (size_t i = 0; i < blocks.size(); ++i) {
      EXPECT_EQ(world.HostBlock(100 + i), blocks[i].bytes) << i;
    }
    const absl::StatusOr<size_t> found = store->Find(Names(blocks));
    ASSERT_THAT(found, IsOk());
    EXPECT_EQ(*found, blocks.size());
  }
}

TEST_F(RemoteTlsTest, NamesAndAddressesAreThoseOfTheCertificate) {
  authority_.Issue("server", kHere);
  authority_.Issue("other", "DNS:other.example,IP:10.0.0.1");
  auto server = Serve("server");
  EXPECT_THAT(Try(Trusting(authority_)), IsOk());
  EXPECT_THAT(Try(Trusting(authority_), "localhost"), IsOk());
  server = Serve("other");
  for (const char* host : {"127.0.0.1", "localhost"}) {
    const absl::Status status = Try(Trusting(authority_), host);
    EXPECT_THAT(status,
                StatusIs(absl::StatusCode::kPermissionDenied,
                         HasSubstr(absl::StrCat("its certificate is for other.example, 10.0.0.1, "
                                                "not for ",
                                                host))))
        << status;
  }
}

TEST_F(RemoteTlsTest, AnAuthorityThatIsNotTrustedIsNamedWithTheRemedy) {
  authority_.Issue("server", kHere);
  const Certificates another("another");
  const auto server = Serve("server");
  for (const RemoteTlsOptions& tls : {Trusting(another), RemoteTlsOptions()}) {
    EXPECT_THAT(Try(tls), StatusIs(absl::StatusCode::kPermissionDenied,
                                   AllOf(HasSubstr("(/CN="), HasSubstr("is not trusted"),
                                         HasSubstr("--kv-remote-ca-file"))));
  }
}

TEST_F(RemoteTlsTest, AnExpiredCertificateIsRefused) {
  authority_.Issue("old", kHere, /*days=*/-1);
  const auto server = Serve("old");
  EXPECT_THAT(Try(Trusting(authority_)),
              StatusIs(absl::StatusCode::kPermissionDenied,
                       AllOf(HasSubstr("/CN=old"), HasSubstr("has expired on"))));
}

TEST_F(RemoteTlsTest, AServerMayWantACertificateOfOurs) {
  authority_.Issue("server", kHere);
  authority_.Issue("client", "DNS:client");
  const Certificates another("another");
  another.Issue("client", "DNS:client");
  const auto server = Serve("server", "yes");
  EXPECT_THAT(Try(Showing(authority_, "client")), IsOk());
  EXPECT_THAT(Try(Trusting(authority_)),
              StatusIs(absl::StatusCode::kPermissionDenied, HasSubstr("--kv-remote-cert-file")));
  EXPECT_THAT(Try(Showing(another, "client")),
              StatusIs(absl::StatusCode::kPermissionDenied, HasSubstr("our certificate")));
}

TEST_F(RemoteTlsTest, FilesThatCannotBeUsedAreNamed) {
  authority_.Issue("server", kHere);
  authority_.Issue("client", "DNS:client");
  const auto server = Serve("server");
  RemoteTlsOptions tls = Trusting(authority_);
  tls.ca_file = "/nowhere/ca.pem";
  EXPECT_THAT(Try(tls), StatusIs(absl::StatusCode::kNotFound,
                                 AllOf(HasSubstr("--kv-remote-ca-file"), HasSubstr("/nowhere"))));
  tls.ca_file = authority_.key("server");  // no certificate in there
  EXPECT_THAT(Try(tls), StatusIs(absl::StatusCode::kNotFound, HasSubstr("--kv-remote-ca-file")));
  tls = Showing(authority_, "client");
  tls.certificate_file = "/nowhere/cert.pem";
  EXPECT_THAT(Try(tls), StatusIs(absl::StatusCode::kNotFound, HasSubstr("--kv-remote-cert-file")));
  tls = Showing(authority_, "client");
  tls.key_file = authority_.key("server");
  EXPECT_THAT(Try(tls), StatusIs(absl::StatusCode::kNotFound,
                                 AllOf(HasSubstr("--kv-remote-key-file"), HasSubstr("mismatch"))));
}

TEST_F(RemoteTlsTest, WithoutTlsToAPortWithItAndTheOtherWayRound) {
  authority_.Issue("server", kHere);
  const auto server = Serve("server");
  const absl::Status plain =
      RedisConnection::Connect(RedisServer::AtPort(port_, false), "", absl::Seconds(10)).status();
  EXPECT_THAT(plain, StatusIs(absl::StatusCode::kUnavailable, HasSubstr("use rediss://")));
  port_ = FreePort();
  const RedisServer open({"--port", absl::StrCat(port_)});
  const absl::Status tls = Try(Trusting(authority_), "127.0.0.1", absl::Milliseconds(500));
  EXPECT_FALSE(tls.ok());
  EXPECT_THAT(std::string(tls.message()), HasSubstr("redis://"));
}

TEST_F(RemoteTlsTest, AHandshakeThatNobodyAnswersEndsInTime) {
  const Listener listener;
  port_ = listener.port();
  const absl::Time start = absl::Now();
  EXPECT_THAT(Try(Trusting(authority_), "127.0.0.1", absl::Milliseconds(100)),
              StatusIs(absl::StatusCode::kDeadlineExceeded,
                       AllOf(HasSubstr("handshake"), HasSubstr("100ms"))));
  EXPECT_LT(absl::Now() - start, absl::Seconds(5));
}

TEST_F(RemoteTlsTest, AServerThatGoesAwayInTheHandshakeIsNotThere) {
  const Listener listener;
  port_ = listener.port();
  std::thread server([&] {
    const int client = listener.Accept();
    std::byte hello{};
    EXPECT_EQ(read(client, &hello, 1), 1);
    close(client);  // with the rest unread: a reset
  });
  EXPECT_THAT(Try(Trusting(authority_)), StatusIs(absl::StatusCode::kUnavailable, HasSubstr("")));
  server.join();
}

TEST_F(RemoteTlsTest, AServerThatIsKilledIsFoundAgain) {
  authority_.Issue("server", kHere);
  const auto server = Serve("server");
  const std::vector<TestBlock> blocks = MakePrompt(1, 4);
  const auto store = OpenTls(*server, Trusting(authority_));
  ASSERT_THAT(store->pool().Start(), IsOk());
  ASSERT_THAT(WriteAll(*store, blocks), IsOk());
  server->Kill();
  std::vector<std::byte> bytes;
  for (int i = 0; i < 3; ++i) {
    EXPECT_TRUE(absl::IsUnavailable(ReadBack(*store, BlockId(0), blocks[0].identity, &bytes)));
  }
  EXPECT_EQ(store->stats().breaker_state, 2);
  server->Start();
  clock_.Advance(absl::Seconds(10));
  store->pool().Tend();
  EXPECT_EQ(store->stats().breaker_state, 0);
  ASSERT_THAT(WriteAll(*store, blocks), IsOk());
  EXPECT_THAT(ReadBack(*store, BlockId(0), blocks[0].identity, &bytes), IsOk());
}

// ---- Names -------------------------------------------------------------------------------------

TEST(RemoteResolverTest, AddressesNeedNoNameServer) {
  for (const auto& [host, family] : {std::pair{"127.0.0.1", AF_INET}, std::pair{"::1", AF_INET6}}) {
    const auto found = ResolveHost(host, 6379, absl::ZeroDuration());
    ASSERT_THAT(found, IsOk());
    EXPECT_EQ((*found)[0].family(), family);
  }
}

TEST(RemoteResolverTest, AHostThatDoesNotExistIsNamedInTime) {
  const absl::Time start = absl::Now();
  const absl::Status status =
      ResolveHost("no-such-host.invalid", 6379, absl::Milliseconds(200)).status();
  EXPECT_TRUE(absl::IsUnavailable(status) || absl::IsDeadlineExceeded(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("no-such-host.invalid"));
  EXPECT_LT(absl::Now() - start, absl::Seconds(5));
}

}  // namespace
}  // namespace sluice::testing
