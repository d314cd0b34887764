// A request and its answer, as the handlers of HttpServer see them, and the two sides of an
// exchange that is under way.
//
//   HttpServer ── HttpRequest ──> HttpHandler ──> HttpCall
//              <── HttpExchange: Respond(), or Begin() Send()... End()
//              ──> HttpCall: OnWritable(), OnClosed()
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace sluice {

using HttpHeaders = std::vector<std::pair<std::string, std::string>>;

struct HttpRequest {
  std::string method;  // "POST"
  std::string path;    // "/v1/models": no query
  HttpHeaders headers;
  std::string body;

  // The first header of that name, whatever its case; empty if there is none.
  std::string_view Header(std::string_view name) const;
};

struct HttpResponse {
  int status = 200;
  std::string content_type = "application/json";
  HttpHeaders headers;  // more of them
  std::string body;
};

// The server's side of one request. Thread-safe; no method blocks or calls back. Calls after the
// end of the exchange, or of its connection, do nothing.
class HttpExchange {
 public:
  virtual ~HttpExchange() = default;

  // The whole answer.
  virtual void Respond(HttpResponse response) = 0;

  // Or in pieces: the status and headers (`head.body` is not looked at), the pieces, the end.
  virtual void Begin(HttpResponse head) = 0;
  virtual void Send(std::string piece) = 0;
  virtual void End() = 0;

  // Breaks the connection off: what was not sent stays unsent.
  virtual void Abort() = 0;
};

// The handler's side of one request that is not answered yet. The methods are called one at a time,
// on threads of the server, and must not block.
class HttpCall {
 public:
  virtual ~HttpCall() = default;

  // Everything sent so far is with the kernel.
  virtual void OnWritable() = 0;

  // The client has closed its side, or the connection broke, or the server stops: nobody will read
  // an answer. The last call.
  virtual void OnClosed() = 0;
};

class HttpHandler {
 public:
  virtual ~HttpHandler() = default;

  // Answers `request` through `exchange`, now or later. Null: it has done so already. Any thread,
  // many at once; requests with a body come on worker threads and may take their time.
  virtual std::shared_ptr<HttpCall> Handle(HttpRequest request,
                                           std::shared_ptr<HttpExchange> exchange) = 0;

  // The answer to a request that HttpServer itself refuses, in the handler's format.
  virtual HttpResponse Refuse(int status, const std::string& message) const = 0;
};

}  // namespace sluice
