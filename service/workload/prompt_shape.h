// What a prompt holds, without its tokens: which text each part of it is. Two prompts that begin
// with the same parts have the same tokens there, so a shape says all that a prefix cache can see.
//
// Token i of a prompt is a hash of (owner of the segment that covers i, i). An owner is a text: a
// document, a system prompt, what a user typed. Position counts from the prompt's start, which is
// enough here because cached KV is only reused for whole prefixes.
//
// Values; pure functions. Thread-compatible.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "scheduler/base/units.h"

namespace sluice {

class PromptShape {
 public:
  // Tokens [end of the segment before, end) are the text `owner`.
  struct Segment {
    uint64_t owner = 0;
    Tokens end;

    friend constexpr bool operator==(const Segment&, const Segment&) = default;
  };

  Tokens length() const { return segments_.empty() ? Tokens(0) : segments_.back().end; }

  // Neighbours have different owners and no segment is empty, so equal prompts have equal segments.
  std::span<const Segment> segments() const { return segments_; }

  // Adds `count` tokens of `owner`. REQUIRES: count >= 0.
  void Append(uint64_t owner, Tokens count);

  // The first `count` tokens. REQUIRES: 0 <= count <= length().
  PromptShape Prefix(Tokens count) const;

  friend bool operator==(const PromptShape&, const PromptShape&) = default;

 private:
  std::vector<Segment> segments_;
};

// Tokens that both begin with. O(segments).
Tokens CommonPrefix(const PromptShape& a, const PromptShape& b);

// The tokens, each in [0, vocabulary). Equal prefixes of shapes give equal tokens; where shapes
// differ, tokens differ as random ones do (equal by chance once in `vocabulary`).
// About 0.7 ns per token. REQUIRES: vocabulary >= 1.
std::vector<TokenId> MakePrompt(const PromptShape& shape, int32_t vocabulary);

}  // namespace sluice
