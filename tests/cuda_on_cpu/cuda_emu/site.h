// Site: the source line of a device operation, for diagnostics and access accounting.
#pragma once

#include <string>

namespace cuda_emu {

struct Site {
  const char* file = "";
  int line = 0;

  // The line of the call, also as a default argument. (clang 14 has no std::source_location.)
  static constexpr Site Here(const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
    return {file, line};
  }
  // Two expansions of one line may hold different copies of its file name.
  bool SameLine(const Site& other) const;
  // "decode.cu:128"
  std::string Text() const;
};

}  // namespace cuda_emu
