// The syntax tree of a chat template: plain data that the parser makes and the interpreter walks.
//
// Immutable once parsed, so any number of threads may render at once.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "service/chat/value.h"

namespace sluice::jinja {

struct Expression {
  enum class Kind {
    kConstant,   // constant
    kName,       // name
    kList,       // parts
    kDict,       // parts: key, value, key, value, ...
    kAttribute,  // parts[0].name
    kItem,       // parts[0][parts[1]]
    kSlice,      // parts[0][parts[1] : parts[2] : parts[3]]; the last three may be null
    kCall,       // parts[0](parts[1], ..., named)
    kFilter,     // parts[0] | name(parts[1], ..., named)
    kTest,       // parts[0] is name(parts[1], ...)
    kUnary,      // name parts[0], name is "-", "+" or "not"
    kBinary,     // parts[0] name parts[1], name is an arithmetic operator or "~"
    kCompare,    // parts[0] operators[0] parts[1] operators[1] parts[2] ...
    kAnd,        // parts[0] and parts[1]
    kOr,         // parts[0] or parts[1]
    kCondition,  // parts[0] if parts[1] else parts[2]; the last may be null
  };

  Kind kind = Kind::kConstant;
  int line = 1;
  std::string name;
  Value constant;
  std::vector<std::unique_ptr<Expression>> parts;
  std::vector<std::pair<std::string, std::unique_ptr<Expression>>> named;
  std::vector<std::string> operators;
};

using ExpressionPtr = std::unique_ptr<Expression>;

struct Statement {
  enum class Kind {
    kText,      // text
    kOutput,    // {{ value }}
    kIf,        // {% if value %} body {% else %} otherwise; elif is an if in `otherwise`
    kFor,       // {% for names in value if condition %} body {% else %} otherwise
    kSet,       // {% set names = value %}, or names[0].attribute
    kSetBlock,  // {% set names[0] %} body, through `value` if it is not null (filters)
    kMacro,     // {% macro names[0](names[1], ...) %} body; defaults[i] belongs to names[i + 1]
    kFilter,    // {% filter ... %} body; `value` holds the filters
    kScope,     // {% generation %} body
    kBreak,
    kContinue,
  };

  Kind kind = Kind::kText;
  int line = 1;
  std::string text;
  std::vector<std::string> names;
  std::string attribute;
  ExpressionPtr value;
  ExpressionPtr condition;
  std::vector<ExpressionPtr> defaults;  // null: the parameter has none
  std::vector<std::unique_ptr<Statement>> body;
  std::vector<std::unique_ptr<Statement>> otherwise;
};

using Body = std::vector<std::unique_ptr<Statement>>;

// Where filters of a block find the text that they are applied to.
inline constexpr char kBlockText[] = " text";

}  // namespace sluice::jinja
