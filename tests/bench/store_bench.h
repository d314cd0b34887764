// What the benches of stores of KV blocks share.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <iostream>
#include <random>
#include <span>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "scheduler/base/hash.h"
#include "scheduler/base/units.h"
#include "scheduler/step.h"

namespace sluice {

// Ends the program if not OK.
inline void Must(const absl::Status& status) {
  if (status.ok()) return;
  std::cerr << "failed: " << status << std::endl;
  std::exit(1);
}

template <class T>
T Must(absl::StatusOr<T> value) {
  Must(value.status());
  return *std::move(value);
}

inline double Median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

// Names for `count` blocks of one prompt.
struct Names {
  Names(size_t count, size_t width, uint64_t seed, BlockHashFunction hash) {
    std::mt19937_64 random(seed);
    Hash128 parent = RootHash(0, 0);
    for (size_t i = 0; i < count; ++i) {
      for (size_t t = 0; t < width; ++t) tokens.push_back(static_cast<TokenId>(random() % 50000));
      BlockIdentity identity;
      identity.hash = hash(parent, std::span(tokens).subspan(i * width, width));
      identity.first = i == 0;
      if (i > 0) identity.parent = parent;
      parent = identity.hash;
      identities.push_back(identity);
    }
  }
  std::vector<BlockIdentity> identities;
  std::vector<TokenId> tokens;
};

}  // namespace sluice
