#include "service/grpc/kv_event_messages.h"

#include <algorithm>
#include <numeric>

#include "absl/container/flat_hash_map.h"

namespace sluice {
namespace {

namespace pb = smg::grpc::common;

// The wire has signed names; the bits are the same.
int64_t WireHash(uint64_t block) { return static_cast<int64_t>(block); }

class Builder {
 public:
  explicit Builder(pb::KvEventBatch* batch) : batch_(*batch) {}

  void Add(const KvEvents& events, size_t i) {
    if (events[i].kind == KvEvent::Kind::kStored) {
      AddStored(events, i);
    } else {
      AddRemoved(events[i]);
    }
  }

  pb::KvCacheEvent* NewEvent() {
    pb::KvCacheEvent* event = batch_.add_events();
    event->set_event_id(static_cast<uint64_t>(batch_.events_size()));
    stored_ = nullptr;
    removed_ = nullptr;
    return event;
  }

 private:
  void AddStored(const KvEvents& events, size_t i) {
    const KvEvent& event = events[i];
    if (stored_ == nullptr || event.parent != last_) {
      stored_ = NewEvent()->mutable_stored();
      if (event.parent.has_value()) stored_->set_parent_block_hash(WireHash(*event.parent));
    }
    last_ = event.block;
    pb::KvBlock* block = stored_->add_blocks();
    block->set_block_hash(WireHash(event.block));
    const std::span<const TokenId> tokens = events.tokens(i);
    block->mutable_token_ids()->Reserve(static_cast<int>(tokens.size()));
    for (const TokenId token : tokens) block->add_token_ids(static_cast<uint32_t>(token));
    block->set_block_size(static_cast<int32_t>(tokens.size()));
  }

  void AddRemoved(const KvEvent& event) {
    if (removed_ == nullptr) removed_ = NewEvent()->mutable_removed();
    removed_->add_block_hashes(WireHash(event.block));
  }

  pb::KvEventBatch& batch_;
  pb::KvBlocksStored* stored_ = nullptr;  // the last event, if it is one; its last block is last_
  pb::KvBlocksRemoved* removed_ = nullptr;
  std::optional<uint64_t> last_;
};

pb::KvEventBatch NewBatch(uint64_t sequence, absl::Time time) {
  pb::KvEventBatch batch;
  batch.set_sequence_number(sequence);
  batch.set_timestamp(absl::ToDoubleSeconds(time - absl::UnixEpoch()));
  return batch;
}

}  // namespace

pb::KvEventBatch MakeKvEventBatch(const KvEvents& events, std::span<const size_t> which,
                                  uint64_t sequence, absl::Time time) {
  pb::KvEventBatch batch = NewBatch(sequence, time);
  Builder builder(&batch);
  for (const size_t i : which) builder.Add(events, i);
  return batch;
}

pb::KvEventBatch MakeKvEventBatch(const KvEventBatch& batch) {
  std::vector<size_t> all(batch.events.size());
  std::iota(all.begin(), all.end(), size_t{0});
  return MakeKvEventBatch(batch.events, all, batch.sequence, batch.time);
}

std::vector<size_t> ParentsFirst(const KvEvents& blocks) {
  constexpr size_t kNone = static_cast<size_t>(-1);
  absl::flat_hash_map<uint64_t, size_t> at;
  at.reserve(blocks.size());
  for (size_t i = 0; i < blocks.size(); ++i) at.try_emplace(blocks[i].block, i);
  // Children as linked lists: the first of each block, and the next with the same parent.
  std::vector<size_t> child(blocks.size(), kNone);
  std::vector<size_t> sibling(blocks.size(), kNone);
  std::vector<size_t> open;  // roots at first
  for (size_t i = blocks.size(); i-- > 0;) {
    const auto parent = blocks[i].parent.has_value() ? at.find(*blocks[i].parent) : at.end();
    if (parent == at.end()) {
      open.push_back(i);
      continue;
    }
    sibling[i] = child[parent->second];
    child[parent->second] = i;
  }
  std::vector<size_t> order;
  order.reserve(blocks.size());
  while (!open.empty()) {
    const size_t i = open.back();
    open.pop_back();
    order.push_back(i);
    for (size_t c = child[i]; c != kNone; c = sibling[c]) open.push_back(c);
  }
  return order;
}

pb::KvEventBatch MakeSnapshotBatch(const KvSnapshot& snapshot, std::span<const size_t> order,
                                   uint64_t i, size_t limit) {
  pb::KvEventBatch batch = NewBatch(snapshot.first_sequence + i, snapshot.time);
  Builder builder(&batch);
  if (i == 0) builder.NewEvent()->mutable_cleared();
  const size_t begin = i * limit;
  const size_t end = std::min(order.size(), begin + limit);
  for (const size_t block : order.subspan(begin, end - begin)) builder.Add(snapshot.blocks, block);
  return batch;
}

}  // namespace sluice
