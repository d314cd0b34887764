// HttpServer: HTTP/1.1 on one port, with streaming answers.
//
// Built on Boost.Beast, because it gives what a server of long streams needs and the thread-per-
// connection libraries in Debian (cpp-httplib 0.11, CivetWeb) do not: a deadline for a whole header
// or body, not for each read, so that slow senders cost nothing; a pending read beside the write,
// so that a client that leaves is noticed at once, also while it waits for its first token; and
// thousands of open connections on a few threads.
//
// A client that closes its side of the connection, or only its sending half, has left.
//
// Thread-safe.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "service/http/http_types.h"
#include "service/http/tls_files.h"

namespace sluice {

struct HttpServerOptions {
  // --- Behaviour ---

  std::string host = "127.0.0.1";  // a name or an address
  int port = 8000;                 // 0 picks a free one
  HttpTls tls;                     // none by default
  TlsFiles::Report on_tls_reload;  // null: nobody hears

  // Larger bodies are refused with 413, unread.
  int64_t max_body_bytes = int64_t{16} << 20;
  int64_t max_header_bytes = int64_t{16} << 10;

  // More connections are refused with 503 at once.
  int max_connections = 1024;
  // All bodies being read or handled; a request for which no room is left gets 503. A body counts
  // with its Content-Length, or with max_body_bytes if it has none.
  int64_t max_pending_body_bytes = int64_t{256} << 20;

  // A request's header must be complete this long after its first byte, and so must the handshake
  // of TLS after the connection; its body this long after the header. A connection without a
  // request is closed after `idle_timeout`.
  absl::Duration header_timeout = absl::Seconds(10);
  absl::Duration body_timeout = absl::Seconds(60);
  absl::Duration idle_timeout = absl::Seconds(75);
  // A connection is closed if one write makes no end in this time: its client does not read.
  absl::Duration write_timeout = absl::Seconds(60);

  // --- Performance ---

  int io_threads = 2;      // read and write
  int worker_threads = 2;  // handle requests with a body: parse, tokenize
};

class HttpServer {
 public:
  // Serves from when it returns.
  // Returns UNAVAILABLE naming the address if it cannot be bound, INVALID_ARGUMENT if `host` cannot
  // be resolved or a file of `tls` cannot be used.
  static absl::StatusOr<std::unique_ptr<HttpServer>> Start(const HttpServerOptions& options,
                                                           std::shared_ptr<HttpHandler> handler);
  ~HttpServer();  // Shutdown(now), unless done
  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;

  int port() const;
  // Connections that are open now.
  int connections() const;

  // Closes the port, waits for answers under way until `grace` has passed, breaks off the others,
  // and joins all threads.
  void Shutdown(absl::Duration grace);

 private:
  class Impl;
  explicit HttpServer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace sluice
