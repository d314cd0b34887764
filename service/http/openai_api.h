// OpenAiApi: the endpoints of the OpenAI-compatible API.
//
//   POST /v1/chat/completions   POST /v1/completions
//   GET  /v1/models             GET  /v1/models/NAME
//   GET  /health                GET  /version
//
// Thread-safe.
#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "service/access/caller.h"
#include "service/http/api_context.h"
#include "service/http/http_server.h"
#include "service/http/http_types.h"

namespace sluice {

class OpenAiApi final : public HttpHandler {
 public:
  // What `service` refers to must outlive this and all calls.
  OpenAiApi(ServiceContext service, ChatTemplate chat_template);
  ~OpenAiApi() override;

  std::shared_ptr<HttpCall> Handle(HttpRequest request,
                                   std::shared_ptr<HttpExchange> exchange) override;
  HttpResponse Refuse(int status, const std::string& message) const override;

  // The largest body that makes sense: 64 bytes per token of context, at least 4 MiB.
  int64_t max_body_bytes() const;

 private:
  // Everything but the probes asks for the token, if there are any.
  absl::StatusOr<Caller> Authenticate(const HttpRequest& request) const;
  HttpResponse Get(const std::string& path) const;
  HttpResponse Health() const;
  HttpResponse Models(const std::string& name) const;

  ApiContext context_;
};

}  // namespace sluice
