// HttpConnection: one TCP connection and the requests on it, one after the other.
//
// With TLS, the handshake comes first, within header_timeout.
//
//        first byte            header             body            answer
//   Idle ──────────> Header ──────────> Body ──────────> Busy ──────────> Idle, or Close
//     idle_timeout     header_timeout     body_timeout     write_timeout per write
//
// While a request is handled, a read is pending: its end says that the client has left; bytes that
// come early belong to the next request.
//
// All members belong to the connection's strand; other threads reach it through HttpExchange.
#pragma once

#include <atomic>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/thread_pool.hpp>
#include <boost/beast/core/error.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/string_body.hpp>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "absl/time/time.h"
#include "service/http/http_server.h"
#include "service/http/http_stream.h"
#include "service/http/http_types.h"

namespace sluice {

// What the connections of a server share. Outlives them.
struct HttpShared {
  HttpServerOptions options;
  std::shared_ptr<HttpHandler> handler;
  boost::asio::thread_pool* workers = nullptr;
  std::atomic<int> connections{0};
  std::atomic<int> busy{0};                // requests being handled
  std::atomic<int64_t> pending_bodies{0};  // bytes
  std::atomic<bool> stopping{false};       // no connection begins another request
};

class HttpConnection : public std::enable_shared_from_this<HttpConnection> {
 public:
  // `tls`: null for a plain connection.
  HttpConnection(boost::asio::ip::tcp::socket socket,
                 std::shared_ptr<boost::asio::ssl::context> tls, HttpShared& shared);
  ~HttpConnection();

  void Start();

  // Any thread. Closes the connection if it is between requests; `now`: in any case.
  void Stop(bool now);

 private:
  class Exchange;
  using Error = boost::beast::error_code;

  void Post(void (HttpConnection::*step)());
  void Handshake();
  void ReadNext();
  void WaitForRequest();
  void ReadHeader();
  void OnHeader(Error error);
  void ReadBody();
  void OnBody(Error error);
  void Handle();
  void SetCall(uint64_t request, std::shared_ptr<HttpCall> call);

  // The answer, from an exchange.
  void Begin(const HttpResponse& head, bool whole);
  void Append(std::string piece);
  void End();
  void Write();
  void OnWritten(Error error);

  // Notices that the client has left.
  void Watch();
  void OnWatched(Error error, size_t bytes);

  // Answers a request that is not handed to the handler, and closes.
  void Refuse(int status, const std::string& message);
  void EndOfAnswer();
  // Closes after the client has had a chance to read the answer.
  void Linger();
  void DrainThenClose();
  void Expire(absl::Duration after);
  void Close();
  void ReleaseBody();

  HttpStream stream_;
  HttpShared& shared_;
  boost::beast::flat_buffer buffer_;
  std::optional<boost::beast::http::request_parser<boost::beast::http::string_body>> parser_;
  int64_t reserved_ = 0;  // of pending_bodies

  uint64_t request_ = 0;  // how many there were; names the current one
  std::shared_ptr<HttpCall> call_;
  bool busy_ = false;        // a request is being handled
  bool keep_alive_ = false;  // another request may follow
  bool chunked_ = false;     // pieces are framed as chunks
  bool head_only_ = false;   // no body may follow
  bool ending_ = false;      // End() was called
  bool writing_ = false;
  bool watching_ = false;
  bool closed_ = false;
  size_t lingered_ = 0;  // bytes thrown away
  std::string out_;      // to be written
  std::string written_;  // belongs to the write under way
};

}  // namespace sluice
