#include "backend/cpu/link_queue.h"

#include <algorithm>

#include "scheduler/base/check.h"

namespace sluice {
namespace {

constexpr int64_t kMaxSliceBytes = int64_t{1} << 20;
constexpr double kMaxSliceSeconds = 1e-3;
// A worker that comes late to the next slice of a busy line may make up this much.
constexpr absl::Duration kCatchUp = absl::Milliseconds(2);

}  // namespace

LinkQueue::LinkQueue(int layers, Bytes bytes_per_layer, double bytes_per_second)
    : layers_(layers), bytes_per_layer_(bytes_per_layer), bytes_per_second_(bytes_per_second) {
  SLUICE_CHECK(layers > 0 && bytes_per_layer > Bytes(0) && bytes_per_second >= 0);
}

void LinkQueue::Push(const Copy& copy) {
  SLUICE_CHECK(!copy.blocks.empty());
  auto job = std::make_unique<Job>();
  job->copy = copy;
  Lane& lane = lanes_[static_cast<size_t>(copy.direction)];
  lane.queues[static_cast<size_t>(copy.copy_class)].push_back(std::move(job));
}

LinkQueue::Job* LinkQueue::Head(const Lane& lane) const {
  for (const auto& queue : lane.queues) {
    if (!queue.empty()) return queue.front().get();
  }
  return nullptr;
}

size_t LinkQueue::SliceBlocks(const Job& job) const {
  int64_t bytes = kMaxSliceBytes;
  if (bytes_per_second_ > 0) {
    bytes = std::min(bytes, static_cast<int64_t>(bytes_per_second_ * kMaxSliceSeconds));
  }
  const auto fits = static_cast<size_t>(std::max<int64_t>(1, bytes / bytes_per_layer_.value()));
  return std::min(fits, job.copy.blocks.size() - job.block);
}

std::optional<LinkSlice> LinkQueue::Start(absl::Time now) {
  Lane* lane = nullptr;
  Job* job = nullptr;
  for (size_t i = 0; i < lanes_.size(); ++i) {
    Lane& candidate = lanes_[(turn_ + i) % lanes_.size()];
    if (candidate.moving != nullptr) continue;
    Job* head = Head(candidate);
    if (head == nullptr) continue;
    if (job != nullptr && job->copy.copy_class <= head->copy.copy_class) continue;
    lane = &candidate;
    job = head;
  }
  if (job == nullptr) return std::nullopt;
  turn_ = 1 - static_cast<size_t>(job->copy.direction);

  lane->moving = job;
  lane->moved = false;
  lane->slice_blocks = SliceBlocks(*job);
  if (bytes_per_second_ > 0) {
    const absl::Time begins = std::max(lane->free_from, lane->idle ? now : now - kCatchUp);
    const auto bytes =
        static_cast<double>(static_cast<int64_t>(lane->slice_blocks) * bytes_per_layer_.value());
    lane->arrives = begins + absl::Seconds(bytes / bytes_per_second_);
  } else {
    lane->arrives = now;
  }
  lane->idle = false;
  const bool first = job->layer == 0 && job->block == 0;
  if (first) job->started = now;
  return LinkSlice{
      job->copy.id, job->copy.direction, job->layer,
      std::span<const Copy::Pair>(job->copy.blocks).subspan(job->block, lane->slice_blocks), first};
}

void LinkQueue::Moved(const LinkSlice& slice, const absl::Status& status, absl::Time now) {
  Lane& lane = lanes_[static_cast<size_t>(slice.direction)];
  SLUICE_CHECK(lane.moving != nullptr && lane.moving->copy.id == slice.id && !lane.moved);
  lane.moved = true;
  lane.moving->status = status;
  // Where memory is slower than the line, memory counts. A late worker does not make the line late.
  if (bytes_per_second_ == 0) lane.arrives = now;
  lane.free_from = lane.arrives;
}

std::vector<LinkArrival> LinkQueue::Arrive(absl::Time now) {
  std::vector<LinkArrival> arrivals;
  for (Lane& lane : lanes_) {
    if (lane.moving == nullptr || !lane.moved || lane.arrives > now) continue;
    if (std::optional<LinkArrival> arrival = Advance(lane, now)) {
      arrivals.push_back(*std::move(arrival));
    }
  }
  return arrivals;
}

// Books the slice that has arrived. Returns what that completes: a layer or the whole copy.
std::optional<LinkArrival> LinkQueue::Advance(Lane& lane, absl::Time now) {
  Job& job = *lane.moving;
  lane.moving = nullptr;
  job.block += lane.slice_blocks;
  const bool layer_complete = job.block == job.copy.blocks.size();
  if (layer_complete) {
    job.block = 0;
    ++job.layer;
  }
  const bool ended = !job.status.ok() || job.layer == layers_;
  if (!layer_complete && !ended) return std::nullopt;
  LinkArrival arrival{job.copy.id, job.copy.direction, job.layer, std::nullopt};
  if (ended) {
    const auto blocks = static_cast<int64_t>(job.copy.blocks.size());
    arrival.result =
        CopyResult{job.copy.id, job.status, Bytes(blocks * layers_ * bytes_per_layer_.value()),
                   job.started, now};
    auto& queue = lane.queues[static_cast<size_t>(job.copy.copy_class)];
    SLUICE_CHECK(queue.front().get() == &job);
    queue.pop_front();
    lane.idle = Head(lane) == nullptr;
  }
  return arrival;
}

absl::Time LinkQueue::next_arrival() const {
  absl::Time next = absl::InfiniteFuture();
  for (const Lane& lane : lanes_) {
    if (lane.moving != nullptr && lane.moved) next = std::min(next, lane.arrives);
  }
  return next;
}

}  // namespace sluice
