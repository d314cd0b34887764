// LinkQueue: the copies of one line in the order in which it serves them.
//
// Thread-compatible. Holds pointers: a job must outlive its time in the queue and must not change
// what it is sorted by.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <utility>

#include "absl/time/time.h"
#include "scheduler/link/link_job.h"
#include "scheduler/step.h"

namespace sluice {

class LinkQueue {
 public:
  // REQUIRES: within a class, `order` and `overdue` do not decrease from one Push to the next.
  void Push(LinkJob* job);
  void Erase(LinkJob* job);
  bool empty() const { return size_ == 0; }
  bool HasWriteBack() const { return !queues_.back().by_age.empty(); }

  // Control copies, overdue ones, then by class; see LinkScheduler. nullptr if there is none.
  // `hold_back`: leaves out write-backs that are not overdue.
  LinkJob* First(absl::Time now, bool hold_back) const;

  // When something that is queued now will go before `job`, the first at `now`, because it becomes
  // overdue. InfiniteFuture: never.
  absl::Time Overtaken(const LinkJob& job, absl::Time now) const;

  // When the first write-back becomes overdue; InfiniteFuture if there is none.
  absl::Time WriteBackOverdue() const;

 private:
  struct ClassQueue {
    std::map<std::pair<int64_t, int64_t>, LinkJob*> by_rank;  // (rank, order)
    std::map<int64_t, LinkJob*> by_age;                       // order
  };
  std::array<ClassQueue, kCopyClassCount> queues_;
  int64_t size_ = 0;
};

}  // namespace sluice
