// HttpStream: a TCP connection, with or without TLS on top of it. What Asio calls an asynchronous
// read and write stream, so that Beast reads and writes messages on it; deadlines are those of
// beast::tcp_stream, and count for what TLS sends below a message as well.
//
// Thread-compatible: one strand.
#pragma once

#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ssl/context.hpp>
#include <boost/asio/ssl/stream.hpp>
#include <boost/beast/core/tcp_stream.hpp>
#include <memory>
#include <optional>
#include <utility>

namespace sluice {

class HttpStream {
 public:
  using executor_type = boost::beast::tcp_stream::executor_type;

  // `tls`: null for a plain connection.
  HttpStream(boost::asio::ip::tcp::socket socket, std::shared_ptr<boost::asio::ssl::context> tls)
      : tcp_(std::move(socket)), context_(std::move(tls)) {
    if (context_ != nullptr) tls_.emplace(tcp_, *context_);
  }

  bool tls() const { return tls_.has_value(); }
  // What is below TLS.
  boost::beast::tcp_stream& tcp() { return tcp_; }
  executor_type get_executor() noexcept { return tcp_.get_executor(); }

  // REQUIRES of these two: tls().
  template <class Handler>
  void async_handshake(Handler&& handler) {
    tls_->async_handshake(boost::asio::ssl::stream_base::server, std::forward<Handler>(handler));
  }
  template <class Handler>
  void async_shutdown(Handler&& handler) {
    tls_->async_shutdown(std::forward<Handler>(handler));
  }

  template <class Buffers, class Handler>
  void async_read_some(const Buffers& buffers, Handler&& handler) {
    if (tls_) {
      tls_->async_read_some(buffers, std::forward<Handler>(handler));
    } else {
      tcp_.async_read_some(buffers, std::forward<Handler>(handler));
    }
  }
  template <class Buffers, class Handler>
  void async_write_some(const Buffers& buffers, Handler&& handler) {
    if (tls_) {
      tls_->async_write_some(buffers, std::forward<Handler>(handler));
    } else {
      tcp_.async_write_some(buffers, std::forward<Handler>(handler));
    }
  }

 private:
  boost::beast::tcp_stream tcp_;
  const std::shared_ptr<boost::asio::ssl::context> context_;  // outlives tls_
  std::optional<boost::asio::ssl::stream<boost::beast::tcp_stream&>> tls_;
};

}  // namespace sluice
