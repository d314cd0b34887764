// TlsFiles: the certificate, key and client authority of HttpServer, read again when one of the
// files changes, so that certificates are renewed without a restart.
//
// A file that turns wrong, or does not fit the others yet, changes nothing: what was read before
// stays, and live connections go on. Thread-compatible.
#pragma once

#include <array>
#include <boost/asio/ssl/context.hpp>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace sluice {

// PEM files.
struct HttpTls {
  std::string certificate;  // with its chain; empty: no TLS
  std::string key;
  std::string client_ca;  // empty: clients need no certificate
  // How often the files are looked at.
  absl::Duration reload_interval = absl::Seconds(10);
};

class TlsFiles {
 public:
  // Hears how it went when the files had changed. Must not block.
  using Report = std::function<void(const absl::Status&)>;

  // Returns INVALID_ARGUMENT naming the file that is missing, no PEM, or does not fit.
  static absl::StatusOr<std::unique_ptr<TlsFiles>> Open(const HttpTls& tls, Report report);

  // For the next connection.
  std::shared_ptr<boost::asio::ssl::context> Current();

 private:
  // What changes when a file does; also when a directory of Kubernetes swaps its link.
  struct Stamp {
    uint64_t inode = 0;
    int64_t size = -1;
    int64_t seconds = 0;
    int64_t nanoseconds = 0;
    friend bool operator==(const Stamp&, const Stamp&) = default;
  };
  using Stamps = std::array<Stamp, 3>;

  TlsFiles(const HttpTls& tls, Report report) : tls_(tls), report_(std::move(report)) {}
  Stamps StampsNow() const;
  absl::StatusOr<std::shared_ptr<boost::asio::ssl::context>> Read() const;

  const HttpTls tls_;
  const Report report_;
  std::shared_ptr<boost::asio::ssl::context> context_;
  Stamps stamps_;
  absl::Time looked_;
};

}  // namespace sluice
