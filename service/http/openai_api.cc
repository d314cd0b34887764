#include "service/http/openai_api.h"

#include <algorithm>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "service/access/access_control.h"
#include "service/grpc/request_seeds.h"
#include "service/http/api_error.h"
#include "service/http/completion_call.h"

namespace sluice {
namespace {

using nlohmann::json;

constexpr char kModelsPath[] = "/v1/models";
// The gRPC services count from 0.
constexpr int64_t kFirstId = int64_t{1} << 62;

HttpResponse JsonResponse(const json& body) {
  HttpResponse response;
  response.body = JsonText(body);
  return response;
}

// The methods of a path; empty if there is no such path.
std::string AllowedMethods(const std::string& path) {
  if (path == "/v1/chat/completions" || path == "/v1/completions") return "POST";
  const bool get = path == "/health" || path == "/version" || path == kModelsPath ||
                   absl::StartsWith(path, absl::StrCat(kModelsPath, "/"));
  return get ? "GET, HEAD" : "";
}

// Browsers let any page post text and forms to this machine, but ask before they post JSON.
bool IsJson(const HttpRequest& request) {
  const std::string type(request.Header("content-type"));
  const std::string essence(absl::StripAsciiWhitespace(type.substr(0, type.find(';'))));
  return absl::EqualsIgnoreCase(essence, "application/json");
}

}  // namespace

ApiContext::ApiContext(ServiceContext service, ChatTemplate chat_template)
    : service_(std::move(service)),
      chat_template_(std::move(chat_template)),
      limits_(LimitsOf(service_.info)),
      started_(absl::Now()),
      pump_(std::make_shared<StreamPump>(1)),
      next_id_(kFirstId),
      seeds_(SeededFromTheSystem()) {}

uint64_t ApiContext::DrawSeed() {
  std::lock_guard<std::mutex> lock(mu_);
  return seeds_();
}

OpenAiApi::OpenAiApi(ServiceContext service, ChatTemplate chat_template)
    : context_(std::move(service), std::move(chat_template)) {}

OpenAiApi::~OpenAiApi() { context_.pump()->Stop(); }

int64_t OpenAiApi::max_body_bytes() const {
  return std::clamp<int64_t>(64 * context_.limits().max_model_len.value(), int64_t{4} << 20,
                             int64_t{64} << 20);
}

HttpResponse OpenAiApi::Refuse(int status, const std::string& message) const {
  return ErrorResponse(HttpError(status, message));
}

std::shared_ptr<HttpCall> OpenAiApi::Handle(HttpRequest request,
                                            std::shared_ptr<HttpExchange> exchange) {
  const std::string allowed = AllowedMethods(request.path);
  if (allowed.empty()) {
    exchange->Respond(
        Refuse(404, absl::StrCat("there is no ", request.path.substr(0, 200),
                                 "; this server has /v1/chat/completions, /v1/completions, "
                                 "/v1/models, /health and /version")));
    return nullptr;
  }
  if (!absl::StrContains(allowed, request.method)) {
    HttpResponse response = Refuse(405, absl::StrCat(request.path, " takes ", allowed));
    response.headers.emplace_back("Allow", allowed);
    exchange->Respond(std::move(response));
    return nullptr;
  }
  const absl::StatusOr<Caller> caller = Authenticate(request);
  if (!caller.ok()) {
    HttpResponse response = ErrorResponse(ToApiError(caller.status()));
    response.headers.emplace_back("WWW-Authenticate", "Bearer");
    exchange->Respond(std::move(response));
    return nullptr;
  }
  if (allowed != "POST") {
    exchange->Respond(Get(request.path));
    return nullptr;
  }
  if (!IsJson(request)) {
    exchange->Respond(Refuse(415, "send the header \"Content-Type: application/json\""));
    return nullptr;
  }
  const ApiKind kind = request.path == "/v1/completions" ? ApiKind::kCompletion : ApiKind::kChat;
  return CompletionCall::Start(kind, request, *caller, std::move(exchange), context_);
}

absl::StatusOr<Caller> OpenAiApi::Authenticate(const HttpRequest& request) const {
  AccessControl* access = context_.service().access;
  if (access == nullptr || !absl::StartsWith(request.path, "/v1/")) return Caller();
  const std::string_view header = request.Header("authorization");
  return access->Authenticate({header.data(), header.size()});
}

HttpResponse OpenAiApi::Get(const std::string& path) const {
  if (path == "/health") return Health();
  if (path == "/version") return JsonResponse({{"version", context_.service().info.version()}});
  const std::string prefix = absl::StrCat(kModelsPath, "/");
  return Models(absl::StartsWith(path, prefix) ? path.substr(prefix.size()) : "");
}

HttpResponse OpenAiApi::Health() const {
  if (!context_.service().engine.loop().load().draining) return JsonResponse({{"status", "ok"}});
  return Refuse(503, "the server is draining");
}

HttpResponse OpenAiApi::Models(const std::string& name) const {
  const v1::ServerInfo& info = context_.service().info;
  const json model = {{"id", info.model()},
                      {"object", "model"},
                      {"created", absl::ToUnixSeconds(context_.started())},
                      {"owned_by", "sluice"},
                      {"root", info.model()},
                      {"parent", nullptr},
                      {"max_model_len", info.max_model_len()}};
  if (name.empty()) return JsonResponse({{"object", "list"}, {"data", json::array({model})}});
  if (name == info.model()) return JsonResponse(model);
  return Refuse(404, absl::StrCat("The model `", name.substr(0, 200), "` does not exist"));
}

}  // namespace sluice
