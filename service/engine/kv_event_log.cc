#include "service/engine/kv_event_log.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "scheduler/base/check.h"

namespace sluice {
namespace {

constexpr size_t kBatchBytes = size_t{1} << 20;

// At most: five bytes per token id, and what a block needs besides.
size_t BatchLimit(Tokens tokens_per_block) {
  return std::max<size_t>(1, kBatchBytes / (5 * tokens_per_block.size() + 48));
}

// Mostly there is none.
KvEvents WithoutSalted(KvEvents events) {
  size_t salted = 0;
  for (size_t i = 0; i < events.size(); ++i) salted += events[i].salt != 0 ? 1 : 0;
  if (salted == 0) return events;
  KvEvents open(events.tokens_per_block());
  for (size_t i = 0; i < events.size(); ++i) {
    if (events[i].salt == 0) open.AddFrom(events, i);
  }
  return open;
}

}  // namespace

KvEventLog::KvEventLog(int64_t capacity, Tokens tokens_per_block)
    : capacity_(capacity),
      tokens_per_block_(tokens_per_block),
      batch_limit_(BatchLimit(tokens_per_block)) {
  SLUICE_CHECK(capacity > 0);
}

size_t KvEventLog::Publish(KvEvents events, absl::Time now) {
  KvEvents open = WithoutSalted(std::move(events));
  const size_t published = open.size();
  if (published == 0) return 0;
  std::lock_guard<std::mutex> lock(mu_);
  if (open.size() <= batch_limit_) {
    AppendLocked({0, now, std::move(open), false});
    NotifyLocked();
    return published;
  }
  for (size_t begin = 0; begin < open.size(); begin += batch_limit_) {
    KvEventBatch batch{0, now, KvEvents(tokens_per_block_), false};
    const size_t end = std::min(open.size(), begin + batch_limit_);
    for (size_t i = begin; i < end; ++i) batch.events.AddFrom(open, i);
    AppendLocked(std::move(batch));
  }
  NotifyLocked();
  return published;
}

KvSnapshot KvEventLog::MakeSnapshot(KvEvents blocks, absl::Time now) {
  KvSnapshot snapshot{WithoutSalted(std::move(blocks)), now, 0, 0};
  snapshot.batches = (snapshot.blocks.size() + batch_limit_ - 1) / batch_limit_;
  std::lock_guard<std::mutex> lock(mu_);
  snapshot.first_sequence = last_ + 1;
  for (uint64_t i = 0; i < snapshot.batches; ++i) {
    AppendLocked({0, now, KvEvents(tokens_per_block_), /*in_snapshot=*/i > 0});
  }
  if (snapshot.batches > 0) NotifyLocked();
  return snapshot;
}

void KvEventLog::AppendLocked(KvEventBatch batch) {
  // An empty one counts as well, so that there is a bound on batches.
  const auto weight = [](const KvEventBatch& b) {
    return std::max<int64_t>(1, static_cast<int64_t>(b.events.size()));
  };
  batch.sequence = ++last_;
  events_ += weight(batch);
  batches_.push_back(std::make_shared<const KvEventBatch>(std::move(batch)));
  while (batches_.size() > 1 && events_ > capacity_) {
    events_ -= weight(*batches_.front());
    batches_.pop_front();
  }
}

void KvEventLog::NotifyLocked() {
  for (const auto& [id, on_published] : listeners_) on_published();
}

absl::Status KvEventLog::CheckResume(uint64_t after) const {
  std::lock_guard<std::mutex> lock(mu_);
  if (after == last_) return absl::OkStatus();
  const uint64_t first = batches_.empty() ? last_ + 1 : batches_.front()->sequence;
  if (after > last_ || after + 1 < first) {
    return absl::OutOfRangeError(absl::StrCat("start_sequence_number: ", after, " is not in [",
                                              first - 1, ", ", last_,
                                              "], what this server can resume after; start at 0"));
  }
  if (!batches_[after + 1 - first]->in_snapshot) return absl::OkStatus();
  return absl::OutOfRangeError(absl::StrCat("start_sequence_number: ", after,
                                            " is in the middle of a snapshot; start at 0"));
}

absl::StatusOr<KvEventLog::Batches> KvEventLog::Read(uint64_t after, size_t most) const {
  std::lock_guard<std::mutex> lock(mu_);
  Batches found;
  if (after >= last_) return found;
  const uint64_t first = batches_.front()->sequence;
  if (after + 1 < first) {
    return absl::DataLossError(absl::StrCat("batches ", after + 1, " to ", first - 1,
                                            " were dropped before they were read (limit ",
                                            capacity_, " events); read faster, and start at 0"));
  }
  const auto begin = batches_.begin() + static_cast<std::ptrdiff_t>(after + 1 - first);
  const auto left = static_cast<size_t>(batches_.end() - begin);
  found.assign(begin, begin + static_cast<std::ptrdiff_t>(std::min(left, most)));
  return found;
}

int64_t KvEventLog::Listen(std::function<void()> on_published) {
  std::lock_guard<std::mutex> lock(mu_);
  listeners_.emplace_back(++next_listener_, std::move(on_published));
  return next_listener_;
}

void KvEventLog::Forget(int64_t listener) {
  std::lock_guard<std::mutex> lock(mu_);
  std::erase_if(listeners_, [listener](const auto& l) { return l.first == listener; });
}

}  // namespace sluice
