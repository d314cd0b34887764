// The half of the interpreter that evaluates expressions.
#include <algorithm>
#include <cmath>
#include <memory>

#include "scheduler/base/status_macros.h"
#include "service/chat/interpreter.h"
#include "service/chat/text.h"

namespace sluice::jinja {
namespace {

using Kind = Expression::Kind;

constexpr int kMaxValueDepth = 100;
constexpr int kMaxCalls = 20;

absl::Status NotDefined(const Value& value) { return TemplateError(value.undefined().what); }

// Python's // and %, which round towards minus infinity. `b` is not 0.
int64_t FloorDivide(int64_t a, int64_t b) {
  return a / b - ((a % b != 0) && ((a < 0) != (b < 0)) ? 1 : 0);
}

absl::StatusOr<Value> IntegerArithmetic(std::string_view op, int64_t a, int64_t b) {
  int64_t out = 0;
  bool overflow = false;
  if (op == "+") overflow = __builtin_add_overflow(a, b, &out);
  if (op == "-") overflow = __builtin_sub_overflow(a, b, &out);
  if (op == "*") overflow = __builtin_mul_overflow(a, b, &out);
  if (op == "/" || op == "//" || op == "%") {
    if (b == 0) return TemplateError("division by 0");
    if (op == "/") return static_cast<double>(a) / static_cast<double>(b);
    overflow = a == INT64_MIN && b == -1;
    if (!overflow) out = op == "//" ? FloorDivide(a, b) : a - FloorDivide(a, b) * b;
  }
  if (op == "**") {
    const double power = std::pow(static_cast<double>(a), static_cast<double>(b));
    if (b < 0) return power;
    overflow = std::fabs(power) > 9e15;  // beyond what a double holds exactly
    if (!overflow) out = static_cast<int64_t>(power);
  }
  if (overflow) return TemplateError("the result of ", a, " ", op, " ", b, " is too large");
  return out;
}

absl::StatusOr<Value> FloatArithmetic(std::string_view op, double a, double b) {
  if (op == "+") return a + b;
  if (op == "-") return a - b;
  if (op == "*") return a * b;
  if (op == "**") return std::pow(a, b);
  if (b == 0) return TemplateError("division by 0");
  if (op == "/") return a / b;
  const double floor = std::floor(a / b);
  return op == "//" ? floor : a - floor * b;
}

absl::StatusOr<Value> Repeat(const std::string& text, int64_t times) {
  if (times <= 0 || text.empty()) return "";
  const size_t most = kMaxTextBytes / text.size() + 1;
  const size_t count = std::min(static_cast<size_t>(times), most);
  SLUICE_RETURN_IF_ERROR(CheckTextSize(count * text.size()));
  std::string out;
  for (size_t i = 0; i < count; ++i) out += text;
  return out;
}

absl::StatusOr<Value> Arithmetic(std::string_view op, const Value& a, const Value& b) {
  if (op == "~") {
    std::string text = ToText(a) + ToText(b);
    SLUICE_RETURN_IF_ERROR(CheckTextSize(text.size()));
    return text;
  }
  if (a.is_undefined()) return NotDefined(a);
  if (b.is_undefined()) return NotDefined(b);
  if (a.is_integer() && b.is_integer()) return IntegerArithmetic(op, a.integer(), b.integer());
  if (a.is_number() && b.is_number()) return FloatArithmetic(op, a.number(), b.number());
  if (op == "+" && a.is_string() && b.is_string()) {
    SLUICE_RETURN_IF_ERROR(CheckTextSize(a.string().size() + b.string().size()));
    return a.string() + b.string();
  }
  if (op == "+" && a.is(Value::Kind::kList) && b.is(Value::Kind::kList)) {
    List list = a.list();
    list.insert(list.end(), b.list().begin(), b.list().end());
    if (list.size() > kMaxElements) return TemplateError("a list of ", list.size(), " elements");
    return list;
  }
  if (op == "*" && a.is_string() && b.is_integer()) return Repeat(a.string(), b.integer());
  if (op == "*" && b.is_string() && a.is_integer()) return Repeat(b.string(), a.integer());
  return TemplateError("'", op, "' between ", KindName(a), " and ", KindName(b),
                       " is not possible");
}

absl::StatusOr<bool> Holds(std::string_view op, const Value& a, const Value& b) {
  if (op == "==") return Equal(a, b);
  if (op == "!=") return !Equal(a, b);
  if (op == "in") return Includes(b, a);
  if (op == "not in") {
    SLUICE_ASSIGN_OR_RETURN(const bool in, Includes(b, a));
    return !in;
  }
  const bool swap = op[0] == '>';
  SLUICE_ASSIGN_OR_RETURN(const bool less, swap ? Less(b, a) : Less(a, b));
  return less || (op.size() == 2 && Equal(a, b));
}

}  // namespace

absl::StatusOr<Value> Interpreter::Evaluate(const Expression& expression) {
  SLUICE_RETURN_IF_ERROR(Charge(1));
  Result value = EvaluateNode(expression);
  absl::Status status = value.status();
  if (status.ok() && value->depth() > kMaxValueDepth) {
    status = TemplateError("lists nested more than ", kMaxValueDepth, " deep");
  }
  if (status.ok()) return value;
  if (status.message().substr(0, 5) == "line ") return status;
  return absl::Status(status.code(), Cat("line ", expression.line, ": ", status.message()));
}

absl::StatusOr<Value> Interpreter::EvaluateNode(const Expression& e) {
  switch (e.kind) {
    case Kind::kConstant:
      return e.constant;
    case Kind::kName:
      return Lookup(e.name);
    case Kind::kList:
      return List_(e);
    case Kind::kDict:
      return Dict_(e);
    case Kind::kAttribute: {
      SLUICE_ASSIGN_OR_RETURN(const Value subject, Evaluate(*e.parts[0]));
      return Attribute(subject, e.name);
    }
    case Kind::kItem: {
      SLUICE_ASSIGN_OR_RETURN(const Value subject, Evaluate(*e.parts[0]));
      SLUICE_ASSIGN_OR_RETURN(const Value key, Evaluate(*e.parts[1]));
      return Item(subject, key);
    }
    case Kind::kSlice:
      return SliceOf(e);
    case Kind::kCall:
      return Call(e);
    case Kind::kFilter: {
      SLUICE_ASSIGN_OR_RETURN(const Value subject, Evaluate(*e.parts[0]));
      SLUICE_ASSIGN_OR_RETURN(const Arguments arguments, EvaluateArguments(e));
      SLUICE_RETURN_IF_ERROR(Charge(subject));
      SLUICE_ASSIGN_OR_RETURN(Value out, ApplyFilter(e.name, subject, arguments));
      SLUICE_RETURN_IF_ERROR(Charge(out));
      return out;
    }
    case Kind::kTest: {
      SLUICE_ASSIGN_OR_RETURN(const Value subject, Evaluate(*e.parts[0]));
      SLUICE_ASSIGN_OR_RETURN(const Arguments arguments, EvaluateArguments(e));
      SLUICE_RETURN_IF_ERROR(Charge(subject));
      SLUICE_ASSIGN_OR_RETURN(const bool passes, ApplyTest(e.name, subject, arguments));
      return passes;
    }
    case Kind::kUnary:
      return Unary(e);
    case Kind::kBinary:
      return Binary(e);
    case Kind::kCompare:
      return Compare(e);
    case Kind::kAnd:
    case Kind::kOr: {
      SLUICE_ASSIGN_OR_RETURN(Value left, Evaluate(*e.parts[0]));
      if (left.truthy() == (e.kind == Kind::kOr)) return left;
      return Evaluate(*e.parts[1]);
    }
    case Kind::kCondition:
      return Condition(e);
  }
  return Value();
}

absl::StatusOr<Value> Interpreter::List_(const Expression& e) {
  List list;
  for (const ExpressionPtr& part : e.parts) {
    SLUICE_ASSIGN_OR_RETURN(Value value, Evaluate(*part));
    if (value.is(Value::Kind::kNamespace)) return TemplateError("a namespace in a list");
    list.push_back(std::move(value));
  }
  return list;
}

absl::StatusOr<Value> Interpreter::Dict_(const Expression& e) {
  Dict dict;
  for (size_t i = 0; i + 1 < e.parts.size(); i += 2) {
    SLUICE_ASSIGN_OR_RETURN(const Value key, Evaluate(*e.parts[i]));
    SLUICE_ASSIGN_OR_RETURN(Value value, Evaluate(*e.parts[i + 1]));
    if (!key.is_string()) return TemplateError("a dict's key is ", KindName(key));
    if (value.is(Value::Kind::kNamespace)) return TemplateError("a namespace in a dict");
    const auto same = std::find_if(dict.begin(), dict.end(),
                                   [&](const auto& entry) { return entry.first == key.string(); });
    if (same != dict.end()) {
      same->second = std::move(value);
    } else {
      dict.emplace_back(key.string(), std::move(value));
    }
  }
  return dict;
}

absl::StatusOr<Value> Interpreter::Attribute(const Value& subject, std::string_view name) {
  if (subject.is_undefined()) return NotDefined(subject);
  if (subject.is(Value::Kind::kDict)) {
    if (const Value* found = subject.Find(name); found != nullptr) return *found;
  }
  if (subject.is(Value::Kind::kNamespace)) {
    for (const auto& [known, value] : subject.space().values) {
      if (known == name) return value;
    }
  }
  if (subject.is(Value::Kind::kLoop)) {
    if (std::optional<Value> found = LoopAttribute(subject.loop(), name)) return *found;
  }
  return Undefined{Cat(KindName(subject), " has no attribute '", name, "'")};
}

absl::StatusOr<Value> Interpreter::Item(const Value& subject, const Value& key) {
  if (subject.is_undefined()) return NotDefined(subject);
  if (key.is_string()) return Attribute(subject, key.string());
  if (!key.is_integer() || !(subject.is(Value::Kind::kList) || subject.is_string())) {
    return Undefined{Cat(KindName(subject), " has no element ", ToText(key))};
  }
  SLUICE_RETURN_IF_ERROR(subject.is_string() ? Charge(subject) : absl::OkStatus());
  const int64_t size =
      subject.is_string() ? Length(subject.string()) : static_cast<int64_t>(subject.list().size());
  int64_t index = key.integer();
  if (index < 0) index += size;
  if (index < 0 || index >= size) {
    return Undefined{
        Cat(KindName(subject), " of ", size, " elements has no element ", key.integer())};
  }
  if (subject.is_string()) return std::string(Substring(subject.string(), index, index + 1));
  return subject.list()[static_cast<size_t>(index)];
}

absl::StatusOr<Value> Interpreter::SliceOf(const Expression& e) {
  SLUICE_ASSIGN_OR_RETURN(const Value subject, Evaluate(*e.parts[0]));
  Value bounds[3];
  for (size_t i = 0; i < 3; ++i) {
    if (e.parts[i + 1] == nullptr) continue;
    SLUICE_ASSIGN_OR_RETURN(bounds[i], Evaluate(*e.parts[i + 1]));
  }
  if (subject.is_undefined()) return NotDefined(subject);
  SLUICE_RETURN_IF_ERROR(Charge(subject));
  return Slice(subject, bounds[0], bounds[1], bounds[2]);
}

absl::StatusOr<Arguments> Interpreter::EvaluateArguments(const Expression& call) {
  Arguments arguments;
  for (size_t i = 1; i < call.parts.size(); ++i) {
    SLUICE_ASSIGN_OR_RETURN(Value value, Evaluate(*call.parts[i]));
    arguments.positional.push_back(std::move(value));
  }
  for (const auto& [name, part] : call.named) {
    SLUICE_ASSIGN_OR_RETURN(Value value, Evaluate(*part));
    arguments.named.emplace_back(name, std::move(value));
  }
  return arguments;
}

absl::StatusOr<Value> Interpreter::Call(const Expression& call) {
  const Expression& callee = *call.parts[0];
  if (callee.kind == Kind::kAttribute) {
    SLUICE_ASSIGN_OR_RETURN(const Value subject, Evaluate(*callee.parts[0]));
    if (subject.is_undefined()) return NotDefined(subject);
    SLUICE_ASSIGN_OR_RETURN(const Arguments arguments, EvaluateArguments(call));
    SLUICE_RETURN_IF_ERROR(Charge(subject));
    SLUICE_ASSIGN_OR_RETURN(Value out, CallMethod(subject, callee.name, arguments));
    SLUICE_RETURN_IF_ERROR(Charge(out));
    return out;
  }
  SLUICE_ASSIGN_OR_RETURN(const Value function, Evaluate(callee));
  if (function.is_undefined()) return NotDefined(function);
  if (!function.is(Value::Kind::kFunction)) {
    return TemplateError(KindName(function), " cannot be called");
  }
  SLUICE_ASSIGN_OR_RETURN(const Arguments arguments, EvaluateArguments(call));
  return CallFunction(function.function(), arguments);
}

absl::StatusOr<Value> Interpreter::CallFunction(const Function& function,
                                                const Arguments& arguments) {
  if (function.macro != nullptr) return CallMacro(*function.macro, arguments);
  if (function.name == "range") return Range(arguments);
  if (function.name == "raise_exception") {
    const Value* message = arguments.Get(0, "message");
    return TemplateError(message == nullptr ? "the template refuses" : ToText(*message));
  }
  if (function.name == "strftime_now") {
    const Value* format = arguments.Get(0, "format");
    if (format == nullptr || !format->is_string()) return TemplateError("strftime_now: no format");
    return strftime_(format->string());
  }
  if (!arguments.positional.empty()) {
    return TemplateError(function.name, "() takes only arguments with names");
  }
  for (const auto& [name, value] : arguments.named) {
    if (value.is(Value::Kind::kNamespace)) return TemplateError("a namespace in a ", function.name);
  }
  if (function.name == "dict") return arguments.named;
  const auto space = std::make_shared<Namespace>();
  space->values = arguments.named;
  return Value(space);
}

absl::StatusOr<Value> Interpreter::Range(const Arguments& arguments) {
  int64_t bounds[3] = {0, 0, 1};
  const size_t given = arguments.positional.size();
  if (given < 1 || given > 3) return TemplateError("range() takes 1 to 3 arguments");
  for (size_t i = 0; i < given; ++i) {
    SLUICE_ASSIGN_OR_RETURN(bounds[given == 1 ? 1 : i],
                            WholeNumber(arguments.positional[i], "range()'s argument"));
  }
  const auto [start, stop, step] = bounds;
  if (step == 0) return TemplateError("range(): the step is 0");
  List list;
  for (__int128 i = start; step > 0 ? i < stop : i > stop; i += step) {
    if (list.size() == kMaxElements) return TemplateError("range() of more than ", kMaxElements);
    list.emplace_back(static_cast<int64_t>(i));
  }
  SLUICE_RETURN_IF_ERROR(Charge(static_cast<int64_t>(list.size())));
  return list;
}

absl::StatusOr<Value> Interpreter::CallMacro(const Statement& macro, const Arguments& arguments) {
  if (calls_ >= kMaxCalls)
    return TemplateError("macros call each other more than ", kMaxCalls, " deep");
  if (arguments.positional.size() > macro.defaults.size()) {
    return TemplateError("too many arguments for the macro '", macro.names[0], "'");
  }
  const size_t caller = std::exchange(macro_scope_, scopes_.size());
  scopes_.emplace_back();
  ++calls_;
  for (size_t i = 0; i < macro.defaults.size(); ++i) {
    const std::string& name = macro.names[i + 1];
    Value value = Undefined{Cat("the parameter '", name, "' was not given")};
    if (const Value* given = arguments.Get(i, name); given != nullptr) {
      value = *given;
    } else if (macro.defaults[i] != nullptr) {
      SLUICE_ASSIGN_OR_RETURN(value, Evaluate(*macro.defaults[i]));
    }
    Set(name, std::move(value));
  }
  SLUICE_ASSIGN_OR_RETURN(std::string text, Capture(macro.body));
  --calls_;
  scopes_.pop_back();
  macro_scope_ = caller;
  return text;
}

absl::StatusOr<Value> Interpreter::Unary(const Expression& e) {
  SLUICE_ASSIGN_OR_RETURN(const Value value, Evaluate(*e.parts[0]));
  if (e.name == "not") return !value.truthy();
  if (value.is_undefined()) return NotDefined(value);
  if (!value.is_number()) return TemplateError("'", e.name, "' before ", KindName(value));
  if (value.is(Value::Kind::kFloat)) return e.name == "-" ? -value.number() : value.number();
  return e.name == "-" ? IntegerArithmetic("-", 0, value.integer()) : value.integer();
}

absl::StatusOr<Value> Interpreter::Binary(const Expression& e) {
  SLUICE_ASSIGN_OR_RETURN(const Value left, Evaluate(*e.parts[0]));
  SLUICE_ASSIGN_OR_RETURN(const Value right, Evaluate(*e.parts[1]));
  SLUICE_ASSIGN_OR_RETURN(Value out, Arithmetic(e.name, left, right));
  SLUICE_RETURN_IF_ERROR(Charge(out));
  return out;
}

absl::StatusOr<Value> Interpreter::Compare(const Expression& e) {
  SLUICE_ASSIGN_OR_RETURN(Value left, Evaluate(*e.parts[0]));
  for (size_t i = 0; i < e.operators.size(); ++i) {
    SLUICE_ASSIGN_OR_RETURN(Value right, Evaluate(*e.parts[i + 1]));
    SLUICE_RETURN_IF_ERROR(Charge(right));
    SLUICE_ASSIGN_OR_RETURN(const bool holds, Holds(e.operators[i], left, right));
    if (!holds) return false;
    left = std::move(right);
  }
  return true;
}

absl::StatusOr<Value> Interpreter::Condition(const Expression& e) {
  SLUICE_ASSIGN_OR_RETURN(const Value test, Evaluate(*e.parts[1]));
  if (test.truthy()) return Evaluate(*e.parts[0]);
  if (e.parts[2] != nullptr) return Evaluate(*e.parts[2]);
  return Undefined{"the condition is false and there is no else"};
}

}  // namespace sluice::jinja
