#include "service/chat/parser.h"

#include <string>
#include <utility>
#include <vector>

#include "scheduler/base/status_macros.h"
#include "service/chat/cat.h"
#include "service/chat/expression_parser.h"
#include "service/chat/lexer.h"
#include "service/chat/token_reader.h"

namespace sluice::jinja {
namespace {

// Blocks inside one another. Real templates need about 8.
constexpr int kMaxNesting = 40;

using Kind = Statement::Kind;
using StatementPtr = std::unique_ptr<Statement>;
using Result = absl::StatusOr<StatementPtr>;
using Names = std::vector<std::string_view>;

class Parser {
 public:
  explicit Parser(std::vector<Token> tokens) : tokens_(std::move(tokens)), expressions_(tokens_) {}

  absl::StatusOr<Body> Run() { return ParseBody({}, 1); }

 private:
  StatementPtr New(Kind kind) const {
    auto statement = std::make_unique<Statement>();
    statement->kind = kind;
    statement->line = tokens_.line();
    return statement;
  }

  absl::Status EndBlock() { return tokens_.Expect(Token::Type::kBlockEnd, "'%}'"); }

  // True if the current block begins with one of `names`.
  bool AtBlock(const Names& names) const {
    if (!tokens_.Is(Token::Type::kBlockBegin)) return false;
    for (const std::string_view name : names) {
      if (tokens_.next().type == Token::Type::kName && tokens_.next().text == name) return true;
    }
    return false;
  }

  // Statements up to a block that begins with one of `ends`, which is left in place; up to the end
  // of the source if there are none. `begin`: the line of the block that they belong to.
  absl::StatusOr<Body> ParseBody(const Names& ends, int begin) {
    if (++nesting_ > kMaxNesting) return tokens_.Unsupported("a block nested this deeply");
    Body body;
    while (!AtBlock(ends)) {
      if (tokens_.Is(Token::Type::kEnd)) {
        if (ends.empty()) break;
        return absl::InvalidArgumentError(
            Cat("line ", begin, ": the block does not end; {% ", ends.back(), " %} is missing"));
      }
      SLUICE_ASSIGN_OR_RETURN(StatementPtr statement, ParseStatement());
      body.push_back(std::move(statement));
    }
    --nesting_;
    return body;
  }

  // A body up to {% end %}, and that block.
  absl::Status ParseBodyUntil(std::string_view end, int begin, Body* body) {
    SLUICE_ASSIGN_OR_RETURN(*body, ParseBody({end}, begin));
    tokens_.Take();
    tokens_.Take();
    return EndBlock();
  }

  Result ParseStatement() {
    if (tokens_.Is(Token::Type::kText)) {
      StatementPtr text = New(Kind::kText);
      text->text = tokens_.Take().text;
      return text;
    }
    if (tokens_.Is(Token::Type::kOutputBegin)) {
      StatementPtr output = New(Kind::kOutput);
      tokens_.Take();
      SLUICE_ASSIGN_OR_RETURN(output->value, expressions_.ParseTuple());
      SLUICE_RETURN_IF_ERROR(tokens_.Expect(Token::Type::kOutputEnd, "'}}'"));
      return output;
    }
    tokens_.Take();  // {%
    if (!tokens_.Is(Token::Type::kName)) {
      return tokens_.Error(Cat("expected a statement but found ", tokens_.Here()));
    }
    return ParseBlock();
  }

  Result ParseBlock() {
    if (tokens_.SkipName("if")) return ParseIf();
    if (tokens_.SkipName("for")) return ParseFor();
    if (tokens_.SkipName("set")) return ParseSet();
    if (tokens_.SkipName("macro")) return ParseMacro();
    if (tokens_.SkipName("filter")) return ParseFilterBlock();
    if (tokens_.SkipName("generation")) {  // marks answers, for training
      StatementPtr scope = New(Kind::kScope);
      SLUICE_RETURN_IF_ERROR(EndBlock());
      SLUICE_RETURN_IF_ERROR(ParseBodyUntil("endgeneration", scope->line, &scope->body));
      return scope;
    }
    for (const auto& [name, kind] :
         {std::pair("break", Kind::kBreak), std::pair("continue", Kind::kContinue)}) {
      if (!tokens_.IsName(name)) continue;
      if (loops_ == 0) return tokens_.Error(Cat("'", name, "' outside of a for loop"));
      StatementPtr statement = New(kind);
      tokens_.Take();
      SLUICE_RETURN_IF_ERROR(EndBlock());
      return statement;
    }
    for (const char* end : {"else", "elif", "endif", "endfor", "endset", "endmacro", "endfilter"}) {
      if (tokens_.IsName(end)) {
        return tokens_.Error(Cat("{% ", end, " %} without the block that it belongs to"));
      }
    }
    return tokens_.Unsupported(Cat("the statement {% ", tokens_.current().text, " %}"));
  }

  // After "if" or "elif".
  Result ParseIf() {
    StatementPtr statement = New(Kind::kIf);
    SLUICE_ASSIGN_OR_RETURN(statement->value, expressions_.ParseTuple());
    SLUICE_RETURN_IF_ERROR(EndBlock());
    SLUICE_ASSIGN_OR_RETURN(statement->body, ParseBody({"elif", "else", "endif"}, statement->line));
    tokens_.Take();
    if (tokens_.SkipName("elif")) {
      if (++elifs_ > kMaxNesting) return tokens_.Unsupported("this many {% elif %} in a row");
      SLUICE_ASSIGN_OR_RETURN(StatementPtr next, ParseIf());
      --elifs_;
      statement->otherwise.push_back(std::move(next));
      return statement;
    }
    const bool otherwise = tokens_.SkipName("else");
    if (!otherwise) tokens_.Take();
    SLUICE_RETURN_IF_ERROR(EndBlock());
    if (otherwise)
      SLUICE_RETURN_IF_ERROR(ParseBodyUntil("endif", statement->line, &statement->otherwise));
    return statement;
  }

  Result ParseFor() {
    StatementPtr loop = New(Kind::kFor);
    SLUICE_RETURN_IF_ERROR(ParseTargets(&loop->names));
    if (!tokens_.SkipName("in")) {
      return tokens_.Error(Cat("expected 'in' but found ", tokens_.Here()));
    }
    SLUICE_ASSIGN_OR_RETURN(loop->value, expressions_.ParseWithoutCondition());
    if (tokens_.SkipName("if")) {
      SLUICE_ASSIGN_OR_RETURN(loop->condition, expressions_.Parse());
    }
    if (tokens_.IsName("recursive")) return tokens_.Unsupported("a recursive for loop");
    SLUICE_RETURN_IF_ERROR(EndBlock());
    ++loops_;
    SLUICE_ASSIGN_OR_RETURN(loop->body, ParseBody({"else", "endfor"}, loop->line));
    --loops_;
    tokens_.Take();
    const bool otherwise = tokens_.SkipName("else");
    if (!otherwise) tokens_.Take();
    SLUICE_RETURN_IF_ERROR(EndBlock());
    if (otherwise) SLUICE_RETURN_IF_ERROR(ParseBodyUntil("endfor", loop->line, &loop->otherwise));
    return loop;
  }

  // a, or a, b, or (a, b).
  absl::Status ParseTargets(std::vector<std::string>* names) {
    const bool parenthesis = tokens_.SkipOperator("(");
    do {
      names->push_back(tokens_.current().text);
      SLUICE_RETURN_IF_ERROR(tokens_.Expect(Token::Type::kName, "a name"));
    } while (tokens_.SkipOperator(","));
    return parenthesis ? tokens_.Expect(")") : absl::OkStatus();
  }

  Result ParseSet() {
    StatementPtr set = New(Kind::kSet);
    SLUICE_RETURN_IF_ERROR(ParseTargets(&set->names));
    if (tokens_.SkipOperator(".")) {
      set->attribute = tokens_.current().text;
      SLUICE_RETURN_IF_ERROR(tokens_.Expect(Token::Type::kName, "a name after '.'"));
    }
    if (tokens_.SkipOperator("=")) {
      SLUICE_ASSIGN_OR_RETURN(set->value, expressions_.ParseTuple());
      SLUICE_RETURN_IF_ERROR(EndBlock());
      return set;
    }
    set->kind = Kind::kSetBlock;
    if (tokens_.SkipOperator("|")) {
      SLUICE_ASSIGN_OR_RETURN(set->value, expressions_.ParseFilters(BlockText()));
    }
    SLUICE_RETURN_IF_ERROR(EndBlock());
    SLUICE_RETURN_IF_ERROR(ParseBodyUntil("endset", set->line, &set->body));
    return set;
  }

  Result ParseMacro() {
    StatementPtr macro = New(Kind::kMacro);
    macro->names.push_back(tokens_.current().text);
    SLUICE_RETURN_IF_ERROR(tokens_.Expect(Token::Type::kName, "the macro's name"));
    SLUICE_RETURN_IF_ERROR(tokens_.Expect("("));
    while (!tokens_.SkipOperator(")")) {
      macro->names.push_back(tokens_.current().text);
      SLUICE_RETURN_IF_ERROR(tokens_.Expect(Token::Type::kName, "a parameter's name"));
      ExpressionPtr otherwise;
      if (tokens_.SkipOperator("=")) {
        SLUICE_ASSIGN_OR_RETURN(otherwise, expressions_.Parse());
      }
      macro->defaults.push_back(std::move(otherwise));
      if (!tokens_.IsOperator(")")) SLUICE_RETURN_IF_ERROR(tokens_.Expect(","));
    }
    SLUICE_RETURN_IF_ERROR(EndBlock());
    const int loops = std::exchange(loops_, 0);
    SLUICE_RETURN_IF_ERROR(ParseBodyUntil("endmacro", macro->line, &macro->body));
    loops_ = loops;
    return macro;
  }

  Result ParseFilterBlock() {
    StatementPtr filter = New(Kind::kFilter);
    SLUICE_ASSIGN_OR_RETURN(filter->value, expressions_.ParseFilters(BlockText()));
    SLUICE_RETURN_IF_ERROR(EndBlock());
    SLUICE_RETURN_IF_ERROR(ParseBodyUntil("endfilter", filter->line, &filter->body));
    return filter;
  }

  ExpressionPtr BlockText() const {
    auto text = std::make_unique<Expression>();
    text->kind = Expression::Kind::kName;
    text->line = tokens_.line();
    text->name = kBlockText;
    return text;
  }

  TokenReader tokens_;
  ExpressionParser expressions_;
  int nesting_ = 0;
  int elifs_ = 0;
  int loops_ = 0;  // around the current statement
};

}  // namespace

absl::StatusOr<Body> Parse(std::string_view source) {
  SLUICE_ASSIGN_OR_RETURN(std::vector<Token> tokens, Tokenize(source));
  return Parser(std::move(tokens)).Run();
}

}  // namespace sluice::jinja
