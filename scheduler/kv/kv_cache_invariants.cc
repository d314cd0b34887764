// KvCache::CheckInvariants(): recounts everything from the leases, nodes and copies.
#include <algorithm>
#include <array>

#include "absl/strings/str_cat.h"
#include "scheduler/base/status_macros.h"
#include "scheduler/kv/kv_cache.h"

namespace sluice {
namespace {

absl::Status Broken(const absl::AlphaNum& what) {
  return absl::InternalError(absl::StrCat("kv cache: ", what));
}

// Counts per block: what the pool says against what was counted.
absl::Status Compare(const BlockPool& pool, const std::vector<int32_t>& references,
                     const std::vector<int32_t>& transits, const char* tier) {
  for (size_t i = 0; i < references.size(); ++i) {
    const BlockId block(static_cast<int32_t>(i));
    if (pool.references(block) != references[i]) {
      return Broken(absl::StrCat(tier, " block ", i, " has ", references[i], " users, counted ",
                                 pool.references(block)));
    }
    if (pool.transits(block) != transits[i]) {
      return Broken(absl::StrCat(tier, " block ", i, " takes part in ", transits[i],
                                 " copies, counted ", pool.transits(block)));
    }
  }
  return absl::OkStatus();
}

absl::Status CheckShape(const KvLease& lease) {
  const size_t blocks = lease.blocks.size();
  if (lease.published > lease.claimed || lease.claimed.size() != lease.nodes.size()) {
    return Broken("a lease has other nodes than it published and claimed");
  }
  if (lease.published.size() > blocks) return Broken("a lease published blocks it does not have");
  if (lease.gap_begin > lease.gap_published || lease.gap_published > lease.gap_end ||
      (lease.gap_end > Blocks(0) && lease.gap_end >= lease.published)) {
    return Broken("a lease has a gap that is none");
  }
  for (size_t i = 0; i < std::max(blocks, lease.host_blocks.size()); ++i) {
    const bool in_place = i < lease.host_blocks.size() && lease.host_blocks[i].valid();
    if (i >= blocks || lease.blocks[i].valid() == in_place) {
      return Broken("a lease has a block on both tiers or on none");
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status KvCache::CheckInvariants(std::span<const KvLease* const> leases) const {
  for (const absl::Status& status :
       {device_.CheckInvariants(), host_.CheckInvariants(), disk_.CheckInvariants(),
        index_.CheckInvariants(), CheckLeases(leases), CheckNodes(leases), CheckOwners(),
        CheckPins(), CheckCopies(leases), CheckBlocks(leases)}) {
    if (!status.ok()) return status;
  }
  return absl::OkStatus();
}

absl::Status KvCache::CheckLeases(std::span<const KvLease* const> leases) const {
  Blocks reserved;
  for (const KvLease* lease : leases) {
    SLUICE_RETURN_IF_ERROR(CheckShape(*lease));
    reserved += lease->reserved;
  }
  if (reserved != reserved_) {
    return Broken(
        absl::StrCat("leases reserve ", reserved.value(), " blocks, counted ", reserved_.value()));
  }
  if (available() < Blocks(0)) {
    return Broken(absl::StrCat(reserved_.value(), " blocks reserved, ",
                               (device_.free() + device_.cached()).value(), " free or cached"));
  }
  return absl::OkStatus();
}

// Pins, claims, and what a node says about copies.
absl::Status KvCache::CheckNodes(std::span<const KvLease* const> leases) const {
  std::vector<int32_t> pins(static_cast<size_t>(index_.end()), 0);
  std::vector<int32_t> claims(pins.size(), 0);
  for (const KvLease* lease : leases) {
    if (lease->tip.valid()) ++pins[lease->tip.index()];
    for (size_t i = lease->gap_published.size(); i < lease->claimed.size(); ++i) {
      const bool gap = i < lease->gap_end.size();
      if (gap || i >= lease->published.size()) ++claims[lease->nodes[i].index()];
    }
  }
  for (size_t i = 0; i < pins.size(); ++i) {
    const NodeId id(static_cast<int32_t>(i));
    if (!index_.live(id)) {
      if (pins[i] + claims[i] > 0) return Broken(absl::StrCat("node ", i, " is used but gone"));
      continue;
    }
    const PrefixIndex::Node& node = index_.node(id);
    if (index_.pins(id) != pins[i] || node.claims != claims[i]) {
      return Broken(absl::StrCat("node ", i, " has ", pins[i], " pins and ", claims[i],
                                 " claims, counted ", index_.pins(id), " and ", node.claims));
    }
    if (node.load.valid() && !copies_.contains(node.load)) {
      return Broken(absl::StrCat("node ", i, " waits for no copy"));
    }
    if (options_.events && node.told != node.IsHere()) {
      return Broken(absl::StrCat("node ", i, " came or went untold"));
    }
    if ((node.staged || node.stored) && !node.host.valid()) {
      return Broken(absl::StrCat("node ", i, " remembers a host copy it has not"));
    }
  }
  return absl::OkStatus();
}

absl::Status KvCache::CheckOwners() const {
  Blocks on_device;
  Blocks on_host;
  Blocks on_disk;
  const auto owns = [](const BlockPool& pool, BlockId block, NodeId id, Blocks* count) {
    if (!block.valid()) return true;
    *count += Blocks(1);
    return pool.owner(block) == id;
  };
  for (int32_t i = 0; i < index_.end(); ++i) {
    const NodeId id(i);
    if (!index_.live(id)) continue;
    const PrefixIndex::Node& node = index_.node(id);
    if (!owns(device_, node.device, id, &on_device) || !owns(host_, node.host, id, &on_host) ||
        !owns(disk_, node.disk, id, &on_disk)) {
      return Broken(absl::StrCat("node ", i, " does not own its block"));
    }
  }
  const auto owned = [](const BlockPool& pool) {
    Blocks n;
    for (size_t i = 0; i < pool.capacity().size(); ++i) {
      if (pool.owner(BlockId(static_cast<int32_t>(i))).valid()) n += Blocks(1);
    }
    return n;
  };
  if (owned(device_) != on_device || owned(host_) != on_host || owned(disk_) != on_disk) {
    return Broken("a block belongs to a node that does not know it");
  }
  return absl::OkStatus();
}

absl::Status KvCache::CheckPins() const {
  for (const Tier tier : {Tier::kDevice, Tier::kHost}) {
    const Pins& pins = PinsOf(tier);
    if (pins.size() > PinLimit(tier) || pins.by_end().size() != pins.size().size()) {
      return Broken(absl::StrCat(pins.size().value(), " blocks are pinned, of which ",
                                 pins.by_end().size(), " have an end; limit ",
                                 PinLimit(tier).value()));
    }
    for (const auto& [until, id] : pins.by_end()) {
      const bool here = index_.live(id) && BlockOn(id, tier).valid();
      if (here && pins.Has(id)) continue;
      return Broken(absl::StrCat("node ", id.value(), " is pinned where it is not"));
    }
  }
  return absl::OkStatus();
}

// Whether node and copy agree about block `i` of the copy.
bool KvCache::Agrees(CopyId id, const CopyRecord& record, size_t i) const {
  const auto [source, target] = record.blocks[i];
  if (record.revoked) {  // the target is nobody's
    return record.direction == LinkDirection::kHostToDevice && !device_.owner(target).valid();
  }
  const PrefixIndex::Node& node = index_.node(record.nodes[i]);
  switch (record.direction) {
    case LinkDirection::kHostToDevice:
      return node.device == target && node.load == id;
    case LinkDirection::kDeviceToHost:
      return node.device == source && node.host == target && node.host_filling;
    case LinkDirection::kDiskToHost:
      return node.disk == source && node.host == target && node.host_filling;
    case LinkDirection::kHostToDisk:
      return node.disk == target && node.disk_filling;
  }
  return false;
}

absl::Status KvCache::CheckCopies(std::span<const KvLease* const> leases) const {
  std::array<Blocks, kLinkDirectionCount> moving{};
  Blocks prefetching;
  for (const auto& [id, record] : copies_) {
    const Blocks count(static_cast<int64_t>(record.nodes.size()));
    moving[static_cast<size_t>(record.direction)] += count;
    if (record.prefetch) prefetching += count;
    const CopyId copy = id;
    const int64_t users = std::count_if(leases.begin(), leases.end(), [copy](const KvLease* l) {
      return std::count(l->loads.begin(), l->loads.end(), copy) == 1;
    });
    if (record.users != users || (record.revoked && users > 0)) {
      return Broken(absl::StrCat("copy ", id.value(), " has ", users, " users, counted ",
                                 record.users, record.revoked ? ", and is revoked" : ""));
    }
    if (record.blocks.size() != record.nodes.size() || record.nodes.empty()) {
      return Broken(absl::StrCat("copy ", id.value(), " has no blocks, or not one per node"));
    }
    for (size_t i = 0; i < record.nodes.size(); ++i) {
      if (Agrees(id, record, i)) continue;
      return Broken(absl::StrCat("copy ", id.value(), " and its nodes disagree"));
    }
  }
  const auto count = [&](LinkDirection d) { return moving[static_cast<size_t>(d)]; };
  if (count(LinkDirection::kDeviceToHost) != storing_ ||
      count(LinkDirection::kHostToDisk) != spilling_ ||
      count(LinkDirection::kDiskToHost) != staging_ || prefetching != prefetching_) {
    return Broken("blocks of copies under way are miscounted");
  }
  return absl::OkStatus();
}

// Users and copies of every block.
absl::Status KvCache::CheckBlocks(std::span<const KvLease* const> leases) const {
  const auto zeros = [](const BlockPool& pool) {
    return std::vector<int32_t>(pool.capacity().size(), 0);
  };
  std::vector<int32_t> device_users = zeros(device_);
  std::vector<int32_t> host_users = zeros(host_);
  for (const KvLease* lease : leases) {
    for (const BlockId block : lease->blocks) {
      if (block.valid()) ++device_users[block.index()];
    }
    for (const BlockId block : lease->host_blocks) {
      if (block.valid()) ++host_users[block.index()];
    }
  }
  for (const auto& [until, id] : PinsOf(Tier::kDevice).by_end()) {
    ++device_users[index_.node(id).device.index()];
  }
  for (const auto& [until, id] : PinsOf(Tier::kHost).by_end()) {
    ++host_users[index_.node(id).host.index()];
  }
  std::vector<int32_t> device = zeros(device_);
  std::vector<int32_t> host = zeros(host_);
  std::vector<int32_t> disk = zeros(disk_);
  for (const auto& [id, record] : copies_) {
    const LinkDirection d = record.direction;
    std::vector<int32_t>& from = d == LinkDirection::kDeviceToHost ? device
                                 : d == LinkDirection::kDiskToHost ? disk
                                                                   : host;
    std::vector<int32_t>& to = d == LinkDirection::kHostToDevice ? device
                               : d == LinkDirection::kHostToDisk ? disk
                                                                 : host;
    for (const auto [source, target] : record.blocks) {
      ++from[source.index()];
      ++to[target.index()];
    }
  }
  SLUICE_RETURN_IF_ERROR(Compare(device_, device_users, device, "device"));
  SLUICE_RETURN_IF_ERROR(Compare(host_, host_users, host, "host"));
  return Compare(disk_, zeros(disk_), disk, "disk");
}

}  // namespace sluice
