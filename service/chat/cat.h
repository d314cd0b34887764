// Cat: absl::StrCat that takes std::string_view, too (Debian's absl::string_view is another type).
#pragma once

#include <string>
#include <string_view>
#include <type_traits>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace sluice::jinja {

template <class T>
auto CatPiece(const T& value) {
  if constexpr (std::is_convertible_v<const T&, std::string_view>) {
    const std::string_view text = value;
    return absl::string_view(text.data(), text.size());
  } else {
    return value;
  }
}

template <class... Parts>
std::string Cat(const Parts&... parts) {
  return absl::StrCat(CatPiece(parts)...);
}

}  // namespace sluice::jinja
