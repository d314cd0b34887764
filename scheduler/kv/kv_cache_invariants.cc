// KvCache::CheckInvariants(): recounts everything from the leases, nodes and copies.
#include "absl/strings/str_cat.h"
#include "scheduler/kv/kv_cache.h"

namespace sluice {

absl::Status KvCache::CheckInvariants(std::span<const KvLease* const> leases) const {
  for (const absl::Status& status :
       {device_.CheckInvariants(), host_.CheckInvariants(), index_.CheckInvariants(),
        CheckLeases(leases), CheckNodes(), CheckCopies()}) {
    if (!status.ok()) return status;
  }
  return absl::OkStatus();
}

absl::Status KvCache::CheckLeases(std::span<const KvLease* const> leases) const {
  std::vector<int32_t> references(device_.capacity().size(), 0);
  std::vector<int32_t> pins(static_cast<size_t>(index_.end()), 0);
  Blocks reserved;
  for (const KvLease* lease : leases) {
    reserved += lease->reserved;
    for (const BlockId block : lease->blocks) ++references[block.index()];
    if (lease->tip.valid()) ++pins[lease->tip.index()];
    if (lease->published.size() > lease->blocks.size()) {
      return absl::InternalError("kv cache: a lease published blocks it does not have");
    }
  }
  if (reserved != reserved_) {
    return absl::InternalError(absl::StrCat("kv cache: leases reserve ", reserved.value(),
                                            " blocks, counted ", reserved_.value()));
  }
  if (Available() < Blocks(0)) {
    return absl::InternalError(absl::StrCat("kv cache: ", reserved_.value(), " blocks reserved, ",
                                            (device_.free() + device_.cached()).value(),
                                            " free or cached"));
  }
  for (size_t i = 0; i < references.size(); ++i) {
    const BlockId block(static_cast<int32_t>(i));
    if (device_.references(block) != references[i]) {
      return absl::InternalError(absl::StrCat("kv cache: device block ", i, " has ", references[i],
                                              " users, counted ", device_.references(block)));
    }
  }
  for (size_t i = 0; i < pins.size(); ++i) {
    const NodeId id(static_cast<int32_t>(i));
    if (index_.live(id) && index_.pins(id) != pins[i]) {
      return absl::InternalError(
          absl::StrCat("kv cache: node ", i, " has ", pins[i], " pins, counted ", index_.pins(id)));
    }
  }
  return absl::OkStatus();
}

absl::Status KvCache::CheckNodes() const {
  Blocks owned_device;
  Blocks owned_host;
  for (int32_t i = 0; i < index_.end(); ++i) {
    const NodeId id(i);
    if (!index_.live(id)) continue;
    const PrefixIndex::Node& node = index_.node(id);
    if (node.device.valid()) owned_device += Blocks(1);
    if (node.host.valid()) owned_host += Blocks(1);
    if ((node.device.valid() && device_.owner(node.device) != id) ||
        (node.host.valid() && host_.owner(node.host) != id)) {
      return absl::InternalError(absl::StrCat("kv cache: node ", i, " does not own its block"));
    }
    if ((node.load.valid() && !copies_.contains(node.load)) ||
        (node.store.valid() && !copies_.contains(node.store))) {
      return absl::InternalError(absl::StrCat("kv cache: node ", i, " waits for no copy"));
    }
  }
  const auto owned = [](const BlockPool& pool) {
    Blocks n;
    for (size_t i = 0; i < pool.capacity().size(); ++i) {
      if (pool.owner(BlockId(static_cast<int32_t>(i))).valid()) n += Blocks(1);
    }
    return n;
  };
  if (owned(device_) != owned_device || owned(host_) != owned_host) {
    return absl::InternalError("kv cache: a block belongs to a node that does not know it");
  }
  if (host_.referenced() != Blocks(0)) {
    return absl::InternalError("kv cache: a host block is referenced");
  }
  return absl::OkStatus();
}

absl::Status KvCache::CheckCopies() const {
  std::vector<int32_t> device(device_.capacity().size(), 0);
  std::vector<int32_t> host(host_.capacity().size(), 0);
  Blocks storing;
  for (const auto& [id, record] : copies_) {
    const bool load = record.direction == LinkDirection::kHostToDevice;
    for (size_t i = 0; i < record.nodes.size(); ++i) {
      const PrefixIndex::Node& node = index_.node(record.nodes[i]);
      const auto [source, target] = record.blocks[i];
      const BlockId on_device = load ? target : source;
      const BlockId on_host = load ? source : target;
      ++device[on_device.index()];
      ++host[on_host.index()];
      if (!load) storing += Blocks(1);
      if (node.device != on_device || node.host != on_host ||
          (load ? node.load : node.store) != id) {
        return absl::InternalError(
            absl::StrCat("kv cache: copy ", id.value(), " and its nodes disagree"));
      }
    }
  }
  if (storing != storing_) return absl::InternalError("kv cache: stores under way miscounted");
  for (size_t i = 0; i < device.size(); ++i) {
    if (device_.transits(BlockId(static_cast<int32_t>(i))) != device[i]) {
      return absl::InternalError(absl::StrCat("kv cache: device block ", i, ": transit count"));
    }
  }
  for (size_t i = 0; i < host.size(); ++i) {
    if (host_.transits(BlockId(static_cast<int32_t>(i))) != host[i]) {
      return absl::InternalError(absl::StrCat("kv cache: host block ", i, ": transit count"));
    }
  }
  return absl::OkStatus();
}

}  // namespace sluice
