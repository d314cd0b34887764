#include "backend/kv/block_queue.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "scheduler/base/check.h"

namespace sluice {

BlockQueue::BlockQueue(Bytes payload, Bytes limit, size_t batch, Work work)
    : payload_(payload.size()),
      most_(std::max<size_t>(1, limit.size() / payload.size())),
      batch_(batch),
      work_(std::move(work)),
      thread_([this] { ThreadMain(); }) {
  SLUICE_CHECK(batch > 0);
}

BlockQueue::~BlockQueue() {
  {
    std::lock_guard<std::mutex> lock(mu_);
    stop_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

bool BlockQueue::Push(BlockId slot, int64_t generation, const BlockRecord& record,
                      std::span<const std::byte> payload) {
  SLUICE_CHECK(payload.size() == payload_);
  CarriedBlock block;
  {
    std::lock_guard<std::mutex> lock(mu_);
    if (stop_ || queue_.size() + at_work_.size() + reserved_ >= most_) return false;
    ++reserved_;
    if (!spare_.empty()) {
      block.bytes = std::move(spare_.back());
      spare_.pop_back();
    }
  }
  if (block.bytes == nullptr) block.bytes = MakeFileBuffer(static_cast<int64_t>(payload_));
  std::memcpy(block.bytes.get(), payload.data(), payload_);
  block.slot = slot;
  block.generation = generation;
  block.record = record;
  {
    std::lock_guard<std::mutex> lock(mu_);
    --reserved_;
    queue_.push_back(std::move(block));
  }
  changed_.notify_all();
  return true;
}

void BlockQueue::Remove(absl::FunctionRef<bool(const CarriedBlock&)> unwanted) {
  std::unique_lock<std::mutex> lock(mu_);
  for (auto it = queue_.begin(); it != queue_.end();) {
    if (!unwanted(*it)) {
      ++it;
      continue;
    }
    spare_.push_back(std::move(it->bytes));
    it = queue_.erase(it);
  }
  const bool at_work = std::any_of(at_work_.begin(), at_work_.end(),
                                   [&](const CarriedBlock& block) { return unwanted(block); });
  changed_.notify_all();
  if (!at_work) return;
  const int64_t batch = batches_;
  changed_.wait(lock, [&] { return stop_ || batches_ != batch; });
}

bool BlockQueue::WaitUntilEmpty(absl::Duration timeout) {
  std::unique_lock<std::mutex> lock(mu_);
  return changed_.wait_for(lock, absl::ToChronoNanoseconds(timeout),
                           [this] { return queue_.empty() && at_work_.empty() && reserved_ == 0; });
}

Bytes BlockQueue::waiting() const {
  std::lock_guard<std::mutex> lock(mu_);
  return Bytes(static_cast<int64_t>((queue_.size() + at_work_.size()) * payload_));
}

void BlockQueue::ThreadMain() {
  std::unique_lock<std::mutex> lock(mu_);
  while (!stop_) {
    if (queue_.empty()) {
      changed_.wait(lock);
      continue;
    }
    while (!queue_.empty() && at_work_.size() < batch_) {
      at_work_.push_back(std::move(queue_.front()));
      queue_.pop_front();
    }
    lock.unlock();
    work_(at_work_);
    lock.lock();
    for (CarriedBlock& block : at_work_) spare_.push_back(std::move(block.bytes));
    at_work_.clear();
    ++batches_;
    changed_.notify_all();
  }
}

}  // namespace sluice
