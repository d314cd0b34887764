#include "service/http/connection.h"

#include <boost/asio/dispatch.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/http/read.hpp>
#include <boost/beast/http/status.hpp>
#include <boost/beast/http/verb.hpp>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"

namespace sluice {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = beast::http;

constexpr size_t kReadSize = 8192;
// Bytes of the next request that are taken while one is handled.
constexpr size_t kMaxEarlyBytes = 65536;
// What a closing connection reads for the sake of a client that is still sending.
constexpr size_t kMaxLingerBytes = size_t{8} << 20;
constexpr absl::Duration kLingerTime = absl::Seconds(2);

std::string StatusLine(int status) {
  const auto reason = http::obsolete_reason(static_cast<http::status>(status));
  return absl::StrCat("HTTP/1.1 ", status, " ", std::string(reason.data(), reason.size()), "\r\n");
}

void AppendHeader(const std::string& name, const std::string& value, std::string* out) {
  absl::StrAppend(out, name, ": ", value, "\r\n");
}

}  // namespace

std::string_view HttpRequest::Header(std::string_view name) const {
  for (const auto& [key, value] : headers) {
    if (absl::EqualsIgnoreCase(key, absl::string_view(name.data(), name.size()))) return value;
  }
  return {};
}

// Speaks for one request; once another has begun, it says nothing any more.
class HttpConnection::Exchange final : public HttpExchange {
 public:
  Exchange(std::shared_ptr<HttpConnection> connection, uint64_t request)
      : connection_(std::move(connection)), request_(request) {}

  void Respond(HttpResponse response) override {
    Run([response = std::move(response)](HttpConnection& connection) mutable {
      connection.Begin(response, /*whole=*/true);
      connection.Append(std::move(response.body));
      connection.End();
    });
  }
  void Begin(HttpResponse head) override {
    Run([head = std::move(head)](HttpConnection& connection) {
      connection.Begin(head, /*whole=*/false);
    });
  }
  void Send(std::string piece) override {
    Run([piece = std::move(piece)](HttpConnection& connection) mutable {
      connection.Append(std::move(piece));
    });
  }
  void End() override {
    Run([](HttpConnection& connection) { connection.End(); });
  }
  void Abort() override {
    Run([](HttpConnection& connection) { connection.Close(); });
  }

 private:
  template <class Action>
  void Run(Action action) {
    asio::post(connection_->stream_.get_executor(), [connection = connection_, request = request_,
                                                     action = std::move(action)]() mutable {
      const bool current = connection->busy_ && connection->request_ == request;
      if (current && !connection->closed_ && !connection->ending_) action(*connection);
    });
  }

  const std::shared_ptr<HttpConnection> connection_;
  const uint64_t request_;
};

HttpConnection::HttpConnection(asio::ip::tcp::socket socket,
                               std::shared_ptr<asio::ssl::context> tls, HttpShared& shared)
    : stream_(std::move(socket), std::move(tls)),
      shared_(shared),
      buffer_(kMaxEarlyBytes + kReadSize) {}

HttpConnection::~HttpConnection() {
  ReleaseBody();
  if (busy_) --shared_.busy;
  --shared_.connections;
}

void HttpConnection::Post(void (HttpConnection::*step)()) {
  asio::post(stream_.get_executor(), [self = shared_from_this(), step] { ((*self).*step)(); });
}

void HttpConnection::Start() {
  Error ignored;
  stream_.tcp().socket().set_option(asio::ip::tcp::no_delay(true), ignored);
  Post(stream_.tls() ? &HttpConnection::Handshake : &HttpConnection::ReadNext);
}

void HttpConnection::Expire(absl::Duration after) {
  stream_.tcp().expires_after(absl::ToChronoNanoseconds(after));
}

void HttpConnection::Handshake() {
  if (closed_) return;
  Expire(shared_.options.header_timeout);
  stream_.async_handshake([self = shared_from_this()](Error error) {
    if (error) return self->Close();
    self->ReadNext();
  });
}

void HttpConnection::Stop(bool now) {
  asio::post(stream_.get_executor(), [self = shared_from_this(), now] {
    if (now || !self->busy_) self->Close();
  });
}

// ---- Reading ----

void HttpConnection::ReadNext() {
  if (closed_) return;
  if (shared_.stopping) return Linger();
  parser_.emplace();
  parser_->header_limit(static_cast<uint32_t>(shared_.options.max_header_bytes));
  parser_->body_limit(static_cast<uint64_t>(shared_.options.max_body_bytes));
  if (buffer_.size() > 0) return ReadHeader();
  WaitForRequest();
}

void HttpConnection::WaitForRequest() {
  Expire(shared_.options.idle_timeout);
  stream_.async_read_some(buffer_.prepare(kReadSize),
                          [self = shared_from_this()](Error error, size_t bytes) {
                            if (error) return self->Close();
                            self->buffer_.commit(bytes);
                            self->ReadHeader();
                          });
}

void HttpConnection::ReadHeader() {
  Expire(shared_.options.header_timeout);
  http::async_read_header(
      stream_, buffer_, *parser_,
      [self = shared_from_this()](Error error, size_t /*bytes*/) { self->OnHeader(error); });
}

void HttpConnection::OnHeader(Error error) {
  if (error == http::error::body_limit) {
    return Refuse(413, absl::StrCat("the body is larger than ", shared_.options.max_body_bytes,
                                    " bytes; shorten the request"));
  }
  if (error == http::error::header_limit || error == http::error::buffer_overflow) {
    return Refuse(431, absl::StrCat("the headers are larger than ",
                                    shared_.options.max_header_bytes, " bytes"));
  }
  if (error.category() == http::make_error_code(http::error::bad_method).category() &&
      error != http::error::end_of_stream && error != http::error::partial_message) {
    return Refuse(400, absl::StrCat("this is not an HTTP request: ", error.message()));
  }
  if (error) return Close();

  const auto length = parser_->content_length();
  const bool chunked = parser_->chunked();
  const int64_t most = shared_.options.max_body_bytes;
  const int64_t expected = length ? static_cast<int64_t>(*length) : chunked ? most : 0;
  reserved_ = expected;
  if (shared_.pending_bodies.fetch_add(expected) + expected >
      shared_.options.max_pending_body_bytes) {
    return Refuse(503, "too many large requests at once; retry later");
  }
  if (absl::EqualsIgnoreCase(std::string(parser_->get()[http::field::expect]), "100-continue")) {
    Expire(shared_.options.write_timeout);
    static constexpr char kContinue[] = "HTTP/1.1 100 Continue\r\n\r\n";
    return asio::async_write(stream_, asio::buffer(kContinue, sizeof kContinue - 1),
                             [self = shared_from_this()](Error failed, size_t /*bytes*/) {
                               if (failed) return self->Close();
                               self->ReadBody();
                             });
  }
  ReadBody();
}

void HttpConnection::ReadBody() {
  Expire(shared_.options.body_timeout);
  http::async_read(
      stream_, buffer_, *parser_,
      [self = shared_from_this()](Error error, size_t /*bytes*/) { self->OnBody(error); });
}

void HttpConnection::OnBody(Error error) {
  if (error == http::error::body_limit) {
    return Refuse(413, absl::StrCat("the body is larger than ", shared_.options.max_body_bytes,
                                    " bytes; shorten the request"));
  }
  if (error.category() == http::make_error_code(http::error::bad_method).category() &&
      error != http::error::partial_message) {
    return Refuse(400, absl::StrCat("the body cannot be read: ", error.message()));
  }
  if (error) return Close();
  Handle();
}

void HttpConnection::Handle() {
  auto message = parser_->release();
  HttpRequest request;
  request.method = std::string(message.method_string());
  head_only_ = message.method() == http::verb::head;
  const auto target = message.target();
  request.path = std::string(target.substr(0, target.find('?')));
  for (const auto& field : message) {
    request.headers.emplace_back(std::string(field.name_string()), std::string(field.value()));
  }
  request.body = std::move(message.body());
  keep_alive_ = message.keep_alive();
  chunked_ = message.version() >= 11;
  busy_ = true;
  ++shared_.busy;
  ++request_;
  Watch();

  auto exchange = std::make_shared<Exchange>(shared_from_this(), request_);
  auto run = [self = shared_from_this(), number = request_, request = std::move(request),
              exchange = std::move(exchange)]() mutable {
    std::shared_ptr<HttpCall> call =
        self->shared_.handler->Handle(std::move(request), std::move(exchange));
    if (call == nullptr) return;
    asio::post(self->stream_.get_executor(), [self, number, call = std::move(call)]() mutable {
      self->SetCall(number, std::move(call));
    });
  };
  // A question about the server's health does not wait for somebody's tokenizer.
  if (reserved_ == 0) return run();
  asio::post(*shared_.workers, std::move(run));
}

void HttpConnection::SetCall(uint64_t request, std::shared_ptr<HttpCall> call) {
  if (!closed_ && busy_ && request == request_) {
    call_ = std::move(call);
    if (!writing_) call_->OnWritable();
  } else if (closed_) {
    call->OnClosed();
  }
}

// ---- Writing ----

void HttpConnection::Begin(const HttpResponse& head, bool whole) {
  const bool last = shared_.stopping || !keep_alive_ || (!whole && !chunked_);
  keep_alive_ = !last;
  out_ += StatusLine(head.status);
  AppendHeader("Content-Type", head.content_type, &out_);
  if (whole) {
    AppendHeader("Content-Length", absl::StrCat(head.body.size()), &out_);
    chunked_ = false;
  } else if (chunked_) {
    AppendHeader("Transfer-Encoding", "chunked", &out_);
  }
  AppendHeader("Date",
               absl::FormatTime("%a, %d %b %Y %H:%M:%S GMT", absl::Now(), absl::UTCTimeZone()),
               &out_);
  AppendHeader("Server", "sluice", &out_);
  AppendHeader("Connection", last ? "close" : "keep-alive", &out_);
  for (const auto& [name, value] : head.headers) AppendHeader(name, value, &out_);
  out_ += "\r\n";
  if (!whole) Write();
}

void HttpConnection::Append(std::string piece) {
  if (piece.empty() || head_only_) return;
  if (chunked_) absl::StrAppend(&out_, absl::Hex(piece.size()), "\r\n");
  out_ += piece;
  if (chunked_) out_ += "\r\n";
  Write();
}

void HttpConnection::End() {
  if (chunked_ && !head_only_) out_ += "0\r\n\r\n";
  ending_ = true;
  Write();
}

void HttpConnection::Write() {
  if (writing_ || closed_) return;
  if (out_.empty()) {
    if (ending_) EndOfAnswer();
    return;
  }
  writing_ = true;
  written_ = std::exchange(out_, {});
  Expire(shared_.options.write_timeout);
  asio::async_write(
      stream_, asio::buffer(written_),
      [self = shared_from_this()](Error error, size_t /*bytes*/) { self->OnWritten(error); });
}

void HttpConnection::OnWritten(Error error) {
  writing_ = false;
  if (error) return Close();
  Write();
  if (!writing_ && busy_ && !closed_ && call_ != nullptr) call_->OnWritable();
}

// ---- The client's side while a request is handled ----

void HttpConnection::Watch() {
  if (watching_ || closed_ || buffer_.size() >= kMaxEarlyBytes) return;
  watching_ = true;
  stream_.tcp().expires_never();
  stream_.async_read_some(
      buffer_.prepare(kReadSize),
      [self = shared_from_this()](Error error, size_t bytes) { self->OnWatched(error, bytes); });
}

void HttpConnection::OnWatched(Error error, size_t bytes) {
  watching_ = false;
  if (closed_) return;
  if (!error) buffer_.commit(bytes);
  if (!busy_) {  // the answer is complete, and this read was cancelled for it
    if (error && error != asio::error::operation_aborted) return Close();
    return keep_alive_ ? ReadNext() : Linger();
  }
  if (error) return Close();
  Watch();
}

// ---- Ends ----

void HttpConnection::Refuse(int status, const std::string& message) {
  if (closed_) return;
  ReleaseBody();
  const HttpResponse response = shared_.handler->Refuse(status, message);
  keep_alive_ = false;
  Begin(response, /*whole=*/true);
  busy_ = true;
  ++shared_.busy;
  ++request_;
  Append(response.body);
  End();
}

void HttpConnection::EndOfAnswer() {
  ReleaseBody();
  call_.reset();
  ending_ = false;
  busy_ = false;
  --shared_.busy;
  if (watching_) {
    stream_.tcp().cancel();  // goes on in OnWatched()
  } else if (keep_alive_) {
    ReadNext();
  } else {
    Linger();
  }
}

void HttpConnection::Linger() {
  if (closed_) return;
  Expire(kLingerTime);
  if (!stream_.tls()) return DrainThenClose();
  stream_.async_shutdown([self = shared_from_this()](Error) { self->DrainThenClose(); });
}

// Below TLS, where there is any: what the client still sends is thrown away.
void HttpConnection::DrainThenClose() {
  if (closed_) return;
  Error ignored;
  if (lingered_ == 0) {
    stream_.tcp().socket().shutdown(asio::ip::tcp::socket::shutdown_send, ignored);
  }
  buffer_.clear();
  stream_.tcp().async_read_some(buffer_.prepare(kReadSize),
                                [self = shared_from_this()](Error error, size_t bytes) {
                                  self->lingered_ += bytes + 1;
                                  if (error || self->lingered_ > kMaxLingerBytes)
                                    return self->Close();
                                  self->DrainThenClose();
                                });
}

void HttpConnection::Close() {
  if (std::exchange(closed_, true)) return;
  ReleaseBody();
  if (std::exchange(busy_, false)) --shared_.busy;
  if (const std::shared_ptr<HttpCall> call = std::exchange(call_, nullptr)) call->OnClosed();
  stream_.tcp().close();
}

void HttpConnection::ReleaseBody() { shared_.pending_bodies -= std::exchange(reserved_, 0); }

}  // namespace sluice
