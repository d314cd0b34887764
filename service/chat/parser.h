// Parser: the tokens of a chat template to its syntax tree.
//
// Everything that this interpreter does not support is found here, when the model is loaded: an
// unknown statement, filter or test is UNIMPLEMENTED, not a surprise in the middle of a request.
//
// Pure.
#pragma once

#include <string_view>

#include "absl/status/statusor.h"
#include "service/chat/syntax.h"

namespace sluice::jinja {

// Returns INVALID_ARGUMENT for what Jinja refuses, too, and UNIMPLEMENTED for what only we refuse.
// Both begin with "line N: ".
absl::StatusOr<Body> Parse(std::string_view source);

}  // namespace sluice::jinja
