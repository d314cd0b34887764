#include "service/workload/trace_recorder.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "scheduler/base/status_macros.h"

namespace sluice {

absl::StatusOr<std::unique_ptr<TraceRecorder>> TraceRecorder::Create(
    const std::string& path, const TraceRecorderOptions& options) {
  if (options.max_pending < 1) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": recording needs room for at least 1 pending request"));
  }
  SLUICE_ASSIGN_OR_RETURN(std::unique_ptr<TraceWriter> writer,
                          TraceWriter::Create(path, options.block_tokens));
  return std::unique_ptr<TraceRecorder>(new TraceRecorder(std::move(writer), options));
}

TraceRecorder::TraceRecorder(std::unique_ptr<TraceWriter> writer,
                             const TraceRecorderOptions& options)
    : options_(options), writer_(std::move(writer)) {}

TraceRecorder::~TraceRecorder() { (void)Close(); }

std::vector<uint64_t> TraceRecorder::HashBlocks(const Arrival& arrival) const {
  // 63 bits: a whole number for readers that have signed ones only.
  constexpr uint64_t kMask = ~(uint64_t{1} << 63U);
  std::vector<uint64_t> ids;
  Hash128 parent = RootHash(options_.salt.low, options_.salt.high ^ arrival.cache_salt);
  const size_t block = options_.block_tokens.size();
  for (size_t i = 0; i < arrival.prompt.size(); i += block) {
    const size_t count = std::min(block, arrival.prompt.size() - i);
    parent = BlockHash(parent, arrival.prompt.subspan(i, count));
    ids.push_back(parent.low & kMask);
  }
  return ids;
}

TraceRecorder::Ticket TraceRecorder::OnArrival(const Arrival& arrival) {
  Pending pending;
  pending.line.input = Tokens(static_cast<int64_t>(arrival.prompt.size()));
  pending.line.tenant = arrival.tenant;
  pending.line.priority = arrival.priority;
  pending.line.block_hashes = HashBlocks(arrival);
  const std::lock_guard<std::mutex> lock(mu_);
  if (!started_) {
    started_ = true;
    start_ = arrival.at;
  }
  latest_ = std::max(latest_, arrival.at - start_);
  pending.line.arrival = latest_;
  if (pending_.size() >= options_.max_pending) PopFrontLocked();
  pending_.push_back(std::move(pending));
  return first_ + pending_.size() - 1;
}

void TraceRecorder::OnFinish(Ticket ticket, Tokens output) {
  const std::lock_guard<std::mutex> lock(mu_);
  if (ticket < first_ || ticket - first_ >= pending_.size()) return;
  Pending& pending = pending_[ticket - first_];
  if (pending.finished) return;
  pending.finished = true;
  pending.line.output = output;
  while (!pending_.empty() && pending_.front().finished) PopFrontLocked();
}

void TraceRecorder::PopFrontLocked() {
  const Pending& front = pending_.front();
  if (!front.finished) {
    ++stats_.dropped;
  } else if (front.line.output < Tokens(1)) {
    ++stats_.left_out;
  } else if (const absl::Status status = writer_->Append(front.line); status.ok()) {
    ++stats_.written;
  } else {
    ++stats_.dropped;
    status_.Update(status);
  }
  pending_.pop_front();
  ++first_;
}

absl::Status TraceRecorder::Close() {
  const std::lock_guard<std::mutex> lock(mu_);
  while (!pending_.empty()) PopFrontLocked();
  status_.Update(writer_->Close());
  return status_;
}

TraceRecorder::Stats TraceRecorder::stats() const {
  const std::lock_guard<std::mutex> lock(mu_);
  return stats_;
}

}  // namespace sluice
