#include "service/chat/expression_parser.h"

#include <cstdint>
#include <string>
#include <utility>

#include "absl/strings/numbers.h"
#include "scheduler/base/status_macros.h"
#include "service/chat/builtins.h"

namespace sluice::jinja {
namespace {

// Trees are walked and freed recursively, so they stay small. Real templates need about 30.
constexpr int kMaxNodes = 2000;
constexpr int kMaxDepth = 60;

using Kind = Expression::Kind;

// Counts what is open for as long as it lives.
class Nesting {
 public:
  explicit Nesting(int* depth) : depth_(depth) { ++*depth_; }
  ~Nesting() { --*depth_; }
  Nesting(const Nesting&) = delete;
  Nesting& operator=(const Nesting&) = delete;

 private:
  int* const depth_;
};

}  // namespace

ExpressionPtr ExpressionParser::New(Kind kind, std::string_view name) {
  ++nodes_;
  auto node = std::make_unique<Expression>();
  node->kind = kind;
  node->line = tokens_.line();
  node->name = std::string(name);
  return node;
}

ExpressionPtr ExpressionParser::New(Kind kind, std::string_view name, ExpressionPtr first) {
  ExpressionPtr node = New(kind, name);
  node->line = first->line;
  node->parts.push_back(std::move(first));
  return node;
}

absl::Status ExpressionParser::CheckSize() const {
  if (depth_ <= kMaxDepth && nodes_ <= kMaxNodes) return absl::OkStatus();
  return tokens_.Unsupported("an expression this large");
}

ExpressionParser::Result ExpressionParser::Parse() {
  if (depth_ == 0) nodes_ = 0;
  return Condition();
}

ExpressionParser::Result ExpressionParser::ParseWithoutCondition() {
  if (depth_ == 0) nodes_ = 0;
  return Or();
}

ExpressionParser::Result ExpressionParser::ParseTuple() {
  SLUICE_ASSIGN_OR_RETURN(ExpressionPtr first, Parse());
  if (!tokens_.IsOperator(",")) return first;
  ExpressionPtr list = New(Kind::kList, "", std::move(first));
  while (tokens_.SkipOperator(",")) {
    SLUICE_ASSIGN_OR_RETURN(ExpressionPtr element, Condition());
    list->parts.push_back(std::move(element));
  }
  return list;
}

ExpressionParser::Result ExpressionParser::ParseFilters(ExpressionPtr subject) {
  SLUICE_ASSIGN_OR_RETURN(subject, Filter(std::move(subject)));
  while (tokens_.SkipOperator("|")) {
    SLUICE_ASSIGN_OR_RETURN(subject, Filter(std::move(subject)));
  }
  return subject;
}

ExpressionParser::Result ExpressionParser::Condition() {
  const Nesting nesting(&depth_);
  SLUICE_RETURN_IF_ERROR(CheckSize());
  SLUICE_ASSIGN_OR_RETURN(ExpressionPtr value, Or());
  while (tokens_.SkipName("if")) {
    SLUICE_RETURN_IF_ERROR(CheckSize());
    ExpressionPtr node = New(Kind::kCondition, "", std::move(value));
    SLUICE_ASSIGN_OR_RETURN(ExpressionPtr test, Or());
    node->parts.push_back(std::move(test));
    ExpressionPtr otherwise;
    if (tokens_.SkipName("else")) {
      SLUICE_ASSIGN_OR_RETURN(otherwise, Condition());
    }
    node->parts.push_back(std::move(otherwise));
    value = std::move(node);
  }
  return value;
}

ExpressionParser::Result ExpressionParser::Or() {
  SLUICE_ASSIGN_OR_RETURN(ExpressionPtr left, And());
  while (tokens_.SkipName("or")) {
    SLUICE_RETURN_IF_ERROR(CheckSize());
    left = New(Kind::kOr, "", std::move(left));
    SLUICE_ASSIGN_OR_RETURN(ExpressionPtr right, And());
    left->parts.push_back(std::move(right));
  }
  return left;
}

ExpressionParser::Result ExpressionParser::And() {
  SLUICE_ASSIGN_OR_RETURN(ExpressionPtr left, Not());
  while (tokens_.SkipName("and")) {
    SLUICE_RETURN_IF_ERROR(CheckSize());
    left = New(Kind::kAnd, "", std::move(left));
    SLUICE_ASSIGN_OR_RETURN(ExpressionPtr right, Not());
    left->parts.push_back(std::move(right));
  }
  return left;
}

ExpressionParser::Result ExpressionParser::Not() {
  if (!tokens_.IsName("not")) return Compare();
  const Nesting nesting(&depth_);
  SLUICE_RETURN_IF_ERROR(CheckSize());
  tokens_.Take();
  SLUICE_ASSIGN_OR_RETURN(ExpressionPtr value, Not());
  return New(Kind::kUnary, "not", std::move(value));
}

ExpressionParser::Result ExpressionParser::Compare() {
  SLUICE_ASSIGN_OR_RETURN(ExpressionPtr left, Sum());
  ExpressionPtr chain;
  for (;;) {
    std::string op;
    for (const std::string_view known : {"==", "!=", "<=", ">=", "<", ">"}) {
      if (op.empty() && tokens_.SkipOperator(known)) op = std::string(known);
    }
    if (op.empty() && tokens_.SkipName("in")) op = "in";
    if (op.empty() && tokens_.IsName("not") && tokens_.next().text == "in") {
      tokens_.Take();
      tokens_.Take();
      op = "not in";
    }
    if (op.empty()) return chain == nullptr ? std::move(left) : std::move(chain);
    SLUICE_RETURN_IF_ERROR(CheckSize());
    if (chain == nullptr) chain = New(Kind::kCompare, "", std::move(left));
    chain->operators.push_back(std::move(op));
    SLUICE_ASSIGN_OR_RETURN(ExpressionPtr right, Sum());
    chain->parts.push_back(std::move(right));
  }
}

ExpressionParser::Result ExpressionParser::Binary(std::initializer_list<std::string_view> operators,
                                                  Result (ExpressionParser::*next)()) {
  SLUICE_ASSIGN_OR_RETURN(ExpressionPtr left, (this->*next)());
  for (;;) {
    SLUICE_RETURN_IF_ERROR(CheckSize());
    std::string_view found;
    for (const std::string_view op : operators) {
      if (found.empty() && tokens_.SkipOperator(op)) found = op;
    }
    if (found.empty()) return left;
    left = New(Kind::kBinary, found, std::move(left));
    SLUICE_ASSIGN_OR_RETURN(ExpressionPtr right, (this->*next)());
    left->parts.push_back(std::move(right));
  }
}

ExpressionParser::Result ExpressionParser::Sum() {
  return Binary({"+", "-"}, &ExpressionParser::Concat);
}
ExpressionParser::Result ExpressionParser::Concat() {
  return Binary({"~"}, &ExpressionParser::Product);
}
ExpressionParser::Result ExpressionParser::Product() {
  return Binary({"*", "//", "/", "%"}, &ExpressionParser::Power);
}
ExpressionParser::Result ExpressionParser::Power() {
  return Binary({"**"}, &ExpressionParser::Unary);
}

ExpressionParser::Result ExpressionParser::Unary() {
  SLUICE_ASSIGN_OR_RETURN(ExpressionPtr value, UnaryWithoutFilters());
  return FiltersAndTests(std::move(value));
}

ExpressionParser::Result ExpressionParser::UnaryWithoutFilters() {
  const Nesting nesting(&depth_);
  SLUICE_RETURN_IF_ERROR(CheckSize());
  for (const std::string_view op : {"-", "+"}) {
    if (!tokens_.SkipOperator(op)) continue;
    SLUICE_ASSIGN_OR_RETURN(ExpressionPtr value, UnaryWithoutFilters());
    return Postfix(New(Kind::kUnary, op, std::move(value)));
  }
  SLUICE_ASSIGN_OR_RETURN(ExpressionPtr value, Primary());
  return Postfix(std::move(value));
}

ExpressionParser::Result ExpressionParser::Primary() {
  switch (tokens_.current().type) {
    case Token::Type::kName:
      return NameOrConstant();
    case Token::Type::kString:
      return String();
    case Token::Type::kInteger:
    case Token::Type::kFloat:
      return Number();
    default:
      break;
  }
  if (tokens_.SkipOperator("(")) {
    if (tokens_.IsOperator(")")) return ListLiteral(")");
    SLUICE_ASSIGN_OR_RETURN(ExpressionPtr value, Condition());
    if (!tokens_.IsOperator(",")) {
      SLUICE_RETURN_IF_ERROR(tokens_.Expect(")"));
      return value;
    }
    tokens_.Take();
    SLUICE_ASSIGN_OR_RETURN(ExpressionPtr list, ListLiteral(")"));
    list->parts.insert(list->parts.begin(), std::move(value));
    return list;
  }
  if (tokens_.SkipOperator("[")) return ListLiteral("]");
  if (tokens_.SkipOperator("{")) return DictLiteral();
  return tokens_.Error(Cat("expected a value but found ", tokens_.Here()));
}

ExpressionParser::Result ExpressionParser::NameOrConstant() {
  const std::string& name = tokens_.current().text;
  ExpressionPtr node = New(Kind::kConstant);
  if (name == "true" || name == "True") {
    node->constant = true;
  } else if (name == "false" || name == "False") {
    node->constant = false;
  } else if (name != "none" && name != "None") {
    node->kind = Kind::kName;
    node->name = name;
  }
  tokens_.Take();
  return node;
}

ExpressionParser::Result ExpressionParser::Number() {
  ExpressionPtr node = New(Kind::kConstant);
  const Token token = tokens_.Take();
  int64_t integer = 0;
  double number = 0;
  if (token.type == Token::Type::kInteger && absl::SimpleAtoi(token.text, &integer)) {
    node->constant = integer;
  } else if (absl::SimpleAtod(token.text, &number)) {
    node->constant = number;
  } else {
    return tokens_.Error(Cat("'", token.text, "' is not a number"));
  }
  return node;
}

ExpressionParser::Result ExpressionParser::String() {
  ExpressionPtr node = New(Kind::kConstant);
  std::string text;
  while (tokens_.Is(Token::Type::kString)) text += tokens_.Take().text;  // "a" "b" is "ab"
  node->constant = std::move(text);
  return node;
}

ExpressionParser::Result ExpressionParser::ListLiteral(std::string_view close) {
  ExpressionPtr list = New(Kind::kList);
  while (!tokens_.SkipOperator(close)) {
    SLUICE_ASSIGN_OR_RETURN(ExpressionPtr element, Condition());
    list->parts.push_back(std::move(element));
    if (!tokens_.IsOperator(close)) SLUICE_RETURN_IF_ERROR(tokens_.Expect(","));
  }
  return list;
}

ExpressionParser::Result ExpressionParser::DictLiteral() {
  ExpressionPtr dict = New(Kind::kDict);
  while (!tokens_.SkipOperator("}")) {
    SLUICE_ASSIGN_OR_RETURN(ExpressionPtr key, Condition());
    SLUICE_RETURN_IF_ERROR(tokens_.Expect(":"));
    SLUICE_ASSIGN_OR_RETURN(ExpressionPtr value, Condition());
    dict->parts.push_back(std::move(key));
    dict->parts.push_back(std::move(value));
    if (!tokens_.IsOperator("}")) SLUICE_RETURN_IF_ERROR(tokens_.Expect(","));
  }
  return dict;
}

ExpressionParser::Result ExpressionParser::Postfix(ExpressionPtr subject) {
  for (;;) {
    SLUICE_RETURN_IF_ERROR(CheckSize());
    if (tokens_.SkipOperator(".")) {
      SLUICE_ASSIGN_OR_RETURN(subject, Attribute(std::move(subject)));
    } else if (tokens_.SkipOperator("[")) {
      SLUICE_ASSIGN_OR_RETURN(subject, Subscript(std::move(subject)));
    } else if (tokens_.SkipOperator("(")) {
      subject = New(Kind::kCall, "", std::move(subject));
      SLUICE_RETURN_IF_ERROR(Arguments(subject.get()));
    } else {
      return subject;
    }
  }
}

ExpressionParser::Result ExpressionParser::Attribute(ExpressionPtr subject) {
  if (tokens_.Is(Token::Type::kInteger)) {  // x.0 is x[0]
    ExpressionPtr item = New(Kind::kItem, "", std::move(subject));
    SLUICE_ASSIGN_OR_RETURN(ExpressionPtr index, Number());
    item->parts.push_back(std::move(index));
    return item;
  }
  ExpressionPtr node = New(Kind::kAttribute, tokens_.current().text, std::move(subject));
  SLUICE_RETURN_IF_ERROR(tokens_.Expect(Token::Type::kName, "a name after '.'"));
  return node;
}

ExpressionParser::Result ExpressionParser::Subscript(ExpressionPtr subject) {
  ExpressionPtr node = New(Kind::kItem, "", std::move(subject));
  const auto bound = [&]() -> Result {
    if (tokens_.IsOperator(":") || tokens_.IsOperator("]")) return ExpressionPtr();
    return Condition();
  };
  SLUICE_ASSIGN_OR_RETURN(ExpressionPtr first, bound());
  const bool slice = tokens_.IsOperator(":");
  if (!slice && first == nullptr) return tokens_.Error("expected an index between '[' and ']'");
  node->parts.push_back(std::move(first));
  if (slice) {
    node->kind = Kind::kSlice;
    for (int i = 0; i < 2; ++i) {
      ExpressionPtr more;
      if (tokens_.SkipOperator(":")) {
        SLUICE_ASSIGN_OR_RETURN(more, bound());
      }
      node->parts.push_back(std::move(more));
    }
  }
  SLUICE_RETURN_IF_ERROR(tokens_.Expect("]"));
  return node;
}

ExpressionParser::Result ExpressionParser::FiltersAndTests(ExpressionPtr subject) {
  for (;;) {
    SLUICE_RETURN_IF_ERROR(CheckSize());
    if (tokens_.SkipOperator("|")) {
      SLUICE_ASSIGN_OR_RETURN(subject, Filter(std::move(subject)));
    } else if (tokens_.SkipName("is")) {
      SLUICE_ASSIGN_OR_RETURN(subject, Test(std::move(subject)));
    } else if (tokens_.SkipOperator("(")) {
      subject = New(Kind::kCall, "", std::move(subject));
      SLUICE_RETURN_IF_ERROR(Arguments(subject.get()));
    } else {
      return subject;
    }
  }
}

ExpressionParser::Result ExpressionParser::Filter(ExpressionPtr subject) {
  const std::string name = tokens_.current().text;
  if (!tokens_.Is(Token::Type::kName)) {
    return tokens_.Error(Cat("expected a filter but found ", tokens_.Here()));
  }
  if (!IsFilter(name)) return tokens_.Unsupported(Cat("the filter '", name, "'"));
  ExpressionPtr node = New(Kind::kFilter, name, std::move(subject));
  tokens_.Take();
  if (tokens_.SkipOperator("(")) SLUICE_RETURN_IF_ERROR(Arguments(node.get()));
  return node;
}

ExpressionParser::Result ExpressionParser::Test(ExpressionPtr subject) {
  const bool negated = tokens_.SkipName("not");
  // `is in list` and the like are names of tests, too.
  const std::string name = tokens_.current().text;
  if (!tokens_.Is(Token::Type::kName)) {
    return tokens_.Error(Cat("expected a test but found ", tokens_.Here()));
  }
  if (!IsTest(name)) return tokens_.Unsupported(Cat("the test '", name, "'"));
  ExpressionPtr node = New(Kind::kTest, name, std::move(subject));
  tokens_.Take();
  const Token::Type type = tokens_.current().type;
  const bool ends = tokens_.IsName("else") || tokens_.IsName("or") || tokens_.IsName("and");
  if (tokens_.SkipOperator("(")) {
    SLUICE_RETURN_IF_ERROR(Arguments(node.get()));
  } else if (tokens_.IsName("is")) {
    return tokens_.Error("tests cannot be chained with 'is'");
  } else if ((type == Token::Type::kName && !ends) || type == Token::Type::kString ||
             type == Token::Type::kInteger || type == Token::Type::kFloat ||
             tokens_.IsOperator("[") || tokens_.IsOperator("{")) {
    SLUICE_ASSIGN_OR_RETURN(ExpressionPtr argument, Primary());
    SLUICE_ASSIGN_OR_RETURN(argument, Postfix(std::move(argument)));
    node->parts.push_back(std::move(argument));
  }
  return negated ? New(Kind::kUnary, "not", std::move(node)) : std::move(node);
}

absl::Status ExpressionParser::Arguments(Expression* call) {
  while (!tokens_.SkipOperator(")")) {
    if (tokens_.IsOperator("*") || tokens_.IsOperator("**")) {
      return tokens_.Unsupported("unpacking arguments with '*'");
    }
    if (tokens_.Is(Token::Type::kName) && tokens_.next().type == Token::Type::kOperator &&
        tokens_.next().text == "=") {
      std::string name = tokens_.Take().text;
      tokens_.Take();
      SLUICE_ASSIGN_OR_RETURN(ExpressionPtr value, Condition());
      call->named.emplace_back(std::move(name), std::move(value));
    } else {
      SLUICE_ASSIGN_OR_RETURN(ExpressionPtr value, Condition());
      call->parts.push_back(std::move(value));
    }
    if (!tokens_.IsOperator(")")) SLUICE_RETURN_IF_ERROR(tokens_.Expect(","));
  }
  return absl::OkStatus();
}

}  // namespace sluice::jinja
