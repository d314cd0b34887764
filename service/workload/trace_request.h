// One request of a workload, from a trace or made up: when it comes, how long it is, what its
// prompt shares with others. The simulator, `sluice bench` and `sluice plan` all read these.
#pragma once

#include <cstdint>
#include <string>

#include "absl/time/time.h"
#include "scheduler/base/units.h"
#include "service/workload/prompt_shape.h"

namespace sluice {

struct TraceRequest {
  absl::Duration arrival;  // since the start of the workload; requests are sorted by it
  PromptShape prompt;      // at least one token
  // Tokens the model generates, at least one. Known to whoever plays the model's part only, never
  // to a scheduler: a client states a bound (MaxNewFor).
  Tokens output{1};
  // The bound on new tokens that the client states; 0: MaxNewFor(output).
  Tokens stated{0};

  int32_t tenant = 0;    // see TenantName()
  int32_t priority = 0;  // higher runs first
  int64_t session = -1;  // requests of one conversation, in order of `turn`; -1: not known
  int32_t turn = 0;

  // How finely the source knows what is shared: prefixes are equal in whole blocks of this many
  // tokens. 0: the source says nothing about sharing (and the prompt shares nothing).
  Tokens block_tokens{1};
  // The source names the last, partial block too, so that it counts as shared when all of the
  // prompt was seen before. Block form of the trace format only.
  bool names_partial_block = false;

  Tokens input() const { return prompt.length(); }
  Tokens max_new() const;

  friend bool operator==(const TraceRequest&, const TraceRequest&) = default;
};

// The bound on new tokens that a client would state for a request that ends after `output` tokens.
// Clients do not know the length of an answer; they set a round limit that is rarely reached. Here:
// the next power of two that is not less, at least 64. So the bound is 1 to 2 times the length for
// long answers, and says nothing about short ones. A scheduler that reserves memory for the bound,
// or sorts by it, thus gets no more than it would from real clients.
Tokens MaxNewFor(Tokens output);

// "" (the server's default tenant) for 0, else "tenant-<n>".
std::string TenantName(int32_t tenant);

}  // namespace sluice
