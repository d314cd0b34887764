#include "scheduler/kv/kv_events.h"

#include "scheduler/base/check.h"

namespace sluice {

void KvEvents::Reserve(size_t count) {
  events_.reserve(count);
  offset_.reserve(count);
  tokens_.reserve(count * width_);
}

void KvEvents::AddStored(uint64_t block, std::optional<uint64_t> parent, uint64_t salt,
                         std::span<const TokenId> tokens) {
  SLUICE_CHECK(tokens.size() == width_);
  events_.push_back({KvEvent::Kind::kStored, block, parent, salt});
  offset_.push_back(tokens_.size());
  tokens_.insert(tokens_.end(), tokens.begin(), tokens.end());
}

void KvEvents::AddRemoved(uint64_t block, uint64_t salt) {
  events_.push_back({KvEvent::Kind::kRemoved, block, std::nullopt, salt});
  offset_.push_back(tokens_.size());
}

std::span<const TokenId> KvEvents::tokens(size_t i) const {
  SLUICE_CHECK(events_[i].kind == KvEvent::Kind::kStored);
  return std::span<const TokenId>(tokens_).subspan(offset_[i], width_);
}

void KvEvents::AddFrom(const KvEvents& from, size_t i) {
  const KvEvent& event = from[i];
  if (event.kind == KvEvent::Kind::kRemoved) return AddRemoved(event.block, event.salt);
  AddStored(event.block, event.parent, event.salt, from.tokens(i));
}

}  // namespace sluice
