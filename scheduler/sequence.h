// Sequence: a live request inside the scheduler. Engine thread only; not part of the interface.
//
//            ┌──────── preempted, revoked, or a load failed ─────┐
//            v                                                    │
//   Submit > kWaiting ── admitted ──> kRunning ── last token, error, cancelled ──> kEnded
//            └──────────── cancelled, deadline passed ──────────────────────────>
//
// A running sequence has a lease (its device blocks). It is "loading" while the lease lists copies
// under way. Under a split plan it computes a gap [computed, gap_end) first, while what follows,
// [gap_end, resume_at), is loaded, and goes on at resume_at. While steps under way compute it, it
// is `in_flight`: if it ends then, it stays, kEnded, with its blocks until CommitStep() of the last
// of them, because the steps read and write its memory.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/time/time.h"
#include "scheduler/base/hash.h"
#include "scheduler/base/units.h"
#include "scheduler/kv/kv_cache.h"
#include "scheduler/policy/policy.h"
#include "scheduler/request.h"
#include "scheduler/stats.h"

namespace sluice {

struct Sequence {
  enum class State : uint8_t { kWaiting, kRunning, kEnded };

  RequestSpec spec;                              // `prompt` has moved to `tokens`
  std::vector<TokenId> tokens;                   // prompt, then output; does not reallocate
  std::vector<Hash128> hashes;                   // of the leading full blocks, as far as needed yet
  std::vector<PrefixIndex::Ticket> known_nodes;  // TokenPath::known
  int64_t arrival = 0;                           // rank; unique
  State state = State::kWaiting;
  bool resumed = false;
  int32_t tenant = 0;
  // KvCache::content_epoch() when its WaitingView was made, and when look-ahead last tried.
  int64_t looked_at = -1;
  int64_t staged_at = -1;
  bool staging = false;  // the last staging for it found something to do
  int64_t prefetched_at = -1;
  Seconds overdue_at = kNever;  // the policy's promise

  KvLease lease;
  Tokens computed;           // KV of tokens [0, computed) is in the lease, or being loaded
  Tokens gap_end;            // > computed only while a gap is computed
  Tokens resume_at;          // where it goes on after the gap
  Tokens in_place;           // of `computed`, attended to in host memory
  Tokens ever_computed;      // the most `computed` has been, to tell recomputation
  int in_flight = 0;         // steps under way that compute it; 2: one was planned ahead
  int32_t row = 0;           // its place in the newest of them
  bool load_failed = false;  // in flight when a load failed: to be planned anew at commit
  bool joinable = true;      // false: joined its loads once in vain

  CopyId own_load;  // the load made for it, until its end is known
  Bytes own_load_bytes;
  absl::Time own_load_issued;
  absl::Time holds_since;  // when its present lease was taken

  RequestStats stats;

  Tokens known() const { return Tokens(static_cast<int64_t>(tokens.size())); }
  Tokens max_length() const { return stats.prompt + spec.max_new; }
  TokenPath path() { return {tokens, hashes, spec.cache_salt, &known_nodes}; }
  bool in_gap() const { return gap_end > computed; }
  // Tokens that can be computed next, one after the other.
  Tokens next_span() const { return (in_gap() ? gap_end : known()) - computed; }
};

}  // namespace sluice
