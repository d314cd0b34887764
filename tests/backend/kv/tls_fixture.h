// Certificates made by openssl, valid for a day, and ports of this machine.
#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "tests/support/temp_dir.h"

namespace sluice::testing {

// Listens on a port of this machine that nobody else has, and answers nobody unless told to.
class Listener {
 public:
  Listener() : fd_(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in name{};
    name.sin_family = AF_INET;
    name.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof(name);
    EXPECT_EQ(bind(fd_, reinterpret_cast<const sockaddr*>(&name), size), 0);
    EXPECT_EQ(listen(fd_, 16), 0);
    EXPECT_EQ(getsockname(fd_, reinterpret_cast<sockaddr*>(&name), &size), 0);
    port_ = ntohs(name.sin_port);
  }
  ~Listener() { Close(); }
  Listener(const Listener&) = delete;
  Listener& operator=(const Listener&) = delete;

  int port() const { return port_; }
  // The next client.
  int Accept() const { return accept4(fd_, nullptr, nullptr, SOCK_CLOEXEC); }
  void Close() {
    if (fd_ >= 0) close(std::exchange(fd_, -1));
  }

 private:
  int fd_;
  int port_ = 0;
};

inline int FreePort() { return Listener().port(); }

// An authority, and what it has signed, as files in a folder.
class Certificates {
 public:
  explicit Certificates(std::string name = "authority") : name_(std::move(name)) {
    Run(absl::StrCat("req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout ",
                     authority_key(), " -out ", authority(), " -days 1 -subj /CN=", name_));
  }

  std::string authority() const { return File(".pem"); }
  std::string certificate(const std::string& name) const { return File("_" + name + ".pem"); }
  std::string key(const std::string& name) const { return File("_" + name + ".key"); }

  // A certificate for these names ("DNS:localhost,IP:127.0.0.1"); `days`: until it expires.
  void Issue(const std::string& name, const std::string& names, int days = 1) const {
    std::ofstream(File("_ext")) << "subjectAltName=" << names << "\n";
    Run(absl::StrCat("req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout ",
                     key(name), " -out ", File("_csr"), " -subj /CN=", name));
    Run(absl::StrCat("x509 -req -in ", File("_csr"), " -CA ", authority(), " -CAkey ",
                     authority_key(), " -CAcreateserial -out ", certificate(name), " -days ", days,
                     " -extfile ", File("_ext")));
  }

 private:
  std::string File(const std::string& end) const { return dir_.path() + "/" + name_ + end; }
  std::string authority_key() const { return File(".key"); }
  static void Run(const std::string& arguments) {
    const std::string command = "openssl " + arguments + " >/dev/null 2>&1";
    ASSERT_EQ(std::system(command.c_str()), 0) << command;
  }

  const TempDir dir_;
  const std::string name_;
};

}  // namespace sluice::testing
