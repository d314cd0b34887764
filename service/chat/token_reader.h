// TokenReader: a list of tokens with a place in it, for the two halves of the parser.
//
// Not thread-safe.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "service/chat/cat.h"
#include "service/chat/lexer.h"

namespace sluice::jinja {

class TokenReader {
 public:
  // REQUIRES: the last token is kEnd.
  explicit TokenReader(std::vector<Token> tokens) : tokens_(std::move(tokens)) {}

  const Token& current() const { return tokens_[at_]; }
  const Token& next() const { return tokens_[at_ + 1 < tokens_.size() ? at_ + 1 : at_]; }
  int line() const { return current().line; }

  // Returns the current token and goes on; stays at the end.
  Token Take() {
    Token token = current();
    if (at_ + 1 < tokens_.size()) ++at_;
    return token;
  }

  bool Is(Token::Type type) const { return current().type == type; }
  bool IsName(std::string_view name) const {
    return Is(Token::Type::kName) && current().text == name;
  }
  bool IsOperator(std::string_view op) const {
    return Is(Token::Type::kOperator) && current().text == op;
  }

  // Goes past the current token if it is that one.
  bool SkipName(std::string_view name) { return IsName(name) && (Take(), true); }
  bool SkipOperator(std::string_view op) { return IsOperator(op) && (Take(), true); }

  absl::Status Expect(std::string_view op) {
    if (SkipOperator(op)) return absl::OkStatus();
    return Error(Cat("expected '", op, "' but found ", Here()));
  }
  absl::Status Expect(Token::Type type, std::string_view what) {
    if (Is(type)) return (Take(), absl::OkStatus());
    return Error(Cat("expected ", what, " but found ", Here()));
  }

  // The current token, for messages.
  std::string Here() const {
    return Is(Token::Type::kEnd) ? "the end" : Cat("'", current().text, "'");
  }
  absl::Status Error(std::string_view what) const {
    return absl::InvalidArgumentError(Cat("line ", line(), ": ", what));
  }
  absl::Status Unsupported(std::string_view what) const {
    return absl::UnimplementedError(Cat("line ", line(), ": ", what, " is not supported"));
  }

 private:
  std::vector<Token> tokens_;
  size_t at_ = 0;
};

}  // namespace sluice::jinja
