// "Did you mean": the known word nearest to a mistyped one.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace sluice {

// Fewest single-character insertions, deletions, substitutions and swaps of neighbours that turn
// `a` into `b` (optimal string alignment distance). O(|a| * |b|) time.
int EditDistance(std::string_view a, std::string_view b);

// The candidate nearest to `word`, the first of several; nothing if all are so far off (more than a
// third of the longer word) that the guess would only confuse. A candidate that `word` begins with,
// or that begins with `word` (at least 4 characters), counts as near.
std::optional<std::string> Suggest(std::string_view word,
                                   const std::vector<std::string>& candidates);

// "; did you mean --port?" or nothing. `prefix` goes before the suggestion ("--").
std::string DidYouMean(std::string_view word, const std::vector<std::string>& candidates,
                       std::string_view prefix);

}  // namespace sluice
