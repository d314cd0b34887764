// Lexer: the source of a chat template to tokens.
//
// Whitespace is treated as Hugging Face sets Jinja up (trim_blocks, lstrip_blocks): a block or
// comment alone on its line leaves nothing of that line; "-" inside a tag takes all whitespace on
// its side, "+" keeps it. One newline at the end of the source is dropped, and \r\n is \n.
//
// Pure.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace sluice::jinja {

struct Token {
  enum class Type {
    kText,         // outside of tags
    kOutputBegin,  // {{
    kOutputEnd,    // }}
    kBlockBegin,   // {%
    kBlockEnd,     // %}
    kName,
    kString,  // `text` is what it means, without quotes and escapes
    kInteger,
    kFloat,
    kOperator,
    kEnd,  // of the source
  };
  Type type = Type::kEnd;
  std::string text;
  int line = 1;
};

// The tokens of `source`, the last of type kEnd.
// Returns INVALID_ARGUMENT, beginning with "line N: ", if a tag, string or comment does not end, or
// if a character means nothing.
absl::StatusOr<std::vector<Token>> Tokenize(std::string_view source);

}  // namespace sluice::jinja
