// SipHash-2-4 (Aumasson, Bernstein 2012): a keyed hash that nobody can steer without the key. For
// the names of cache domains, where a collision would open one tenant's cache to another.
#pragma once

#include <array>
#include <cstdint>

#include "absl/strings/string_view.h"

namespace sluice {

using SipKey = std::array<uint64_t, 2>;

uint64_t SipHash(const SipKey& key, absl::string_view data);

}  // namespace sluice
