#include "scheduler/kv/prefix_index.h"

#include <algorithm>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "scheduler/base/check.h"

namespace sluice {

PrefixIndex::PrefixIndex(Tokens tokens_per_block, Blocks expected_nodes)
    : tokens_per_block_(tokens_per_block.size()) {
  SLUICE_CHECK(tokens_per_block > Tokens(0));
  nodes_.reserve(expected_nodes.size());
  tokens_.reserve(expected_nodes.size() * tokens_per_block_);
  by_hash_.reserve(expected_nodes.size());
}

bool PrefixIndex::Matches(const Node& node, NodeId id, NodeId parent, uint64_t salt,
                          const Hash128& hash, std::span<const TokenId> tokens) const {
  if (!node.live() || node.hash != hash || node.parent != parent) return false;
  if (!parent.valid() && node.salt != salt) return false;
  return std::memcmp(tokens_.data() + id.index() * tokens_per_block_, tokens.data(),
                     tokens.size_bytes()) == 0;
}

NodeId PrefixIndex::FindHinted(NodeId parent, uint64_t salt, const Hash128& hash,
                               std::span<const TokenId> tokens) const {
  if (!parent.valid()) return NodeId();
  const NodeId hint = nodes_[parent.index()].last_child;
  if (!hint.valid() || !Matches(nodes_[hint.index()], hint, parent, salt, hash, tokens)) {
    return NodeId();
  }
  return hint;
}

NodeId PrefixIndex::Find(NodeId parent, uint64_t salt, const Hash128& hash,
                         std::span<const TokenId> tokens) {
  SLUICE_CHECK(tokens.size() == tokens_per_block_);
  NodeId id = FindHinted(parent, salt, hash, tokens);
  if (!id.valid()) {
    const auto it = by_hash_.find(hash);
    if (it == by_hash_.end()) return NodeId();
    id = it->second;
    if (!Matches(nodes_[id.index()], id, parent, salt, hash, tokens)) return NodeId();
    if (parent.valid()) nodes_[parent.index()].last_child = id;
  }
  return id;
}

NodeId PrefixIndex::Insert(NodeId parent, uint64_t salt, const Hash128& hash,
                           std::span<const TokenId> tokens) {
  SLUICE_CHECK(tokens.size() == tokens_per_block_);
  const NodeId id = NextId();
  if (!by_hash_.try_emplace(hash, id).second) return NodeId();
  Fill(id, parent, salt, hash, tokens);
  return id;
}

NodeId PrefixIndex::FindOrInsert(NodeId parent, uint64_t salt, const Hash128& hash,
                                 std::span<const TokenId> tokens) {
  SLUICE_CHECK(tokens.size() == tokens_per_block_);
  if (const NodeId hint = FindHinted(parent, salt, hash, tokens); hint.valid()) return hint;
  const NodeId fresh = NextId();
  const auto [it, inserted] = by_hash_.try_emplace(hash, fresh);
  if (inserted) {
    Fill(fresh, parent, salt, hash, tokens);
    return fresh;
  }
  const NodeId id = it->second;
  if (!Matches(nodes_[id.index()], id, parent, salt, hash, tokens)) return NodeId();
  if (parent.valid()) nodes_[parent.index()].last_child = id;
  return id;
}

NodeId PrefixIndex::NextId() const {
  return free_.empty() ? NodeId(static_cast<int32_t>(nodes_.size())) : free_.back();
}

void PrefixIndex::Fill(NodeId id, NodeId parent, uint64_t salt, const Hash128& hash,
                       std::span<const TokenId> tokens) {
  SLUICE_CHECK(!parent.valid() || nodes_[parent.index()].live());
  if (id.index() < nodes_.size()) {
    free_.pop_back();
  } else {
    nodes_.emplace_back();
    tokens_.resize(tokens_.size() + tokens_per_block_);
  }
  Node& node = nodes_[id.index()];
  node = Node();
  node.hash = hash;
  node.salt = salt;
  node.parent = parent;
  node.birth = ++births_;
  std::copy(tokens.begin(), tokens.end(), tokens_.begin() + id.index() * tokens_per_block_);
  if (parent.valid()) {
    ++nodes_[parent.index()].children;
    nodes_[parent.index()].last_child = id;
  }
}

BlockIdentity PrefixIndex::identity(NodeId id) const {
  const Node& node = nodes_[id.index()];
  BlockIdentity identity;
  identity.hash = node.hash;
  identity.salt = node.salt;
  identity.first = !node.parent.valid();
  if (!identity.first) identity.parent = nodes_[node.parent.index()].hash;
  return identity;
}

void PrefixIndex::Pin(NodeId id) {
  SLUICE_CHECK(nodes_[id.index()].live());
  ++nodes_[id.index()].pins;
}

void PrefixIndex::Unpin(NodeId id) {
  SLUICE_CHECK(nodes_[id.index()].pins > 0);
  --nodes_[id.index()].pins;
  RemoveIfUnused(id);
}

bool PrefixIndex::Unused(const Node& node) {
  return !node.device.valid() && !node.host.valid() && !node.disk.valid() && node.claims == 0 &&
         node.children == 0 && node.pins == 0;
}

void PrefixIndex::RemoveIfUnused(NodeId id) {
  while (id.valid() && Unused(nodes_[id.index()])) {
    Node& node = nodes_[id.index()];
    SLUICE_CHECK(node.live());
    by_hash_.erase(node.hash);
    node.birth = 0;
    free_.push_back(id);
    id = node.parent;
    if (id.valid()) --nodes_[id.index()].children;
  }
}

absl::Status PrefixIndex::CheckInvariants() const {
  std::vector<int32_t> children(nodes_.size(), 0);
  size_t live_nodes = 0;
  for (size_t i = 0; i < nodes_.size(); ++i) {
    const Node& n = nodes_[i];
    if (!n.live()) continue;
    ++live_nodes;
    const auto it = by_hash_.find(n.hash);
    if (it == by_hash_.end() || it->second.index() != i) {
      return absl::InternalError(absl::StrCat("prefix index: node ", i, " cannot be found"));
    }
    if (Unused(n)) {
      return absl::InternalError(absl::StrCat("prefix index: node ", i, " is kept for nothing"));
    }
    if (n.load.valid() && !n.device.valid()) {
      return absl::InternalError(absl::StrCat("prefix index: node ", i, " loads nowhere"));
    }
    if ((n.host_filling && !n.host.valid()) || (n.disk_filling && !n.disk.valid())) {
      return absl::InternalError(absl::StrCat("prefix index: node ", i, " is filled nowhere"));
    }
    if (n.claims < 0) {
      return absl::InternalError(absl::StrCat("prefix index: node ", i, " has negative claims"));
    }
    if (!n.parent.valid()) continue;
    if (!nodes_[n.parent.index()].live()) {
      return absl::InternalError(absl::StrCat("prefix index: node ", i, " lost its parent"));
    }
    ++children[n.parent.index()];
  }
  for (size_t i = 0; i < nodes_.size(); ++i) {
    if (nodes_[i].live() && nodes_[i].children != children[i]) {
      return absl::InternalError(absl::StrCat("prefix index: node ", i, " has ", children[i],
                                              " children, counted ", nodes_[i].children));
    }
  }
  if (live_nodes != by_hash_.size() || live_nodes + free_.size() != nodes_.size()) {
    return absl::InternalError("prefix index: nodes are lost");
  }
  return absl::OkStatus();
}

}  // namespace sluice
