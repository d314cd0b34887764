// What synthetic workloads are made of: the distributions of lengths behind each name. Data for
// synthetic.cc; sources stand at the numbers.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "service/workload/random.h"

namespace sluice {

// Lengths in tokens (or turns): two halves of log-normal distributions that meet in the median, so
// that the 10th, 50th and 90th percentiles are as stated; nothing outside [least, most].
struct Spread {
  double p10 = 1;
  double median = 1;
  double p90 = 1;
  double least = 1;
  double most = 1e9;

  // The value that a share `unit` of all draws is below. REQUIRES: 0 <= unit <= 1.
  int64_t Quantile(double unit) const;
  int64_t Draw(Random& random) const { return Quantile(random.Unit()); }
};

enum class SessionKind : uint8_t {
  kGrows,      // a conversation: each prompt is the one before and new text
  kQuestions,  // each prompt is the same document and a question of its own
};

// One kind of session.
struct Recipe {
  double share = 1;  // of the workload's requests
  SessionKind kind = SessionKind::kGrows;
  // What the first prompt begins with: a document, or the conversation up to here. Cold.
  Spread context;
  // Text at the start of every context that all sessions have in common (system prompt, tools).
  int64_t common_tokens = 0;
  Spread fresh;   // new text of each request, quoted answers not counted
  Spread output;  // generated per request
  Spread turns;   // requests of a session
  // Whether the next prompt quotes the answer, as text that is new to the cache.
  bool quotes_output = false;
  double most_input = 1e9;  // the session ends before a prompt would be longer
  int64_t concurrent = 1;   // sessions open at a time; with the rate, how soon one returns
};

// The recipes of `name`; none: the name is not known.
std::span<const Recipe> FindRecipes(std::string_view name);

// Names that FindRecipes() knows, in order.
std::span<const std::string_view> RecipeNames();

}  // namespace sluice
