// DiskStore::Scan(): the records of a namespace, and which of them belong together.
#include <algorithm>
#include <utility>
#include <vector>

#include "backend/kv/disk_store.h"
#include "scheduler/base/status_macros.h"

namespace sluice {
namespace {

constexpr size_t kNone = static_cast<size_t>(-1);

struct Found {
  BlockId slot;
  int64_t generation = 0;
  BlockIdentity identity;
  Hash128 path;
  size_t tokens = 0;  // where they are in `tokens`
};

struct Finds {
  std::vector<Found> records;
  std::vector<TokenId> tokens;
  std::vector<BlockId> broken;
};

// Which of the records lead to the first block of a prompt, each digest following from the one
// before. The newest of each hash counts.
class Chains {
 public:
  Chains(const Finds& finds, const PathKey& key, size_t width)
      : finds_(finds), key_(key), width_(width), state_(finds.records.size(), kUnknown) {
    newest_.reserve(finds.records.size());
    for (size_t i = 0; i < finds.records.size(); ++i) newest_[finds.records[i].identity.hash] = i;
  }

  bool Whole(size_t i) {
    std::vector<size_t> path;
    State state = kWhole;
    for (size_t at = i; at != kNone;) {
      if (state_[at] != kUnknown) {
        state = state_[at] == kWhole ? kWhole : kOrphan;
        break;
      }
      state_[at] = kOnPath;
      path.push_back(at);
      const size_t parent = Parent(at);
      if (!Follows(at, parent)) {
        state = kOrphan;
        break;
      }
      at = parent;
    }
    for (const size_t at : path) state_[at] = state;
    return state == kWhole;
  }

 private:
  enum State : uint8_t { kUnknown, kOnPath, kWhole, kOrphan };

  size_t Parent(size_t i) const {
    const BlockIdentity& identity = finds_.records[i].identity;
    const auto it = identity.first ? newest_.end() : newest_.find(identity.parent);
    return it == newest_.end() ? kNone : it->second;
  }

  bool Follows(size_t i, size_t parent) const {
    const Found& record = finds_.records[i];
    const bool newest = newest_.find(record.identity.hash)->second == i;
    if (!newest || record.path == Hash128() || (parent == kNone) != record.identity.first) {
      return false;
    }
    const Hash128 before = parent == kNone ? Hash128() : finds_.records[parent].path;
    const auto tokens = std::span(finds_.tokens).subspan(record.tokens, width_);
    return PathDigest(key_, before, record.identity.salt, tokens) == record.path;
  }

  const Finds& finds_;
  const PathKey& key_;
  const size_t width_;
  absl::flat_hash_map<Hash128, size_t, Hash128Hasher> newest_;  // never iterated
  std::vector<State> state_;
};

absl::StatusOr<Finds> ReadAll(const DiskTable& table) {
  Finds finds;
  SLUICE_RETURN_IF_ERROR(table.ForEach([&](BlockId slot, absl::StatusOr<DiskRecord> record) {
    if (!record.ok()) {
      finds.broken.push_back(slot);
      return;
    }
    const BlockRecord& block = record->block;
    finds.records.push_back(
        {slot, record->generation, block.identity, record->path, finds.tokens.size()});
    finds.tokens.insert(finds.tokens.end(), block.tokens.begin(), block.tokens.end());
  }));
  std::sort(finds.records.begin(), finds.records.end(),
            [](const Found& a, const Found& b) { return a.generation < b.generation; });
  return finds;
}

}  // namespace

absl::StatusOr<StoreContent> DiskStore::Scan() {
  SLUICE_ASSIGN_OR_RETURN(Finds finds, ReadAll(*table_));
  const size_t width = shape_.tokens_per_block.size();
  Chains chains(finds, table_->key(), width);
  StoreContent content;
  content.broken = static_cast<int64_t>(finds.broken.size());
  std::vector<BlockId> unusable = finds.broken;
  {
    std::lock_guard<std::mutex> lock(mu_);
    std::fill(slots_.begin(), slots_.end(), Slot());
    by_hash_.clear();
    by_hash_.reserve(finds.records.size());
    for (size_t i = 0; i < finds.records.size(); ++i) {
      const Found& found = finds.records[i];
      generation_ = std::max(generation_, found.generation);
      if (!chains.Whole(i)) {
        ++content.orphans;
        unusable.push_back(found.slot);
        continue;
      }
      slots_[found.slot.index()] = {found.generation, found.identity.hash, found.path};
      by_hash_[found.identity.hash] = found.slot;
      StoredBlock block{found.slot, found.identity, {}};
      block.tokens = std::span(finds.tokens).subspan(found.tokens, width);
      content.blocks.push_back(block);
    }
    scanned_ = true;
  }
  for (const BlockId slot : unusable) SLUICE_RETURN_IF_ERROR(table_->Clear(slot));
  content.tokens = std::move(finds.tokens);  // keeps its memory, which `blocks` views
  return content;
}

}  // namespace sluice
