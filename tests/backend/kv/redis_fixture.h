// A real redis-server for tests, on a unix socket in a folder of its own: started, killed, stopped
// and continued at will. It dies with the test.
#pragma once

#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "backend/kv/redis_connection.h"
#include "gtest/gtest.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"

namespace sluice::testing {

class RedisServer {
 public:
  // Debian's, or that of $SLUICE_REDIS_SERVER. Empty: none is installed.
  static std::string Binary() {
    if (const char* named = std::getenv("SLUICE_REDIS_SERVER"); named != nullptr) return named;
    const std::string path = "/usr/bin/redis-server";
    return std::filesystem::exists(path) ? path : "";
  }

  explicit RedisServer(std::vector<std::string> flags = {}) : flags_(std::move(flags)) { Start(); }
  ~RedisServer() { Kill(); }
  RedisServer(const RedisServer&) = delete;
  RedisServer& operator=(const RedisServer&) = delete;

  RemoteAddress address() const {
    RemoteAddress address;
    address.path = socket();
    return address;
  }
  // On one of this machine's ports, which the flags name.
  static RemoteAddress AtPort(int port, bool tls, std::string host = "127.0.0.1") {
    RemoteAddress address;
    address.host = std::move(host);
    address.port = port;
    address.tls = tls;
    return address;
  }
  std::string socket() const { return dir_.path() + "/socket"; }
  std::string path(const std::string& name) const { return dir_.path() + "/" + name; }

  // Empty, as it has no files.
  void Start() {
    std::vector<std::string> words = {
        Binary(),       "--port", "0",     "--unixsocket", socket(),     "--save", "",
        "--appendonly", "no",     "--dir", dir_.path(),    "--loglevel", "notice"};
    words.insert(words.end(), flags_.begin(), flags_.end());
    std::vector<char*> argv;
    for (std::string& word : words) argv.push_back(word.data());
    argv.push_back(nullptr);
    std::filesystem::remove(socket());
    int said[2];
    ASSERT_EQ(pipe2(said, O_CLOEXEC), 0);
    pid_ = fork();
    if (pid_ == 0) {
      prctl(PR_SET_PDEATHSIG, SIGKILL);
      dup2(said[1], STDOUT_FILENO);
      dup2(said[1], STDERR_FILENO);
      execv(argv[0], argv.data());
      _exit(127);
    }
    close(said[1]);
    std::string log;
    char part[256];
    for (ssize_t got = 1; got > 0;) {
      got = read(said[0], part, sizeof(part));
      if (got > 0) log.append(part, static_cast<size_t>(got));
      if (log.find("eady to accept connections at") != std::string::npos) break;
    }
    close(said[0]);  // it says no more that matters
    if (log.find("eady to accept connections at") != std::string::npos) return;
    ADD_FAILURE() << "redis-server does not start: " << log;
  }
  void Kill() {
    if (pid_ <= 0) return;
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
    pid_ = 0;
  }
  void Stop() const { kill(pid_, SIGSTOP); }
  void Continue() const { kill(pid_, SIGCONT); }

  // A connection of the test's own.
  std::unique_ptr<RedisConnection> Connect(const std::string& password = "") const {
    auto connection = RedisConnection::Connect(address(), password, absl::Seconds(10));
    EXPECT_THAT(connection, IsOk());
    return connection.ok() ? *std::move(connection) : nullptr;
  }

 private:
  const TempDir dir_;
  const std::vector<std::string> flags_;
  pid_t pid_ = 0;
};

class RedisTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (RedisServer::Binary().empty()) GTEST_SKIP() << "redis-server is not installed";
  }
};

}  // namespace sluice::testing
