// Renders a template with variables given as JSON.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "scheduler/base/status_macros.h"
#include "service/chat/interpreter.h"
#include "service/chat/parser.h"

namespace sluice::testing {

inline absl::StatusOr<std::string> Render(
    const std::string& source, const nlohmann::json& variables = nlohmann::json::object(),
    const jinja::RenderLimits& limits = {}) {
  SLUICE_ASSIGN_OR_RETURN(const jinja::Body body, jinja::Parse(source));
  jinja::Dict globals;
  for (const auto& [name, value] : variables.items()) {
    globals.emplace_back(name, jinja::Value::FromJson(value));
  }
  return jinja::Interpreter(limits, std::move(globals), nullptr).Run(body);
}

// The text, or "ERROR " and why there is none.
inline std::string RenderText(const std::string& source,
                              const nlohmann::json& variables = nlohmann::json::object()) {
  const absl::StatusOr<std::string> text = Render(source, variables);
  return text.ok() ? *text : "ERROR " + std::string(text.status().message());
}

}  // namespace sluice::testing
