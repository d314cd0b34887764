#include "backend/kv/remote_address.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/status_matchers.h"

namespace sluice::testing {
namespace {

using ::testing::HasSubstr;

RemoteAddress Parsed(const std::string& url) {
  const absl::StatusOr<RemoteAddress> address = RemoteAddress::Parse(url);
  EXPECT_THAT(address, IsOk()) << url;
  return address.value_or(RemoteAddress());
}

std::string Refused(const std::string& url) {
  const absl::Status status = RemoteAddress::Parse(url).status();
  EXPECT_TRUE(absl::IsInvalidArgument(status)) << url << ": " << status;
  return std::string(status.message());
}

TEST(RemoteAddressTest, HostsHaveAPortAndADatabase) {
  const RemoteAddress plain = Parsed("redis://cache.example");
  EXPECT_EQ(plain.host, "cache.example");
  EXPECT_EQ(plain.port, 6379);
  EXPECT_EQ(plain.db, 0);
  EXPECT_EQ(plain.user, "");
  const RemoteAddress full = Parsed("redis://alice@10.0.0.7:7000/3");
  EXPECT_EQ(full.host, "10.0.0.7");
  EXPECT_EQ(full.port, 7000);
  EXPECT_EQ(full.db, 3);
  EXPECT_EQ(full.user, "alice");
  EXPECT_EQ(Parsed("redis://h:1/").db, 0);
  const RemoteAddress six = Parsed("redis://[::1]:7000");
  EXPECT_EQ(six.host, "::1");
  EXPECT_EQ(six.port, 7000);
  EXPECT_EQ(Parsed("redis://[fe80::1]").host, "fe80::1");
}

TEST(RemoteAddressTest, SocketsHaveAPathAndADatabase) {
  for (const char* url : {"unix:/run/redis.sock", "unix:///run/redis.sock"}) {
    EXPECT_EQ(Parsed(url).path, "/run/redis.sock");
    EXPECT_EQ(Parsed(url).host, "");
  }
  const RemoteAddress full = Parsed("unix:bob@/run/redis.sock?db=2");
  EXPECT_EQ(full.path, "/run/redis.sock");
  EXPECT_EQ(full.user, "bob");
  EXPECT_EQ(full.db, 2);
}

TEST(RemoteAddressTest, TextIsParsedToTheSame) {
  for (const char* url : {"rediss://u@h:1/2", "redis://h:6379", "redis://u@h:1/2",
                          "redis://[::1]:7", "unix:/a/b", "unix:u@/a/b?db=9"}) {
    EXPECT_EQ(Parsed(url).ToText(), url);
  }
}

TEST(RemoteAddressTest, WhatIsWrongIsNamed) {
  EXPECT_THAT(Refused("http://h"), HasSubstr("want redis://"));
  EXPECT_THAT(Refused("redis://"), HasSubstr("names no host"));
  EXPECT_THAT(Refused("redis://h:0"), HasSubstr("port: '0', want 1 to 65535"));
  EXPECT_THAT(Refused("redis://h:70000"), HasSubstr("port: '70000'"));
  EXPECT_THAT(Refused("redis://h:"), HasSubstr("no port"));
  EXPECT_THAT(Refused("redis://h/x"), HasSubstr("database: 'x'"));
  EXPECT_THAT(Refused("redis://[::1"), HasSubstr("']' is missing"));
  EXPECT_THAT(Refused("redis://[::1]x"), HasSubstr("behind ']'"));
  EXPECT_THAT(Refused("unix:relative"), HasSubstr("absolute path"));
  EXPECT_THAT(Refused("unix:/a?x=1"), HasSubstr("only ?db=N"));
  EXPECT_THAT(Refused("unix:/" + std::string(200, 'a')), HasSubstr("at most 107"));
}

TEST(RemoteAddressTest, PasswordsDoNotBelongIntoUrls) {
  for (const char* url : {"redis://alice:secret@h", "redis://:secret@h", "unix:a:secret@/s"}) {
    EXPECT_THAT(Refused(url), HasSubstr("file of its own")) << url;
    EXPECT_THAT(Refused(url), ::testing::Not(HasSubstr("secret"))) << url;
  }
}

TEST(RemoteAddressTest, TlsIsASchemeOfItsOwn) {
  const RemoteAddress address = Parsed("rediss://alice@h/3");
  EXPECT_TRUE(address.tls);
  EXPECT_EQ(address.host, "h");
  EXPECT_EQ(address.port, 6379);
  EXPECT_EQ(address.db, 3);
  EXPECT_FALSE(Parsed("redis://h").tls);
  EXPECT_FALSE(Parsed("unix:/s").tls);
  EXPECT_THAT(Refused("rediss://"), HasSubstr("names no host"));
}

}  // namespace
}  // namespace sluice::testing
