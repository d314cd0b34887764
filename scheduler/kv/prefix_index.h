// PrefixIndex remembers which token prefixes have KV and in which blocks.
//
// A node stands for one full block of tokens after one particular prefix. Nodes form a forest: the
// parent of a node stands for the block before. Nodes are found by chained hash (base/hash.h), and
// on every hit the tokens, the parent and, at the first block, the salt are compared as well. Since
// the parent was compared the same way, the whole path is equal, whatever the hashes do. Two nodes
// never have the same hash: the second prefix of a colliding pair is not indexed at all.
//
// A node may have a copy on each tier. One without any copy stays as long as it has children,
// claims or pins (a "ghost"), so that parents of nodes always exist.
//
// Thread-compatible.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "scheduler/base/hash.h"
#include "scheduler/base/units.h"
#include "scheduler/kv/block_pool.h"
#include "scheduler/step.h"

namespace sluice {

class PrefixIndex {
 public:
  // A node for as long as it lives: a later one with its id is another.
  struct Ticket {
    NodeId node;
    uint64_t birth = 0;
  };

  struct Node {
    // The copies and what is known of them; written by the owner of the index (KvCache).
    BlockId device;  // invalid: no copy
    BlockId host;
    BlockId disk;
    int32_t claims = 0;  // sequences that are going to compute this block
    CopyId load;         // valid while `device` is being filled

    bool host_filling = false;  // by a store or a staging
    bool disk_filling = false;
    bool spill_queued = false;
    bool stored = false;      // the host copy comes from the device and was not used since
    bool staged = false;      // it comes from the disk and was not used since
    bool prefetched = false;  // the device copy was made ahead of need and not used since
    uint8_t seen = 0;         // sightings, at most 255
    bool told = false;        // KvEvents say that it is here

    bool HasDevice() const { return device.valid(); }  // may still be loading
    bool HostReady() const { return host.valid() && !host_filling; }
    bool DiskReady() const { return disk.valid() && !disk_filling; }
    bool HasCopy() const { return HasDevice() || HostReady() || DiskReady(); }
    // A copy is complete.
    bool IsHere() const { return (HasDevice() && !load.valid()) || HostReady() || DiskReady(); }

   private:
    friend class PrefixIndex;
    bool live() const { return birth != 0; }

    uint64_t birth = 0;  // counts nodes ever made; 0: not in use
    Hash128 hash;
    uint64_t salt = 0;
    NodeId parent;      // invalid: first block of a prompt
    NodeId last_child;  // found or added last; saves most look-ups in the map. May be stale
    int32_t children = 0;
    int32_t pins = 0;
  };

  // `expected_nodes` is a hint: no reallocation up to there.
  // REQUIRES: tokens_per_block > 0.
  PrefixIndex(Tokens tokens_per_block, Blocks expected_nodes);

  // The child of `parent` (invalid: a first block, under `salt`) with these tokens; an invalid id
  // if there is none. About 10 ns when it follows the same child as the last call did.
  // REQUIRES: tokens.size() == tokens_per_block.
  NodeId Find(NodeId parent, uint64_t salt, const Hash128& hash, std::span<const TokenId> tokens);

  // Who has found a node once finds it again without a search or a comparison, as long as it lives:
  // nothing of a node's path ever changes. Redeem() returns an invalid id when it does not.
  Ticket ticket(NodeId id) const { return {id, nodes_[id.index()].birth}; }
  NodeId Redeem(const Ticket& ticket) const {
    return nodes_[ticket.node.index()].birth == ticket.birth ? ticket.node : NodeId();
  }
  // Brings a node that is about to be looked at nearer to the processor.
  void Prefetch(NodeId id) const {
    const Node* node = &nodes_[id.index()];
    __builtin_prefetch(node);
    __builtin_prefetch(&node->birth);
  }

  // Adds a node without copies. Returns an invalid id, and adds nothing, if another node has this
  // hash. REQUIRES: Find() with the same arguments finds nothing; the caller gives the node a copy
  // or a pin, or calls RemoveIfUnused().
  NodeId Insert(NodeId parent, uint64_t salt, const Hash128& hash, std::span<const TokenId> tokens);

  // Both in one; an invalid id, and nothing added, if another node has this hash.
  NodeId FindOrInsert(NodeId parent, uint64_t salt, const Hash128& hash,
                      std::span<const TokenId> tokens);

  Node& node(NodeId id) { return nodes_[id.index()]; }
  const Node& node(NodeId id) const { return nodes_[id.index()]; }

  // A pinned node is not removed. Pins add up.
  void Pin(NodeId id);
  // Also removes the node if nothing else keeps it.
  void Unpin(NodeId id);

  // Removes the node, then its ancestors, as long as they have no copy, child, claim or pin.
  void RemoveIfUnused(NodeId id);

  const Hash128& hash(NodeId id) const { return nodes_[id.index()].hash; }
  uint64_t salt(NodeId id) const { return nodes_[id.index()].salt; }
  std::span<const TokenId> tokens(NodeId id) const {
    return std::span(tokens_).subspan(id.index() * tokens_per_block_, tokens_per_block_);
  }
  // Its name outside this process.
  BlockIdentity identity(NodeId id) const;
  NodeId parent(NodeId id) const { return nodes_[id.index()].parent; }

  // Nodes, ghosts included.
  Blocks size() const { return Blocks(static_cast<int64_t>(by_hash_.size())); }

  // One past the largest node id ever used; with live(), for walking over all nodes.
  int32_t end() const { return static_cast<int32_t>(nodes_.size()); }
  bool live(NodeId id) const { return nodes_[id.index()].live(); }
  int32_t pins(NodeId id) const { return nodes_[id.index()].pins; }
  int32_t children(NodeId id) const { return nodes_[id.index()].children; }

  // Returns INTERNAL naming the first broken invariant. O(nodes).
  absl::Status CheckInvariants() const;

 private:
  bool Matches(const Node& node, NodeId id, NodeId parent, uint64_t salt, const Hash128& hash,
               std::span<const TokenId> tokens) const;
  static bool Unused(const Node& node);
  // The hinted child if it is the right one.
  NodeId FindHinted(NodeId parent, uint64_t salt, const Hash128& hash,
                    std::span<const TokenId> tokens) const;
  NodeId NextId() const;
  void Fill(NodeId id, NodeId parent, uint64_t salt, const Hash128& hash,
            std::span<const TokenId> tokens);

  const size_t tokens_per_block_;
  uint64_t births_ = 0;
  std::vector<Node> nodes_;
  std::vector<TokenId> tokens_;  // tokens_per_block_ per node
  std::vector<NodeId> free_;
  absl::flat_hash_map<Hash128, NodeId, Hash128Hasher> by_hash_;  // never iterated
};

}  // namespace sluice
