#include "service/http/http_server.h"

#include <algorithm>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/strand.hpp>
#include <boost/asio/thread_pool.hpp>
#include <chrono>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "scheduler/base/status_macros.h"
#include "service/http/connection.h"

namespace sluice {
namespace {

namespace asio = boost::asio;
using Error = boost::system::error_code;
using asio::ip::tcp;

// After a failed accept, mostly because the process is out of file descriptors.
constexpr std::chrono::milliseconds kAcceptPause(100);
// How often Shutdown() looks whether the answers under way are complete.
constexpr absl::Duration kShutdownSlice = absl::Milliseconds(5);
// For connections to close after their last answer.
constexpr absl::Duration kCloseGrace = absl::Milliseconds(200);

std::string WithoutBrackets(const std::string& host) {
  if (host.size() < 2 || host.front() != '[' || host.back() != ']') return host;
  return host.substr(1, host.size() - 2);
}

}  // namespace

class HttpServer::Impl {
 public:
  Impl(const HttpServerOptions& options, std::shared_ptr<HttpHandler> handler)
      : workers_(static_cast<size_t>(options.worker_threads)),
        acceptor_(asio::make_strand(io_)),
        pause_(acceptor_.get_executor()) {
    shared_.options = options;
    shared_.handler = std::move(handler);
    shared_.workers = &workers_;
  }

  absl::Status ReadTlsFiles() {
    const HttpServerOptions& options = shared_.options;
    if (options.tls.certificate.empty()) return absl::OkStatus();
    SLUICE_ASSIGN_OR_RETURN(tls_, TlsFiles::Open(options.tls, options.on_tls_reload));
    return absl::OkStatus();
  }

  absl::Status Listen() {
    const HttpServerOptions& options = shared_.options;
    Error error;
    tcp::resolver resolver(io_);
    const auto found =
        resolver.resolve(WithoutBrackets(options.host), absl::StrCat(options.port),
                         tcp::resolver::passive | tcp::resolver::numeric_service, error);
    if (error || found.empty()) {
      return absl::InvalidArgumentError(absl::StrCat("cannot serve HTTP on ", options.host,
                                                     ": no such host (", error.message(), ")"));
    }
    const tcp::endpoint endpoint = found.begin()->endpoint();
    acceptor_.open(endpoint.protocol(), error);
    if (!error) acceptor_.set_option(asio::socket_base::reuse_address(true), error);
    if (!error) acceptor_.bind(endpoint, error);
    if (!error) acceptor_.listen(asio::socket_base::max_listen_connections, error);
    if (!error) port_ = acceptor_.local_endpoint(error).port();
    if (!error) return absl::OkStatus();
    return absl::UnavailableError(absl::StrCat("cannot serve HTTP on ", options.host, " port ",
                                               options.port, ": ", error.message()));
  }

  void Run() {
    Accept();
    for (int i = 0; i < shared_.options.io_threads; ++i) {
      threads_.emplace_back([this] { io_.run(); });
    }
  }

  int port() const { return port_; }
  int connections() const { return shared_.connections; }

  void Shutdown(absl::Duration grace) {
    std::call_once(shut_down_, [&] {
      shared_.stopping = true;
      asio::post(acceptor_.get_executor(), [this] {
        Error ignored;
        acceptor_.close(ignored);
        pause_.cancel();
      });
      StopConnections(/*now=*/false);
      WaitUntil(absl::Now() + grace, [this] { return shared_.busy == 0; });
      WaitUntil(absl::Now() + std::min(grace, kCloseGrace),
                [this] { return shared_.connections == 0; });
      workers_.join();
      StopConnections(/*now=*/true);
      work_.reset();  // io_.run() returns when the last connection is gone
      for (std::thread& thread : threads_) thread.join();
    });
  }

 private:
  void Accept() {
    acceptor_.async_accept(asio::make_strand(io_), [this](Error error, tcp::socket socket) {
      if (shared_.stopping || error == asio::error::operation_aborted) return;
      if (error) {
        pause_.expires_after(kAcceptPause);
        return pause_.async_wait([this](Error) {
          if (!shared_.stopping) Accept();
        });
      }
      Admit(std::move(socket));
      Accept();
    });
  }

  void Admit(tcp::socket socket) {
    if (shared_.connections >= shared_.options.max_connections) {
      Turn(std::move(socket));
      return;
    }
    ++shared_.connections;
    const auto connection = std::make_shared<HttpConnection>(
        std::move(socket), tls_ == nullptr ? nullptr : tls_->Current(), shared_);
    {
      std::lock_guard<std::mutex> lock(mu_);
      // Those that are gone make room; amortised O(1).
      if (open_.size() >= 2 * static_cast<size_t>(shared_.connections) + 16) {
        std::erase_if(open_, [](const auto& weak) { return weak.expired(); });
      }
      open_.push_back(connection);
    }
    connection->Start();
  }

  // Says why, as far as that is possible without waiting, and hangs up.
  void Turn(tcp::socket socket) const {
    if (tls_ != nullptr) return;  // nothing can be said before the handshake
    const HttpResponse response = shared_.handler->Refuse(503, "too many connections; retry later");
    const std::string text =
        absl::StrCat("HTTP/1.1 503 Service Unavailable\r\nContent-Type: ", response.content_type,
                     "\r\nContent-Length: ", response.body.size(),
                     "\r\nRetry-After: 1\r\nConnection: close\r\n\r\n", response.body);
    Error ignored;
    socket.non_blocking(true, ignored);
    socket.send(asio::buffer(text), 0, ignored);
    socket.shutdown(tcp::socket::shutdown_send, ignored);
  }

  void StopConnections(bool now) {
    std::lock_guard<std::mutex> lock(mu_);
    for (const auto& weak : open_) {
      if (const auto connection = weak.lock()) connection->Stop(now);
    }
  }

  template <class Condition>
  static void WaitUntil(absl::Time deadline, Condition condition) {
    while (!condition() && absl::Now() < deadline) absl::SleepFor(kShutdownSlice);
  }

  // Before the connections, which use it to their end.
  HttpShared shared_;
  asio::thread_pool workers_;
  asio::io_context io_;
  asio::executor_work_guard<asio::io_context::executor_type> work_{io_.get_executor()};
  tcp::acceptor acceptor_;
  std::unique_ptr<TlsFiles> tls_;  // null: no TLS; used on the acceptor's strand
  int port_ = 0;
  asio::steady_timer pause_;
  std::vector<std::thread> threads_;
  std::once_flag shut_down_;

  std::mutex mu_;
  std::vector<std::weak_ptr<HttpConnection>> open_;  // guarded by mu_
};

absl::StatusOr<std::unique_ptr<HttpServer>> HttpServer::Start(
    const HttpServerOptions& options, std::shared_ptr<HttpHandler> handler) {
  auto impl = std::make_unique<Impl>(options, std::move(handler));
  SLUICE_RETURN_IF_ERROR(impl->ReadTlsFiles());
  SLUICE_RETURN_IF_ERROR(impl->Listen());
  impl->Run();
  return std::unique_ptr<HttpServer>(new HttpServer(std::move(impl)));
}

HttpServer::HttpServer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
HttpServer::~HttpServer() { Shutdown(absl::ZeroDuration()); }

int HttpServer::port() const { return impl_->port(); }
int HttpServer::connections() const { return impl_->connections(); }
void HttpServer::Shutdown(absl::Duration grace) { impl_->Shutdown(grace); }

}  // namespace sluice
