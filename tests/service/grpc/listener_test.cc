// The port of GrpcServer: how many connections it takes, and what it does with more.
#include "service/grpc/listener.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <memory>
#include <vector>

#include "gtest/gtest.h"
#include "tests/service/grpc/test_server.h"
#include "tests/support/status_matchers.h"

namespace sluice {
namespace {

using ::sluice::testing::StatusIs;
using ::testing::HasSubstr;

constexpr int kPatienceMilliseconds = 30'000;

// A connection that says nothing.
class Mute {
 public:
  explicit Mute(int port) : fd_(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address = {};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<uint16_t>(port));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(connect(fd_, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  }
  ~Mute() { close(fd_); }
  Mute(const Mute&) = delete;
  Mute& operator=(const Mute&) = delete;

  // Waits for what the server says: true if it says something, false if it hangs up.
  bool IsWelcome() const {
    pollfd watched = {fd_, POLLIN, 0};
    EXPECT_EQ(poll(&watched, 1, kPatienceMilliseconds), 1);
    char byte = 0;
    return recv(fd_, &byte, 1, 0) == 1;
  }

 private:
  const int fd_;
};

TEST(ListenerTest, MoreConnectionsThanAllowedAreClosedAndRoomComesBack) {
  testing::TestServerOptions options;
  options.grpc.max_connections = 3;
  testing::TestServer server(options);
  std::vector<std::unique_ptr<Mute>> held;
  for (int i = 0; i < 3; ++i) {
    held.push_back(std::make_unique<Mute>(server.port()));
    EXPECT_TRUE(held.back()->IsWelcome()) << "gRPC speaks first";
  }
  for (int i = 0; i < 5; ++i) EXPECT_FALSE(Mute(server.port()).IsWelcome());
  held.clear();
  bool welcome = false;
  const absl::Time end = absl::Now() + absl::Milliseconds(kPatienceMilliseconds);
  while (!welcome && absl::Now() < end) welcome = Mute(server.port()).IsWelcome();
  EXPECT_TRUE(welcome);
}

TEST(ListenerTest, AHandshakeThatDoesNotGoOnIsCutOff) {
  testing::TestServerOptions options;
  options.grpc.handshake_timeout = absl::Milliseconds(100);
  testing::TestServer server(options);
  const Mute mute(server.port());
  while (mute.IsWelcome()) {
  }
  EXPECT_TRUE(server.Generate(testing::PlainRequest("x", 1)).status.ok());
}

TEST(ListenerTest, SaysWhyItCannotListen) {
  auto first = Listener::Bind("127.0.0.1", 0);
  ASSERT_TRUE(first.ok()) << first.status();
  EXPECT_THAT(Listener::Bind("127.0.0.1", (*first)->port()).status(),
              StatusIs(absl::StatusCode::kUnavailable, HasSubstr("Address already in use")));
  EXPECT_EQ(Listener::Bind("no such host.invalid", 0).status().code(),
            absl::StatusCode::kUnavailable);
  const int port = (*first)->port();
  first->reset();
  EXPECT_TRUE(Listener::Bind("127.0.0.1", port).ok());
}

TEST(ListenerTest, TakesNamesAndBothFamilies) {
  for (const char* host : {"localhost", "0.0.0.0", "127.0.0.1"}) {
    const auto listener = Listener::Bind(host, 0);
    ASSERT_TRUE(listener.ok()) << host << ": " << listener.status();
    EXPECT_GT((*listener)->port(), 0);
  }
  // Machines without IPv6 may refuse these; the brackets must not be the reason.
  EXPECT_EQ(Listener::Bind("::1", 0).ok(), Listener::Bind("[::1]", 0).ok());
}

}  // namespace
}  // namespace sluice
