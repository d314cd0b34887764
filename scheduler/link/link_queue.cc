#include "scheduler/link/link_queue.h"

#include <algorithm>

#include "scheduler/base/check.h"

namespace sluice {
namespace {

constexpr auto kControl = static_cast<size_t>(CopyClass::kControl);
constexpr auto kWriteBack = static_cast<size_t>(CopyClass::kWriteBack);

bool OverdueBefore(const LinkJob& a, const LinkJob& b) {
  return a.overdue != b.overdue ? a.overdue < b.overdue : a.order < b.order;
}

}  // namespace

void LinkQueue::Push(LinkJob* job) {
  ClassQueue& queue = queues_[static_cast<size_t>(job->copy.copy_class)];
  queue.by_rank.emplace(std::pair(job->copy.rank, job->order), job);
  queue.by_age.emplace_hint(queue.by_age.end(), job->order, job);
  ++size_;
}

void LinkQueue::Erase(LinkJob* job) {
  ClassQueue& queue = queues_[static_cast<size_t>(job->copy.copy_class)];
  const size_t ranked = queue.by_rank.erase({job->copy.rank, job->order});
  const size_t aged = queue.by_age.erase(job->order);
  SLUICE_CHECK(ranked == 1 && aged == 1);
  --size_;
}

LinkJob* LinkQueue::First(absl::Time now, bool hold_back) const {
  if (size_ == 0) return nullptr;
  if (!queues_[kControl].by_rank.empty()) return queues_[kControl].by_rank.begin()->second;
  LinkJob* first = nullptr;
  for (size_t c = kControl + 1; c < queues_.size(); ++c) {
    if (queues_[c].by_age.empty()) continue;
    LinkJob* oldest = queues_[c].by_age.begin()->second;
    if (oldest->overdue > now) continue;
    if (first == nullptr || OverdueBefore(*oldest, *first)) first = oldest;
  }
  for (size_t c = kControl + 1; first == nullptr && c < queues_.size(); ++c) {
    if (c == kWriteBack && hold_back) break;
    if (!queues_[c].by_rank.empty()) first = queues_[c].by_rank.begin()->second;
  }
  return first;
}

absl::Time LinkQueue::Overtaken(const LinkJob& job, absl::Time now) const {
  absl::Time when = absl::InfiniteFuture();
  if (job.copy.copy_class == CopyClass::kControl) return when;
  for (size_t c = kControl + 1; c < queues_.size(); ++c) {
    if (queues_[c].by_age.empty()) continue;
    const LinkJob& oldest = *queues_[c].by_age.begin()->second;
    if (oldest.overdue > now && OverdueBefore(oldest, job)) when = std::min(when, oldest.overdue);
  }
  return when;
}

absl::Time LinkQueue::WriteBackOverdue() const {
  const auto& ages = queues_[kWriteBack].by_age;
  return ages.empty() ? absl::InfiniteFuture() : ages.begin()->second->overdue;
}

}  // namespace sluice
