#include "backend/sim/output_oracle.h"

#include <algorithm>

#include "backend/sim/mix.h"

namespace sluice {
namespace {

// Keeps the streams of one seed apart.
constexpr uint64_t kEndStream = 1;
constexpr uint64_t kTokenStream = 2;

}  // namespace

bool OutputOracle::EndsAt(RequestId id, int64_t index) const {
  if (const auto it = lengths_.find(id); it != lengths_.end()) {
    return index + 1 >= it->second.value();
  }
  if (mean_length_ <= 0) return false;
  const uint64_t request = Mix(seed_, kEndStream, static_cast<uint64_t>(id.value()));
  return UniformOf(Mix(request, 0, static_cast<uint64_t>(index))) * mean_length_ < 1;
}

TokenId OutputOracle::Draw(RequestId id, int64_t index, const SamplingParams& params) const {
  const std::vector<TokenId>& stops = params.stop_ids;
  if (!stops.empty() && index >= params.min_tokens && EndsAt(id, index)) return stops.front();
  const uint64_t digest = Mix(Mix(seed_, kTokenStream, static_cast<uint64_t>(id.value())), 0,
                              static_cast<uint64_t>(index));
  auto token = static_cast<TokenId>(digest % static_cast<uint64_t>(vocab_));
  // At most as many steps as there are stop ids, unless they are the whole vocabulary.
  for (size_t tries = 0; tries < stops.size(); ++tries) {
    if (std::find(stops.begin(), stops.end(), token) == stops.end()) break;
    token = (token + 1) % vocab_;
  }
  return token;
}

}  // namespace sluice
