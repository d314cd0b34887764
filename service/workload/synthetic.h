// Workloads made from published statistics, for plan, simulate and bench where no trace is at hand.
// A pure function of the options: the same on every run, compiler and machine.
//
//   sharegpt     chat; new tokens 50 % < 20, 90 % < 133; cached 50 % > 3.2k, 10 % > 30k; kappa
//                (cached / new) median 100, 20 % above 1,000                    arXiv 2601.19910
//   narrativeqa  questions on books: 12 new on 57k cached (15k-190k), kappa median 5,000 (quartiles
//                2,400 and 11,000)                                              arXiv 2601.19910
//   finqa        questions on filings: 23 new on 167k cached (60k-450k), kappa median 10,000
//                                                                               arXiv 2601.19910
//   agentic      coding agents: lengths, turns and growth of callanjfox/kv-cache-tester
//   kappa-mix    35 % questions on documents, 40 % chat, 25 % prompts that share nothing
//   uniform      every request the same: `cached` tokens of a shared document, then `fresh` ones
//
// Cached tokens are tokens of earlier prompts of the same workload: a session's first request is
// cold, and so is a document's. Answers are not quoted in later prompts of sharegpt: whoever sends
// requests ahead of the answers (open loop) cannot know what the server will say, so the quote
// would be new text and the published ratios would be lost. Agents do quote them, as new text; the
// trace that their statistics come from counts it so.
#pragma once

#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "service/workload/trace_request.h"

namespace sluice {

struct SyntheticOptions {
  std::string name;  // one of SyntheticNames()
  int64_t requests = 1000;
  uint64_t seed = 1;
  // Requests per second: Poisson arrivals. Not set: all at once.
  std::optional<double> rate = std::nullopt;

  // Tenants 0 .. tenants - 1; every session belongs to one. `tenant_skew` is the exponent of a Zipf
  // law: 0 gives equal shares; with 1, tenant i has 1 / (i + 1) of tenant 0's sessions.
  int32_t tenants = 1;
  double tenant_skew = 0;

  // Divides all lengths (rounding down, at least 1), for models smaller than the paper's.
  int64_t scale = 1;
  // Leaves out requests with longer prompts, after scaling. `requests` counts those that stay.
  Tokens max_input{std::numeric_limits<int64_t>::max()};

  // Lengths for `uniform`; `cached` tokens of a document that all requests share.
  Tokens cached{0};
  Tokens fresh{1024};
  Tokens output{128};
};

// The names in the order above.
std::vector<std::string> SyntheticNames();
bool IsSyntheticName(std::string_view name);

// Sorted by arrival. Returns INVALID_ARGUMENT naming option, value and limits; also if max_input
// leaves out nearly everything.
absl::StatusOr<std::vector<TraceRequest>> MakeSynthetic(const SyntheticOptions& options);

}  // namespace sluice
