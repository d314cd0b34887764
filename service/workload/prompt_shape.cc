#include "service/workload/prompt_shape.h"

#include <algorithm>

#include "scheduler/base/check.h"
#include "service/workload/random.h"

namespace sluice {
namespace {

constexpr uint64_t kStep = 0x9E3779B97F4A7C15U;  // 2^64 / golden ratio
constexpr uint64_t kMix = 0xD6E8FEB86659FD93U;

// Writes the tokens of positions [from, to) of the text `owner` to out[from, to). One
// multiplication spreads (text, position) over 64 bits, a second brings the upper half into
// [0, vocabulary): enough for tokens that need to differ, not to be unpredictable.
void WriteTokens(uint64_t owner, int64_t from, int64_t to, uint64_t vocabulary, TokenId* out) {
  const uint64_t key = MixBits(owner + kStep);
  for (int64_t i = from; i < to; ++i) {
    uint64_t x = key + static_cast<uint64_t>(i) * kStep;
    x = (x ^ (x >> 32U)) * kMix;
    out[i] = static_cast<TokenId>(((x >> 32U) * vocabulary) >> 32U);
  }
}

}  // namespace

void PromptShape::Append(uint64_t owner, Tokens count) {
  SLUICE_CHECK(count >= Tokens(0));
  if (count == Tokens(0)) return;
  const Tokens end = length() + count;
  if (!segments_.empty() && segments_.back().owner == owner) {
    segments_.back().end = end;
  } else {
    segments_.push_back({owner, end});
  }
}

PromptShape PromptShape::Prefix(Tokens count) const {
  SLUICE_CHECK(count >= Tokens(0) && count <= length());
  PromptShape prefix;
  if (count == Tokens(0)) return prefix;
  const auto last = std::lower_bound(segments_.begin(), segments_.end(), count,
                                     [](const Segment& s, Tokens n) { return s.end < n; });
  prefix.segments_.assign(segments_.begin(), last + 1);
  prefix.segments_.back().end = count;
  return prefix;
}

Tokens CommonPrefix(const PromptShape& a, const PromptShape& b) {
  Tokens common;
  const size_t count = std::min(a.segments().size(), b.segments().size());
  for (size_t i = 0; i < count; ++i) {
    const PromptShape::Segment& x = a.segments()[i];
    const PromptShape::Segment& y = b.segments()[i];
    if (x.owner != y.owner) break;
    common = std::min(x.end, y.end);
    if (x.end != y.end) break;
  }
  return common;
}

std::vector<TokenId> MakePrompt(const PromptShape& shape, int32_t vocabulary) {
  SLUICE_CHECK(vocabulary >= 1);
  std::vector<TokenId> tokens(shape.length().size());
  int64_t from = 0;
  for (const PromptShape::Segment& segment : shape.segments()) {
    WriteTokens(segment.owner, from, segment.end.value(), static_cast<uint64_t>(vocabulary),
                tokens.data());
    from = segment.end.value();
  }
  return tokens;
}

}  // namespace sluice
