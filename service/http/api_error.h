// Errors as clients of the OpenAI API expect them: an HTTP status, and
// {"error": {"message", "type", "param", "code"}}.
//
// Pure.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "service/http/http_types.h"

namespace sluice {

struct ApiError {
  int status = 500;
  std::string message;
  std::string type;   // "invalid_request_error", "rate_limit_error", ...
  std::string param;  // the field of the request; empty: none
  std::string code;   // empty: none
  absl::Duration retry_after;
};

// From the message of a refused request, "FIELD: ...", comes `param`, with the names of the API of
// this process (sampling.top_p) turned into those of the JSON API (top_p). NOT_FOUND is about the
// model. 429 carries `retry_after`.
ApiError ToApiError(const absl::Status& status, absl::Duration retry_after = absl::ZeroDuration());

// For what has no absl::StatusCode: 404 for a path, 405, 413, 415, 431.
ApiError HttpError(int status, std::string message);

nlohmann::json ErrorJson(const ApiError& error);
HttpResponse ErrorResponse(const ApiError& error);

// `json` as text. Bytes that are not UTF-8 become U+FFFD.
std::string JsonText(const nlohmann::json& json);

}  // namespace sluice
