// KV events as messages of smg.grpc.common.
//
// Pure.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "absl/time/time.h"
#include "service/engine/kv_event_log.h"
#include "smg/grpc/common/common.pb.h"

namespace sluice {

// One batch with the events of `which`, in that order. Neighbours that follow each other in one
// prompt become one KvBlocksStored; removals in a row one KvBlocksRemoved.
smg::grpc::common::KvEventBatch MakeKvEventBatch(const KvEvents& events,
                                                 std::span<const size_t> which, uint64_t sequence,
                                                 absl::Time time);
smg::grpc::common::KvEventBatch MakeKvEventBatch(const KvEventBatch& batch);

// Positions of all `blocks` (kStored), each behind its parent, if that is among them; chains in one
// piece. O(n).
std::vector<size_t> ParentsFirst(const KvEvents& blocks);

// Batch `i` of a snapshot, `limit` blocks each but for the last; `order` as from ParentsFirst().
// The first one begins by clearing what the reader may know. REQUIRES: i < snapshot.batches.
smg::grpc::common::KvEventBatch MakeSnapshotBatch(const KvSnapshot& snapshot,
                                                  std::span<const size_t> order, uint64_t i,
                                                  size_t limit);

}  // namespace sluice
