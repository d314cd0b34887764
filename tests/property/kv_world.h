// KvWorld drives a KvCache with a random schedule and checks what it decides against an oracle that
// models the CONTENT of the blocks of all three tiers.
//
// Every block holds a value: a hash of the salt and all tokens up to its end (what right KV would
// stand for), or kGarbage. Sequences write blocks, copies move them, late and out of order; some
// fail, some are revoked, in time or too late. A sequence may only read blocks that hold its own
// prefix: on the device, arriving by a load that it lists, or in place on the host. That catches
// wrong sharing, reuse under a copy or a reader, use of failed or revoked loads, gaps shown too
// early, without knowing how the cache works.
//
// After every call: KvCache::CheckInvariants(), the promises of the epochs, and that replaying the
// KvEvents gives exactly the blocks that are there.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "scheduler/base/hash.h"
#include "scheduler/kv/kv_cache.h"

namespace sluice::testing {

struct KvWorldOptions {
  KvCacheOptions cache;
  BlockHashFunction block_hash = &BlockHash;
  int actions = 100;
  int vocabulary = 3;
  int families = 3;
  int max_blocks = 8;  // of a prompt
  int salts = 1;
  double copy_failures = 0;
  double claims = 1;  // probability that an admission claims what it computes
};

// Options drawn from a seed: tiny pools, with and without each tier, all features mixed.
KvWorldOptions RandomKvWorldOptions(uint64_t seed);

class KvWorld {
 public:
  // How often the interesting things happened.
  struct Coverage {
    int64_t gaps = 0;
    int64_t in_place = 0;
    int64_t from_disk = 0;
    int64_t joins = 0;
    int64_t pending = 0;
    int64_t shared_claims = 0;
    int64_t late_revocations = 0;  // revoked loads that arrived nevertheless
    int64_t victims = 0;
    int64_t refusals_rechecked = 0;
    int64_t adopted = 0;
    int64_t not_adopted = 0;
    int64_t partial = 0;  // copies of which some blocks failed
    int64_t removed_events = 0;
    int64_t pins = 0;            // blocks
    int64_t pinned_loads = 0;    // of these, blocks that were still arriving
    int64_t pins_lost = 0;       // calls that cost pins: the copy was bad
    int64_t evicted = 0;         // blocks, on request
    int64_t evictions_kept = 0;  // blocks in use or pinned
    int64_t shared_fronts = 0;
    int64_t stored_ahead = 0;
    int64_t found = 0;  // blocks, in a store shared with others
  };

  KvWorld(const KvWorldOptions& options, uint64_t seed);

  // As after a restart: `share` of the blocks that the other world has on its disk are on the disk
  // of this one, which adopts them, along with some that make no sense. REQUIRES: both have the
  // same options; this one has not run.
  void AdoptFrom(const KvWorld& before, double share);

  // Runs the schedule and drains. Returns an empty string, or the first thing that went wrong.
  std::string Run();

  const KvCache& cache() const { return cache_; }
  const Coverage& coverage() const { return coverage_; }
  uint64_t trace() const { return trace_; }  // a digest of all decisions

 private:
  struct Prompt {
    uint64_t salt = 0;
    std::vector<TokenId> tokens;  // whole blocks
    std::vector<Hash128> hashes;
    std::vector<uint64_t> content;                   // right KV per block
    mutable std::vector<PrefixIndex::Ticket> known;  // of earlier matches
    TokenPath path() const { return {tokens, hashes, salt, &known}; }
    size_t blocks() const { return hashes.size(); }
  };
  struct Sequence {
    Prompt prompt;
    KvLease lease;
    size_t used = 0;
    size_t next = 0;  // block to compute next, in the gap or behind
    // Blocks computed from what a load was still to bring: worth nothing if it fails.
    std::vector<std::pair<CopyId, BlockId>> tentative;
    bool done() const { return next == prompt.blocks(); }
  };
  struct CopyUnderWay {
    Copy copy;
    std::vector<uint64_t> sources;  // content when it started
    bool revoked = false;
  };
  // A request that did not fit, and a match: neither may improve before an epoch changes.
  struct Refusal {
    Prompt prompt;
    Blocks total;
    KvUse use;
    int64_t room_epoch = 0;
    int64_t content_epoch = 0;
    size_t matched = 0;
    Blocks usable;
    Blocks pending;
  };

  // A block as its stored event told it.
  struct Told {
    std::optional<uint64_t> parent;
    uint64_t salt = 0;
    std::vector<TokenId> tokens;
    friend bool operator==(const Told&, const Told&) = default;
  };

  void Act();
  void Admit();
  void Compute(bool joined);
  void ComputeBlock(Sequence* s);
  void PublishSome(Sequence* s);
  void End();
  void Stage();
  void Prefetch();
  void MakeRoom();
  void Pin();
  void EndPins();
  void StoreAhead();
  void Found();
  void Evict();
  void CheckEviction(const KvEviction& done, const KvEvictionOptions& options,
                     const std::array<Blocks, 3>& cached_before);
  void Take();
  void FinishCopy(size_t which, bool may_fail);
  void LoseLoad(const KvCache::CopyEnd& end, CopyId load);
  void Drain();

  void StartCopy(const Copy& copy);
  // Whether the names that go with a copy are those of its blocks.
  void CheckIdentities(const Copy& copy, const std::vector<uint64_t>& sources);
  // Of a copy from or to the disk that fails, perhaps only some blocks fail. Returns which; empty:
  // all.
  std::vector<int32_t> ArriveInPart(const CopyUnderWay& c);
  uint64_t ContentOf(NodeId id) const;
  void CheckMatch(const Prompt& prompt, size_t limit);
  void CheckAdmission(const Sequence& s, const KvAdmission& admission, const KvUse& use,
                      Blocks room_taken, Blocks need);
  // Whether block `i` of the sequence holds, or is about to hold, its KV.
  bool Readable(const Sequence& s, size_t i) const;
  bool Writable(BlockId block) const;
  void AfterCall();
  void CheckRefusal();
  void CheckEvents();
  // Pins end only where `pins_may_end_`.
  void CheckPins();
  void CheckDrained();

  Prompt RandomPrompt();
  // One seen before that has such blocks now, if any; else a random one.
  Prompt PromptWith(Blocks KvMatch::*blocks);
  // One with all blocks computed, or one without; null if there is none.
  Sequence* RandomSequence(bool done);
  void Forget(Sequence* s, bool revoke);
  std::vector<uint64_t>* SourcePool(LinkDirection direction);
  std::vector<uint64_t>* TargetPool(LinkDirection direction);
  bool Chance(double p) { return std::uniform_real_distribution<double>(0, 1)(rng_) < p; }
  int64_t Pick(int64_t low, int64_t high) {
    return std::uniform_int_distribution<int64_t>(low, high)(rng_);
  }
  void Fail(const std::string& what);
  void Note(int64_t value);

  const KvWorldOptions options_;
  const size_t width_;
  std::mt19937_64 rng_;
  KvCache cache_;
  KvMatch match_;
  std::vector<uint64_t> device_;
  std::vector<uint64_t> host_;
  std::vector<uint64_t> disk_;
  std::vector<std::unique_ptr<Sequence>> live_;
  std::vector<Prompt> history_;
  std::vector<CopyUnderWay> copies_;
  std::optional<Refusal> refusal_;
  std::map<uint64_t, Told> told_;  // by block: what its reader knows who hears all events
  absl::Time now_ = absl::UnixEpoch();
  std::array<Blocks, 2> pins_;  // of device and host, after the last call
  bool pins_may_end_ = false;
  int64_t next_request_ = 0;
  std::string failure_;
  uint64_t trace_ = 0;
  Coverage coverage_;
};

}  // namespace sluice::testing
