#include "service/http/api_error.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace sluice {
namespace {

struct Kind {
  int status;
  const char* type;
  const char* code;
};

Kind KindOf(absl::StatusCode code) {
  switch (code) {
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kFailedPrecondition:
    case absl::StatusCode::kOutOfRange:
      return {400, "invalid_request_error", ""};
    case absl::StatusCode::kUnimplemented:
      return {400, "invalid_request_error", "unsupported"};
    case absl::StatusCode::kUnauthenticated:
      return {401, "authentication_error", "invalid_api_key"};
    case absl::StatusCode::kPermissionDenied:
      return {403, "permission_error", ""};
    case absl::StatusCode::kNotFound:
      return {404, "invalid_request_error", "model_not_found"};
    case absl::StatusCode::kResourceExhausted:
      return {429, "rate_limit_error", "rate_limit_exceeded"};
    case absl::StatusCode::kUnavailable:
      return {503, "service_unavailable_error", "service_unavailable"};
    case absl::StatusCode::kDeadlineExceeded:
      return {504, "timeout_error", "timeout"};
    case absl::StatusCode::kCancelled:
      return {499, "request_cancelled", "cancelled"};
    default:
      return {500, "server_error", "internal_error"};
  }
}

// The field that "FIELD: ..." names; empty if `message` does not begin with one.
std::string FieldOf(const std::string& message) {
  const size_t colon = message.find(": ");
  if (colon == std::string::npos || colon > 80) return "";
  const bool field = std::all_of(
      message.begin(), message.begin() + static_cast<int64_t>(colon), [](unsigned char c) {
        return absl::ascii_isalnum(c) || c == '_' || c == '.' || c == '[' || c == ']' || c == '-';
      });
  return field ? message.substr(0, colon) : "";
}

// The name of the JSON API for a field of the requests that both APIs become.
std::string JsonName(const std::string& field) {
  if (field == "scheduling.tenant") return "x-sluice-tenant";
  if (absl::StartsWith(field, "prompt.")) {
    const size_t bracket = std::min(field.find('['), field.size());
    return absl::StrCat("prompt", field.substr(bracket));
  }
  for (const char* group : {"sampling.", "stopping.", "scheduling."}) {
    if (absl::StartsWith(field, group)) return field.substr(std::string(group).size());
  }
  return field;
}

}  // namespace

ApiError ToApiError(const absl::Status& status, absl::Duration retry_after) {
  const Kind kind = KindOf(status.code());
  ApiError error{kind.status, std::string(status.message()), kind.type, "", kind.code, {}};
  if (kind.status == 400) {
    const std::string field = FieldOf(error.message);
    error.param = JsonName(field);
    error.message.replace(0, field.size(), error.param);
    // Clients that shorten conversations look for this.
    if (absl::StrContains(error.message, "max_model_len is ")) {
      error.code = "context_length_exceeded";
    }
  }
  if (kind.status == 404) error.param = "model";
  if (kind.status == 429) error.retry_after = retry_after;
  return error;
}

ApiError HttpError(int status, std::string message) {
  const bool server = status >= 500;
  const char* type = server ? "service_unavailable_error" : "invalid_request_error";
  return {status, std::move(message), type, "", "", server ? absl::Seconds(1) : absl::Duration()};
}

nlohmann::json ErrorJson(const ApiError& error) {
  const auto text_or_null = [](const std::string& text) {
    return text.empty() ? nlohmann::json() : nlohmann::json(text);
  };
  return {{"error",
           {{"message", error.message},
            {"type", error.type},
            {"param", text_or_null(error.param)},
            {"code", text_or_null(error.code)}}}};
}

HttpResponse ErrorResponse(const ApiError& error) {
  HttpResponse response;
  response.status = error.status;
  response.body = JsonText(ErrorJson(error));
  if (error.status == 429 || error.status == 503) {
    const double seconds = std::ceil(absl::ToDoubleSeconds(error.retry_after));
    response.headers.emplace_back(
        "Retry-After", absl::StrCat(static_cast<int64_t>(std::clamp(seconds, 1.0, 3600.0))));
  }
  return response;
}

std::string JsonText(const nlohmann::json& json) {
  return json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

}  // namespace sluice
