// KvEventLog numbers what an engine tells about its KV blocks, and keeps the latest of it for any
// number of readers, none of whom is ever waited for.
//
//   engine thread --Publish--> [.. n-2][n-1][n] <--Read(after)-- readers, each at its own pace
//
// A reader that knows nothing starts with a KvSnapshot (EngineLoop::AskForKvBlocks). It comes in
// several batches with numbers of their own, which the log skips with empty batches; who was cut
// off in the middle of one cannot resume there.
//
// Blocks under a cache salt are left out: readers route by tokens alone, and have no business with
// what somebody keeps apart.
//
// Thread-safe.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "scheduler/base/units.h"
#include "scheduler/kv/kv_events.h"

namespace sluice {

struct KvEventBatch {
  uint64_t sequence = 0;  // from 1, without gaps
  absl::Time time;
  KvEvents events;           // empty: this number belongs to a batch of a snapshot
  bool in_snapshot = false;  // not its first one: whoever has read up to the one before cannot go
                             // on here
};

// All blocks at one instant, and the numbers of the batches they are to be sent in.
struct KvSnapshot {
  KvEvents blocks;  // kStored, in any order
  absl::Time time;
  uint64_t first_sequence = 0;  // live batches follow
  uint64_t batches = 0;         // 0: there are no blocks

  uint64_t last_sequence() const { return first_sequence + batches - 1; }
};

class KvEventLog {
 public:
  using Batches = std::vector<std::shared_ptr<const KvEventBatch>>;

  // Keeps the last `capacity` events, and the last batch in any case. REQUIRES: capacity > 0.
  KvEventLog(int64_t capacity, Tokens tokens_per_block);

  // Events per batch: about 1 MiB on the wire, a quarter of what gRPC clients take by default.
  size_t batch_limit() const { return batch_limit_; }

  // ---- Engine thread ----

  // Cuts `events` into batches. Nothing happens if there are none without a salt. Returns how many
  // events were published.
  size_t Publish(KvEvents events, absl::Time now);

  // `blocks` are all there are, with everything published that led to them.
  KvSnapshot MakeSnapshot(KvEvents blocks, absl::Time now);

  // ---- Any thread ----

  // Whether who has read all up to number `after` can go on with Read(after). Returns OUT_OF_RANGE
  // if not: it must start again with a snapshot.
  absl::Status CheckResume(uint64_t after) const;

  // At most `most` batches behind number `after`; none if there are none yet.
  // Returns DATA_LOSS if the next one has been dropped already.
  absl::StatusOr<Batches> Read(uint64_t after, size_t most) const;

  // The engine thread calls `on_published` after every batch, under a lock: it must neither block
  // nor call this. Until Forget(), which waits for a call under way.
  int64_t Listen(std::function<void()> on_published);
  void Forget(int64_t listener);

 private:
  void AppendLocked(KvEventBatch batch);
  void NotifyLocked();

  const int64_t capacity_;
  const Tokens tokens_per_block_;
  const size_t batch_limit_;

  mutable std::mutex mu_;
  std::deque<std::shared_ptr<const KvEventBatch>> batches_;  // guarded by mu_; oldest first
  int64_t events_ = 0;                                       // guarded by mu_; in batches_
  uint64_t last_ = 0;                                        // guarded by mu_; number
  int64_t next_listener_ = 0;                                // guarded by mu_
  std::vector<std::pair<int64_t, std::function<void()>>> listeners_;  // guarded by mu_
};

}  // namespace sluice
