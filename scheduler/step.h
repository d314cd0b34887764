// The plain data that crosses the scheduler/backend boundary.
//
//   Scheduler --StepPlan--> Backend --StepResult--> Scheduler
//             ---Copy-----> Backend --CopyResult-->
//
// With scheduler/base and scheduler/request.h, this is the only scheduler header backend/ may
// include.
//
// Lifetime: the spans and the sampling pointer of a SequenceWork view memory of the scheduler. They
// stay valid and unchanged until CommitStep() of the same step; a backend keeps none of them.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "scheduler/base/hash.h"
#include "scheduler/base/units.h"
#include "scheduler/request.h"

namespace sluice {

enum class Tier : uint8_t { kDevice, kHost, kDisk, kRemote };
inline constexpr int kTierCount = 4;

// One direction of the path between two tiers: a link of its own, with its own queue.
enum class LinkDirection : uint8_t { kHostToDevice, kDeviceToHost, kDiskToHost, kHostToDisk };
inline constexpr int kLinkDirectionCount = 4;

// Order in which a link serves what is queued, first to last.
//   control     small copies that a step waits for (tables, ids); made by backends only
//   demand      loads that an admitted request waits for
//   prefetch    moves towards the device made ahead of need
//   write-back  stores
enum class CopyClass : uint8_t { kControl, kDemand, kPrefetch, kWriteBack };
inline constexpr int kCopyClassCount = 4;

// Names a block of KV for longer than a process lives. Two blocks of one name may still differ, if
// somebody made their tokens collide: whoever keeps blocks keeps their tokens, too.
struct BlockIdentity {
  Hash128 hash;        // chained: its own tokens and all before them
  Hash128 parent;      // of the block before; zero if `first`
  uint64_t salt = 0;   // of the tenant
  bool first = false;  // of a prompt
  friend bool operator==(const BlockIdentity&, const BlockIdentity&) = default;
};

// A block that the disk tier has kept over a restart.
struct StoredBlock {
  BlockId slot;  // in the disk pool
  BlockIdentity identity;
  std::span<const TokenId> tokens;  // the block's own
};

// Whole blocks to copy between two pools. Runs beside the steps. A load (host to device) makes
// progress layer by layer over all its blocks, so that a step can start on layer 0 before layer 1
// has arrived.
struct Copy {
  struct Pair {
    BlockId source;  // in the pool the direction starts from
    BlockId target;  // in the pool it leads to
  };

  CopyId id;
  LinkDirection direction = LinkDirection::kHostToDevice;
  CopyClass copy_class = CopyClass::kDemand;
  // Within a class, lower ranks are served first; equal ranks first come first served.
  int64_t rank = 0;
  RequestId request;         // who waits for it; invalid for stores
  std::vector<Pair> blocks;  // at least one; no block twice
  // Copies from and to the disk, otherwise empty: who each of `blocks` is; of those to the disk
  // also their tokens, tokens_per_block each.
  std::vector<BlockIdentity> identities = {};
  std::vector<TokenId> tokens = {};
};

// Exactly one per Copy. Not OK: the targets' content is undefined, the sources are untouched.
// CANCELLED: the copy was revoked (StepPlan::revoked) before it was complete.
struct CopyResult {
  CopyId id;
  absl::Status status;
  Bytes bytes;
  absl::Time started;   // first byte moved (after queueing)
  absl::Time finished;  // last byte in place
  // Not OK, and not to the device: positions in Copy::blocks that are not in place; all others are.
  // Empty: no block is.
  std::vector<int32_t> failed = {};
  int32_t corrupt = 0;  // of these, blocks that were there and were not what had been written
};

// One sequence's share of a step: compute KV for tokens [first, first + count), attending to all
// tokens before.
struct SequenceWork {
  RequestId request;
  Tokens first;
  Tokens count;  // > 0; above 1 only while prefilling

  // Tokens of the sequence (prompt, then output); at least first + count of them, but see
  // `previous_row`.
  std::span<const TokenId> tokens;
  // Device blocks in token order; at least enough for first + count tokens. An invalid id: the
  // block is attended to in place, where it lies in host memory (`host_blocks`).
  std::span<const BlockId> blocks;
  // Empty, or one entry per leading block: its host block if `blocks` has none, else invalid. Only
  // blocks of tokens before `first`. Backends that cannot attend in place never get any.
  std::span<const BlockId> host_blocks;
  // Loads that fill some of `blocks` and may still be under way. Layer i of this sequence starts
  // when layer i of all of them has arrived.
  std::span<const CopyId> loads;

  // Whether to draw a token from the logits of the last position, and how.
  bool sample = false;
  const SamplingParams* sampling = nullptr;  // set iff sample
  Tokens prompt;                             // tokens before this are the client's
  int64_t output_index = 0;                  // how many outputs were drawn before this one

  // Not negative (in plans of Scheduler::PlanAhead() only): `count` is 1, and the token at `first`
  // is the one that sequence `previous_row` of the step before draws. Nobody knows it yet: `tokens`
  // ends before it. If that sequence fails, or has ended with that token, whatever this one gives
  // is thrown away.
  int32_t previous_row = -1;
};

struct StepPlan {
  StepId id;
  std::vector<SequenceWork> sequences;
  std::vector<Copy> copies;  // to start before the step runs, in this order
  // Copies of earlier plans nobody needs any more. One that has not ended yet ends soon, with
  // CANCELLED unless its bytes were all in place; others are ignored.
  std::vector<CopyId> revoked;
};

struct TokenLogprob {
  TokenId token = 0;
  float logprob = 0;
};

struct SampledToken {
  TokenId token = 0;
  float logprob = 0;              // natural log, of the distribution before temperature and masks
  std::vector<TokenLogprob> top;  // likeliest first; as many as SamplingParams::logprobs asks
};

struct SequenceResult {
  // Not OK: this sequence's part did not take effect (for instance a load it needs has failed).
  absl::Status status;
  std::optional<SampledToken> sampled;  // set iff the work asked for it and status is OK
  absl::Duration load_stall;  // time the step waited for this sequence's loads, device idle
};

struct StepResult {
  StepId id;
  absl::Status status;  // not OK: no part of the step took effect, `sequences` is empty
  std::vector<SequenceResult> sequences;  // in plan order
  absl::Time started;
  absl::Time finished;
  absl::Duration load_stall;  // part of finished - started in which nothing was computed
};

}  // namespace sluice
