// ExpressionParser: the half of the parser that reads expressions. Precedence is Jinja's, lowest
// first: if-else, or, and, not, comparisons, + -, ~, * / // %, **, unary minus, then postfix:
// .name, [item], (call), | filter, is test.
//
// Not thread-safe.
#pragma once

#include <initializer_list>
#include <string_view>

#include "absl/status/statusor.h"
#include "service/chat/syntax.h"
#include "service/chat/token_reader.h"

namespace sluice::jinja {

class ExpressionParser {
 public:
  using Result = absl::StatusOr<ExpressionPtr>;

  // `tokens` must outlive this.
  explicit ExpressionParser(TokenReader& tokens) : tokens_(tokens) {}

  // One expression, from the current token on.
  Result Parse();
  // The same, where `a, b` means a list.
  Result ParseTuple();
  // The same, but "x if y" ends after x: what a for loop goes over.
  Result ParseWithoutCondition();
  // `filter | filter ...`, without what it is applied to: `subject` is.
  Result ParseFilters(ExpressionPtr subject);

 private:
  Result Condition();
  Result Or();
  Result And();
  Result Not();
  Result Compare();
  // A level of operators that bind to the left; `next` reads the level below.
  Result Binary(std::initializer_list<std::string_view> operators,
                Result (ExpressionParser::*next)());
  Result Sum();
  Result Concat();
  Result Product();
  Result Power();
  Result Unary();
  Result UnaryWithoutFilters();
  Result Primary();
  Result NameOrConstant();
  Result Number();
  Result String();
  Result ListLiteral(std::string_view close);
  Result DictLiteral();
  Result Postfix(ExpressionPtr subject);
  Result FiltersAndTests(ExpressionPtr subject);
  Result Attribute(ExpressionPtr subject);
  Result Subscript(ExpressionPtr subject);
  Result Filter(ExpressionPtr subject);
  Result Test(ExpressionPtr subject);
  absl::Status Arguments(Expression* call);

  ExpressionPtr New(Expression::Kind kind, std::string_view name = "");
  ExpressionPtr New(Expression::Kind kind, std::string_view name, ExpressionPtr first);
  // UNIMPLEMENTED once the expression is too large or too deep.
  absl::Status CheckSize() const;

  TokenReader& tokens_;
  int depth_ = 0;
  int nodes_ = 0;  // of the current expression
};

}  // namespace sluice::jinja
