// Pins: which nodes' copies on one tier stay whatever needs room, and until when.
//
// Books only; KvCache keeps a reference to the block of every pinned node.
//
// Thread-compatible.
#pragma once

#include <optional>
#include <set>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/time/time.h"
#include "scheduler/base/units.h"
#include "scheduler/kv/block_pool.h"

namespace sluice {

class Pins {
 public:
  struct Pin {
    NodeId node;
    absl::Time until;
  };

  bool empty() const { return ends_.empty(); }
  Blocks size() const { return Blocks(static_cast<int64_t>(ends_.size())); }
  bool Has(NodeId node) const { return !ends_.empty() && ends_.contains(node); }

  // Returns whether the node was not pinned before. If it was, the later end counts. O(log n).
  bool Add(NodeId node, absl::Time until) {
    const auto [it, added] = ends_.try_emplace(node, until);
    if (!added) {
      if (it->second >= until) return false;
      by_end_.erase({it->second, node});
      it->second = until;
    }
    by_end_.emplace(until, node);
    return added;
  }

  // Returns whether it was pinned. O(log n).
  bool Remove(NodeId node) {
    if (ends_.empty()) return false;
    const auto it = ends_.find(node);
    if (it == ends_.end()) return false;
    by_end_.erase({it->second, node});
    ends_.erase(it);
    return true;
  }

  // The one that ends first.
  std::optional<Pin> First() const {
    if (by_end_.empty()) return std::nullopt;
    return Pin{by_end_.begin()->second, by_end_.begin()->first};
  }

  // All, those that end first first.
  const std::set<std::pair<absl::Time, NodeId>>& by_end() const { return by_end_; }

 private:
  std::set<std::pair<absl::Time, NodeId>> by_end_;
  absl::flat_hash_map<NodeId, absl::Time> ends_;  // never iterated
};

}  // namespace sluice
