// Statements; evaluate.cc has the expressions.
#include "service/chat/interpreter.h"

#include <memory>
#include <optional>

#include "scheduler/base/status_macros.h"

namespace sluice::jinja {
namespace {

using Kind = Statement::Kind;

// Adds the line, unless a node further inside has.
absl::Status At(int line, const absl::Status& status) {
  if (status.ok() || status.message().substr(0, 5) == "line ") return status;
  return absl::Status(status.code(), Cat("line ", line, ": ", status.message()));
}

}  // namespace

Interpreter::Interpreter(const RenderLimits& limits, Dict globals, Strftime strftime)
    : limits_(limits), strftime_(std::move(strftime)), steps_left_(limits.steps) {
  Dict builtins;
  for (const char* name : {"namespace", "range", "raise_exception", "dict"}) {
    builtins.emplace_back(name, Function{name});
  }
  if (strftime_ != nullptr) builtins.emplace_back("strftime_now", Function{"strftime_now"});
  for (auto& global : globals) builtins.push_back(std::move(global));
  scopes_.push_back(std::move(builtins));
}

absl::StatusOr<std::string> Interpreter::Run(const Body& body) {
  SLUICE_RETURN_IF_ERROR(RunBody(body).status());
  return std::move(out_);
}

absl::StatusOr<Interpreter::Flow> Interpreter::RunBody(const Body& body) {
  for (const auto& statement : body) {
    const absl::StatusOr<Flow> flow = RunStatement(*statement);
    if (!flow.ok()) return At(statement->line, flow.status());
    if (*flow != Flow::kNormal) return flow;
  }
  return Flow::kNormal;
}

absl::StatusOr<Interpreter::Flow> Interpreter::RunStatement(const Statement& statement) {
  SLUICE_RETURN_IF_ERROR(Charge(1));
  switch (statement.kind) {
    case Kind::kText:
      SLUICE_RETURN_IF_ERROR(Write(statement.text));
      return Flow::kNormal;
    case Kind::kOutput: {
      SLUICE_ASSIGN_OR_RETURN(const Value value, Evaluate(*statement.value));
      SLUICE_RETURN_IF_ERROR(Write(ToText(value)));
      return Flow::kNormal;
    }
    case Kind::kIf: {
      SLUICE_ASSIGN_OR_RETURN(const Value value, Evaluate(*statement.value));
      return RunBody(value.truthy() ? statement.body : statement.otherwise);
    }
    case Kind::kFor:
      return RunFor(statement);
    case Kind::kSet:
      SLUICE_RETURN_IF_ERROR(RunSet(statement));
      return Flow::kNormal;
    case Kind::kSetBlock:
      SLUICE_RETURN_IF_ERROR(RunSetBlock(statement));
      return Flow::kNormal;
    case Kind::kMacro:
      Set(statement.names[0], Function{statement.names[0], &statement});
      return Flow::kNormal;
    case Kind::kFilter:
      SLUICE_RETURN_IF_ERROR(RunFilter(statement));
      return Flow::kNormal;
    case Kind::kScope:
      return RunBody(statement.body);
    case Kind::kBreak:
      return Flow::kBreak;
    case Kind::kContinue:
      return Flow::kContinue;
  }
  return Flow::kNormal;
}

absl::Status Interpreter::Write(const std::string& text) {
  SLUICE_RETURN_IF_ERROR(Charge(static_cast<int64_t>(text.size() / 64)));
  if (out_.size() + text.size() > limits_.output_bytes) {
    return TemplateError("the prompt grows beyond ", limits_.output_bytes,
                         " bytes; shorten the conversation");
  }
  out_ += text;
  return absl::OkStatus();
}

absl::StatusOr<Interpreter::Flow> Interpreter::RunFor(const Statement& loop) {
  SLUICE_ASSIGN_OR_RETURN(List items, LoopItems(loop));
  if (items.empty()) return RunBody(loop.otherwise);
  LoopState state;
  state.items = std::make_shared<const List>(std::move(items));
  state.depth0 = loops_++;
  Flow flow = Flow::kNormal;
  for (const Value& item : *state.items) {
    scopes_.emplace_back();
    Set("loop", state);
    SLUICE_RETURN_IF_ERROR(Bind(loop.names, item));
    SLUICE_ASSIGN_OR_RETURN(flow, RunBody(loop.body));
    scopes_.pop_back();
    if (flow == Flow::kBreak) break;
    ++state.index0;
  }
  --loops_;
  return Flow::kNormal;
}

absl::StatusOr<List> Interpreter::LoopItems(const Statement& loop) {
  SLUICE_ASSIGN_OR_RETURN(const Value value, Evaluate(*loop.value));
  SLUICE_ASSIGN_OR_RETURN(List all, Elements(value));
  SLUICE_RETURN_IF_ERROR(Charge(static_cast<int64_t>(all.size())));
  if (loop.condition == nullptr) return all;
  List chosen;
  for (Value& item : all) {
    scopes_.emplace_back();
    SLUICE_RETURN_IF_ERROR(Bind(loop.names, item));
    SLUICE_ASSIGN_OR_RETURN(const Value condition, Evaluate(*loop.condition));
    scopes_.pop_back();
    if (condition.truthy()) chosen.push_back(std::move(item));
  }
  return chosen;
}

absl::Status Interpreter::Bind(const std::vector<std::string>& names, const Value& value) {
  if (names.size() == 1) {
    Set(names[0], value);
    return absl::OkStatus();
  }
  if (!value.is(Value::Kind::kList) || value.list().size() != names.size()) {
    return TemplateError("cannot take ", KindName(value), " apart into ", names.size(), " names");
  }
  for (size_t i = 0; i < names.size(); ++i) Set(names[i], value.list()[i]);
  return absl::OkStatus();
}

absl::Status Interpreter::RunSet(const Statement& set) {
  SLUICE_ASSIGN_OR_RETURN(Value value, Evaluate(*set.value));
  if (set.attribute.empty()) return Bind(set.names, value);
  const Value target = Lookup(set.names[0]);
  if (!target.is(Value::Kind::kNamespace)) {
    return TemplateError("'", set.names[0], "' is ", KindName(target),
                         "; only attributes of a namespace can be set");
  }
  if (value.is(Value::Kind::kNamespace)) {
    return TemplateError("a namespace inside of a namespace is not supported");
  }
  Dict& values = target.space().values;
  for (auto& [name, old] : values) {
    if (name == set.attribute) return (old = std::move(value), absl::OkStatus());
  }
  values.emplace_back(set.attribute, std::move(value));
  return absl::OkStatus();
}

absl::Status Interpreter::RunSetBlock(const Statement& set) {
  SLUICE_ASSIGN_OR_RETURN(std::string text, Capture(set.body));
  Value value(text);
  if (set.value != nullptr) {
    SLUICE_ASSIGN_OR_RETURN(value, Filtered(*set.value, std::move(text)));
  }
  return Bind(set.names, value);
}

absl::Status Interpreter::RunFilter(const Statement& filter) {
  SLUICE_ASSIGN_OR_RETURN(std::string text, Capture(filter.body));
  SLUICE_ASSIGN_OR_RETURN(const Value value, Filtered(*filter.value, std::move(text)));
  return Write(ToText(value));
}

absl::StatusOr<Value> Interpreter::Filtered(const Expression& filters, std::string text) {
  scopes_.emplace_back();
  Set(kBlockText, std::move(text));
  SLUICE_ASSIGN_OR_RETURN(Value value, Evaluate(filters));
  scopes_.pop_back();
  return value;
}

absl::StatusOr<std::string> Interpreter::Capture(const Body& body) {
  std::string outer = std::exchange(out_, "");
  scopes_.emplace_back();
  SLUICE_RETURN_IF_ERROR(RunBody(body).status());
  scopes_.pop_back();
  return std::exchange(out_, std::move(outer));
}

Value Interpreter::Lookup(std::string_view name) const {
  for (size_t i = scopes_.size(); i-- > 0;) {
    if (i > 0 && i < macro_scope_) continue;
    for (const auto& [known, value] : scopes_[i]) {
      if (known == name) return value;
    }
  }
  return Undefined{Cat("'", name, "' is undefined")};
}

void Interpreter::Set(const std::string& name, Value value) {
  for (auto& [known, old] : scopes_.back()) {
    if (known == name) {
      old = std::move(value);
      return;
    }
  }
  scopes_.back().emplace_back(name, std::move(value));
}

absl::Status Interpreter::Charge(int64_t steps) {
  steps_left_ -= steps;
  if (steps_left_ >= 0) return absl::OkStatus();
  return TemplateError("the template runs for more than ", limits_.steps,
                       " steps; shorten the conversation");
}

}  // namespace sluice::jinja
