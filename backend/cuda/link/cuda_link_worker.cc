// What the threads of CudaLink do: submit slices, wait for them, book what has arrived.
#include <sys/prctl.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "backend/cuda/device/numa.h"
#include "backend/cuda/link/cuda_link.h"
#include "scheduler/base/check.h"
#include "scheduler/base/status_macros.h"

namespace sluice::cuda {
namespace {

// Failed copies that are remembered, for steps that are still going to wait for them. The scheduler
// hears of a failure within a step and names the copy no more.
constexpr size_t kFailuresRemembered = 4096;

std::vector<int32_t> Positions(const std::vector<bool>& marks) {
  std::vector<int32_t> positions;
  for (size_t i = 0; i < marks.size(); ++i) {
    if (marks[i]) positions.push_back(static_cast<int32_t>(i));
  }
  return positions;
}

absl::Status Refusal(CopyId id, size_t refused, int64_t blocks, int layer) {
  return absl::OutOfRangeError(
      absl::StrCat("copy ", id.value(), ": ", refused, " of ", blocks,
                   " blocks have a number that is not finite or above 2^120 and cannot be "
                   "quantized, the first in layer ",
                   layer, "; they are not kept"));
}

}  // namespace

void CudaLink::WorkerMain(Line& line) {
  // Wake up within microseconds of the time asked for, not the default 50.
  prctl(PR_SET_TIMERSLACK, 1000UL, 0UL, 0UL, 0UL);
  if (const auto node = context_.numa_node()) RunOnNode(*node).IgnoreError();
  absl::Status current = context_.MakeCurrent();
  if (!current.ok()) current = context_.MakeCurrent();
  if (!current.ok()) health_.MarkLost(current);  // this thread can do nothing with it
  Lock lock(mu_);
  while (!stop_) {
    if (Serve(line, /*wait=*/true, &lock)) continue;
    const absl::Time next = lost_ ? absl::InfiniteFuture() : scheduler_.next_event();
    if (next == absl::InfiniteFuture()) {
      work_.wait(lock);
    } else {
      work_.wait_for(lock, absl::ToChronoNanoseconds(next - options_.clock()));
    }
  }
}

bool CudaLink::PumpLocked(bool wait, Lock* lock) {
  Line* oldest = nullptr;
  for (Line& line : lines_) {
    if (Serve(line, /*wait=*/false, lock)) return true;
    if (lost_ || line.lane->empty()) continue;
    const bool older =
        oldest == nullptr || line.lane->oldest().sequence < oldest->lane->oldest().sequence;
    if (older) oldest = &line;
  }
  if (!wait || oldest == nullptr) return false;
  WaitForOldest(*oldest, lock);
  return true;
}

bool CudaLink::Serve(Line& line, bool wait, Lock* lock) {
  if (health_.lost() && !lost_) LoseLocked();
  if (!lost_) BookLocked();
  if (news_) {
    TellListener(lock);
    return true;
  }
  if (lost_) return false;
  Assign();
  if (line.slice.has_value()) {
    SubmitNext(line, lock);
    return true;
  }
  if (!wait || line.lane->empty()) return false;
  WaitForOldest(line, lock);
  return true;
}

// Takes from the scheduler what its free lines should move next. A line is free while its stream
// has room, so that nothing is chosen before it can go.
void CudaLink::Assign() {
  bool assigned = false;
  while (const std::optional<LinkSlice> slice = scheduler_.Start(options_.clock())) {
    line(slice->direction).slice = *slice;
    assigned = true;
  }
  if (assigned && options_.own_threads) work_.notify_all();
}

// Blocks until the device may use the slice's host blocks.
absl::Status CudaLink::HostReady(const LinkSlice& slice) {
  if (options_.host_pool == nullptr) return absl::OkStatus();
  const bool load = slice.direction == LinkDirection::kHostToDevice;
  int64_t end = 0;
  for (const Copy::Pair& pair : slice.blocks) {
    end = std::max<int64_t>(end, (load ? pair.source : pair.target).value() + 1);
  }
  return options_.host_pool->WaitFor(Bytes(end * pools_.host_block_bytes().value()));
}

void CudaLink::SubmitNext(Line& line, Lock* lock) {
  const LinkSlice slice = *std::exchange(line.slice, std::nullopt);
  std::shared_ptr<Event> fence = std::exchange(copies_.find(slice.id)->second.fence, nullptr);
  lock->unlock();
  LinkFlight flight;
  absl::Status status = HostReady(slice);
  if (status.ok() && fence != nullptr) status = line.lane->WaitForFence(*fence);
  const bool submitted = status.ok();
  if (submitted) status = line.lane->Submit(slice, &flight);
  fence.reset();  // the stream waits for the record, whatever becomes of the event
  lock->lock();
  if (lost_ || health_.lost()) return;  // the next Serve() ends all copies
  Progress& progress = copies_.find(slice.id)->second;
  if (submitted) {
    const bool first = line.lane->empty();
    flight.first = progress.units % progress.blocks;
    progress.units += static_cast<int64_t>(slice.blocks.size());
    ++progress.flights;
    flight.completes_layer = progress.units % progress.blocks == 0;
    flight.sequence = submitted_++;
    line.lane->Push(flight);
    if (first) BeginFront(line, options_.clock());
  }
  if (!status.ok() && progress.failure.ok()) progress.failure = status;
  line.moving = slice;
  line.moving_status = status;
  if (!line.lane->full()) TellScheduler(line);
  progress_.notify_all();
}

void CudaLink::TellScheduler(Line& line) {
  const LinkSlice slice = *std::exchange(line.moving, std::nullopt);
  scheduler_.Moved(slice, line.moving_status, options_.clock());
}

void CudaLink::WaitForOldest(Line& line, Lock* lock) {
  std::vector<int64_t> refused;
  lock->unlock();
  const absl::Status status = line.lane->WaitForOldest(&refused);
  lock->lock();
  if (lost_ || health_.lost()) return;  // the next Serve() ends all copies
  const absl::Time now = options_.clock();
  const LinkFlight flight = line.lane->Pop();
  Progress& progress = copies_.find(flight.copy)->second;
  --progress.flights;
  NoteRefused(flight, refused, &progress);
  if (!status.ok()) {
    if (progress.failure.ok()) progress.failure = status;
    scheduler_.Revoke(flight.copy, now);  // what is left of it
  } else if (flight.completes_layer && progress.failure.ok()) {
    progress.layers_done = flight.layer + 1;
  }
  FinishIfOver(flight.copy);
  if (line.moving.has_value() && !line.lane->full()) TellScheduler(line);
  if (!line.lane->empty()) BeginFront(line, now);
  progress_.notify_all();
}

void CudaLink::NoteRefused(const LinkFlight& flight, std::span<const int64_t> refused,
                           Progress* progress) {
  if (refused.empty()) return;
  if (progress->refused.empty()) {
    progress->refused.resize(static_cast<size_t>(progress->blocks));
    progress->refused_layer = flight.layer;
  }
  for (const int64_t block : refused) progress->refused[static_cast<size_t>(block)] = true;
}

// The front slice of a stream is what its engine is at. First bytes count from here.
void CudaLink::BeginFront(Line& line, absl::Time now) {
  Progress& progress = copies_.find(line.lane->oldest().copy)->second;
  if (progress.begun) return;
  progress.begun = true;
  progress.started = now;
  meter_.BeginTransfer(progress.direction, now);
}

// Copies that the scheduler has ended: all submitted, failed or revoked.
void CudaLink::BookLocked() {
  for (LinkArrival& arrival : scheduler_.Arrive(options_.clock())) {
    if (!arrival.result.has_value()) continue;
    Progress& progress = copies_.find(arrival.id)->second;
    progress.ended = std::move(arrival.result);
    FinishIfOver(arrival.id);
    progress_.notify_all();
  }
}

// Gives out the result of a copy that has ended and of which nothing is under way.
void CudaLink::FinishIfOver(CopyId id) {
  const auto it = copies_.find(id);
  Progress& progress = it->second;
  if (!progress.ended.has_value() || progress.flights > 0) return;
  const absl::Time now = options_.clock();
  CopyResult result{id, progress.Why(), progress.bytes, progress.begun ? progress.started : now,
                    now};
  if (result.status.ok() && !progress.refused.empty()) {
    result.failed = Positions(progress.refused);
    result.status = Refusal(id, result.failed.size(), progress.blocks, progress.refused_layer);
  }
  const absl::Status status = result.status;
  if (progress.begun) {
    meter_.EndTransfer(progress.direction, progress.bytes, status.ok(), now);
  } else {
    meter_.DropTransfer(progress.direction, progress.bytes);
  }
  finished_.push_back(std::move(result));
  news_ = true;
  if (status.ok()) {
    copies_.erase(it);
    return;
  }
  progress.failure = status;
  Remember(id, &progress);
}

void CudaLink::Remember(CopyId id, Progress* progress) {
  progress->remembered = true;
  progress->fence = nullptr;
  failed_.push_back(id);
  if (failed_.size() <= kFailuresRemembered) return;
  copies_.erase(failed_.front());
  failed_.pop_front();
}

// The device is lost: nothing moves any more, and every copy ends here and now.
void CudaLink::LoseLocked() {
  lost_ = true;
  std::vector<CopyId> ending;
  for (const auto& [id, progress] : copies_) {
    if (!progress.remembered) ending.push_back(id);
  }
  std::sort(ending.begin(), ending.end());
  const absl::Status why = health_.status();
  for (const CopyId id : ending) {
    Progress& progress = copies_.find(id)->second;
    progress.failure = why;
    progress.flights = 0;
    progress.ended = CopyResult{};
    FinishIfOver(id);
  }
  work_.notify_all();
  progress_.notify_all();
}

void CudaLink::TellListener(Lock* lock) {
  news_ = false;
  const std::function<void()> on_done = on_done_;
  lock->unlock();
  if (on_done) on_done();
  lock->lock();
}

}  // namespace sluice::cuda
