// Interpreter: runs the syntax tree of a chat template once.
//
// Bounded: every node, and every byte or element that an operation reads or makes, is charged to a
// budget; when it is used up, rendering fails. So no template and no conversation can hang a thread
// or fill the memory.
//
// Not thread-safe: one per rendering.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "service/chat/builtins.h"
#include "service/chat/syntax.h"
#include "service/chat/value.h"

namespace sluice::jinja {

struct RenderLimits {
  // A node costs 1, a byte or element 1/64. A turn of a conversation costs about 50.
  int64_t steps = 4'000'000;
  size_t output_bytes = size_t{16} << 20;
};

class Interpreter {
 public:
  // strftime_now(format); null: the template does not see such a function.
  using Strftime = std::function<std::string(const std::string& format)>;

  Interpreter(const RenderLimits& limits, Dict globals, Strftime strftime);

  // The output of `body`.
  // Returns INVALID_ARGUMENT, beginning with "line N: ", if the template refuses the variables
  // (raise_exception) or an operation is not possible with them, or if a limit is reached.
  absl::StatusOr<std::string> Run(const Body& body);

 private:
  enum class Flow { kNormal, kBreak, kContinue };
  using Result = absl::StatusOr<Value>;

  // Statements.
  absl::StatusOr<Flow> RunBody(const Body& body);
  absl::StatusOr<Flow> RunStatement(const Statement& statement);
  absl::StatusOr<Flow> RunFor(const Statement& loop);
  absl::StatusOr<List> LoopItems(const Statement& loop);
  absl::Status RunSet(const Statement& set);
  absl::Status RunSetBlock(const Statement& set);
  absl::Status RunFilter(const Statement& filter);
  absl::Status Bind(const std::vector<std::string>& names, const Value& value);
  absl::Status Write(const std::string& text);
  // What `body` writes, in a scope of its own.
  absl::StatusOr<std::string> Capture(const Body& body);
  // `text` through the filters of a block.
  Result Filtered(const Expression& filters, std::string text);

  // Expressions. The errors of all but Evaluate() lack the line.
  Result Evaluate(const Expression& expression);
  Result EvaluateNode(const Expression& expression);
  Result List_(const Expression& expression);
  Result Dict_(const Expression& expression);
  Result Attribute(const Value& subject, std::string_view name);
  Result Item(const Value& subject, const Value& key);
  Result SliceOf(const Expression& expression);
  Result Call(const Expression& call);
  Result CallFunction(const Function& function, const Arguments& arguments);
  Result CallMacro(const Statement& macro, const Arguments& arguments);
  Result Range(const Arguments& arguments);
  Result Unary(const Expression& expression);
  Result Binary(const Expression& expression);
  Result Compare(const Expression& expression);
  Result Condition(const Expression& expression);
  absl::StatusOr<Arguments> EvaluateArguments(const Expression& call);

  Value Lookup(std::string_view name) const;
  void Set(const std::string& name, Value value);
  absl::Status Charge(int64_t steps);
  absl::Status Charge(const Value& value) {
    return Charge(static_cast<int64_t>(value.weight() / 64));
  }

  const RenderLimits limits_;
  const Strftime strftime_;
  int64_t steps_left_;
  std::vector<Dict> scopes_;  // the outermost first
  size_t macro_scope_ = 0;    // scopes between the outermost and this are hidden
  int calls_ = 0;             // macros under way
  int64_t loops_ = 0;         // loops under way
  std::string out_;
};

}  // namespace sluice::jinja
