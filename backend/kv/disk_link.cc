#include "backend/kv/disk_link.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "scheduler/base/check.h"
#include "scheduler/base/status_macros.h"

namespace sluice {
namespace {

// Moved at a time: FileIo::kDepth operations of 1 MiB, so that the device has enough to do until
// nearly the end. Something more urgent waits for it (32 ms at 1 GB/s).
constexpr Bytes kSliceBytes = MiB(32);
constexpr absl::Duration kBetweenComplaints = absl::Seconds(10);
constexpr int kWorkers = 2;  // one per direction

// An error that says something of one block, and that the store works: it is damaged, the codec
// refuses it, or it has gone from a store that others use, too.
bool IsOfBlock(const absl::Status& status) {
  return absl::IsDataLoss(status) || absl::IsOutOfRange(status) || absl::IsNotFound(status);
}

LinkSchedulerOptions SchedulerOptions(const StoreShape& shape) {
  LinkSchedulerOptions options;
  options.layers = 1;  // a block is read and written as a whole
  options.layer_bytes = shape.payload;
  options.slice_bytes = kSliceBytes;
  return options;
}

}  // namespace

DiskLink::DiskLink(BlockStore& store, DiskLinkOptions options, ActivityMeter& meter)
    : store_(store),
      options_(std::move(options)),
      meter_(meter),
      scheduler_(SchedulerOptions(store.shape())) {
  for (int i = 0; i < kWorkers; ++i) workers_.emplace_back([this] { WorkerMain(); });
}

DiskLink::~DiskLink() {
  {
    std::lock_guard<std::mutex> lock(mu_);
    stop_ = true;
  }
  work_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

void DiskLink::SetListener(std::function<void()> on_done) {
  std::lock_guard<std::mutex> lock(mu_);
  on_done_ = std::move(on_done);
}

void DiskLink::CheckCopy(const Copy& copy) const {
  const bool load = copy.direction == LinkDirection::kDiskToHost;
  SLUICE_CHECK(load || copy.direction == LinkDirection::kHostToDisk);
  SLUICE_CHECK(copy.identities.size() == copy.blocks.size());
  const size_t width = store_.shape().tokens_per_block.size();
  SLUICE_CHECK(load || copy.tokens.size() == copy.blocks.size() * width);
  for (const Copy::Pair& pair : copy.blocks) {
    const BlockId disk = load ? pair.source : pair.target;
    const BlockId host = load ? pair.target : pair.source;
    SLUICE_CHECK(disk.valid() && disk.value() < store_.shape().slots.value());
    SLUICE_CHECK(host.valid() && host.value() < options_.host_blocks.value());
  }
}

void DiskLink::Start(std::span<const Copy> copies) {
  if (copies.empty()) return;
  {
    std::lock_guard<std::mutex> lock(mu_);
    const absl::Time now = options_.clock();
    for (const Copy& copy : copies) {
      CheckCopy(copy);
      const auto [it, added] = copies_.try_emplace(copy.id);
      SLUICE_CHECK(added);
      it->second.copy = copy;
      const auto blocks = static_cast<int64_t>(copy.blocks.size());
      meter_.QueueTransfer(copy.direction, Bytes(blocks * store_.shape().payload.value()));
      scheduler_.Push(copy, now);
    }
  }
  work_.notify_all();
}

void DiskLink::Revoke(std::span<const CopyId> copies) {
  if (copies.empty()) return;
  {
    std::lock_guard<std::mutex> lock(mu_);
    const absl::Time now = options_.clock();
    for (const CopyId id : copies) scheduler_.Revoke(id, now);
  }
  work_.notify_all();
}

std::vector<CopyResult> DiskLink::TakeFinished() {
  std::lock_guard<std::mutex> lock(mu_);
  return std::exchange(finished_, {});
}

void DiskLink::Forget(std::span<const BlockId> slots) {
  {
    std::lock_guard<std::mutex> lock(mu_);
    forgotten_.insert(forgotten_.end(), slots.begin(), slots.end());
  }
  work_.notify_all();
}

// ---- Workers -----------------------------------------------------------------------------------

void DiskLink::WorkerMain() {
  std::unique_lock<std::mutex> lock(mu_);
  while (!stop_) {
    if (DropForgotten(lock)) continue;
    const absl::Time now = options_.clock();
    const std::vector<LinkArrival> arrivals = scheduler_.Arrive(now);
    if (!arrivals.empty()) {
      const Ended ended = BookArrivalsLocked(arrivals, now);
      lock.unlock();
      // Before anybody hears of it: the slots may be used again then.
      for (const BlockId slot : ended.unwanted) (void)store_.Drop(slot);
      for (const std::string& complaint : ended.complaints) {
        if (options_.log) options_.log(complaint);
      }
      lock.lock();
      finished_.insert(finished_.end(), ended.results.begin(), ended.results.end());
      const std::function<void()> on_done = on_done_;
      lock.unlock();
      if (!ended.results.empty() && on_done) on_done();
      lock.lock();
      continue;
    }
    if (const std::optional<LinkSlice> slice = scheduler_.Start(now)) {
      if (slice->first) meter_.BeginTransfer(slice->direction, now);
      Job job = MakeJobLocked(*slice);
      lock.unlock();
      Move(job);
      lock.lock();
      scheduler_.Moved(*slice, BookSliceLocked(slice->id, job), options_.clock());
      work_.notify_all();  // the other worker may have waited for this direction
      continue;
    }
    work_.wait(lock);
  }
}

// A slot may be written again as soon as its drop was asked for: not before it is done.
bool DiskLink::DropForgotten(std::unique_lock<std::mutex>& lock) {
  while (dropping_) work_.wait(lock);
  if (forgotten_.empty()) return false;
  const std::vector<BlockId> slots = std::exchange(forgotten_, {});
  dropping_ = true;
  lock.unlock();
  for (const BlockId slot : slots) (void)store_.Erase(slot);
  lock.lock();
  dropping_ = false;
  work_.notify_all();
  return true;
}

DiskLink::Job DiskLink::MakeJobLocked(const LinkSlice& slice) {
  const Progress& progress = copies_.find(slice.id)->second;
  const size_t width = store_.shape().tokens_per_block.size();
  const size_t begin = progress.done;
  const size_t count = slice.blocks.size();
  SLUICE_CHECK(begin + count <= progress.copy.blocks.size());
  const auto part = [begin, count](const auto& all, size_t each) {
    const auto first = all.begin() + static_cast<std::ptrdiff_t>(begin * each);
    return std::vector(first, first + static_cast<std::ptrdiff_t>(count * each));
  };
  Job job;
  job.direction = slice.direction;
  job.blocks = part(progress.copy.blocks, 1);
  job.identities = part(progress.copy.identities, 1);
  if (slice.direction == LinkDirection::kHostToDisk) job.tokens = part(progress.copy.tokens, width);
  job.statuses.resize(count);
  return job;
}

void DiskLink::Move(Job& job) {
  if (job.direction == LinkDirection::kHostToDisk) {
    WriteBlocks(job);
  } else {
    ReadBlocks(job);
  }
}

void DiskLink::Payloads::Reserve(size_t blocks, Bytes payload) {
  size = payload.size();
  each = static_cast<size_t>(RoundUpToPage(payload.value()));
  if (blocks <= count) return;
  buffer = MakeFileBuffer(static_cast<int64_t>(blocks * each));
  count = blocks;
}

void DiskLink::EncodeBlocks(Job& job) {
  Payloads& payloads = payloads_[0];
  payloads.Reserve(job.blocks.size(), store_.shape().payload);
  for (size_t i = 0; i < job.blocks.size(); ++i) {
    job.statuses[i] = options_.recoder->ToStored(options_.host(job.blocks[i].source),
                                                 payloads.of(i), payloads.plain);
  }
}

void DiskLink::WriteBlocks(Job& job) {
  const StoreShape& shape = store_.shape();
  const size_t width = shape.tokens_per_block.size();
  if (options_.recoder != nullptr) EncodeBlocks(job);
  std::vector<StoreWrite> writes;
  std::vector<size_t> places;  // in `job`
  for (size_t i = 0; i < job.blocks.size(); ++i) {
    if (!job.statuses[i].ok()) continue;
    places.push_back(i);
    StoreWrite write;
    write.slot = job.blocks[i].target;
    write.identity = &job.identities[i];
    write.payload =
        options_.recoder != nullptr ? payloads_[0].of(i) : options_.host(job.blocks[i].source);
    writes.push_back(std::move(write));
  }
  store_.Write(writes, [&](size_t w) {
    const size_t i = places[w];
    const auto tokens = std::span<const TokenId>(job.tokens).subspan(i * width, width);
    return SealBlock(job.identities[i], tokens, writes[w].payload, shape.layers);
  });
  for (size_t w = 0; w < writes.size(); ++w) {
    job.statuses[places[w]] = std::move(writes[w].status);
  }
}

// Ends the check of a payload, and decodes it where a recoder stands between. What was damaged is
// not decoded.
absl::Status DiskLink::TakeIn(const BlockRecord& record, PayloadCheck& check, const Job& job,
                              size_t i, std::span<const std::byte> payload) {
  SLUICE_RETURN_IF_ERROR(check.Finish(record));
  const BlockId target = job.blocks[i].target;
  if (options_.recoder != nullptr) {
    SLUICE_RETURN_IF_ERROR(
        options_.recoder->ToHost(payload, options_.host(target), payloads_[1].plain));
  }
  if (options_.on_arrival) options_.on_arrival(target);
  return absl::OkStatus();
}

void DiskLink::ReadBlocks(Job& job) {
  const bool recoded = options_.recoder != nullptr;
  if (recoded) payloads_[1].Reserve(job.blocks.size(), store_.shape().payload);
  std::vector<StoreRead> reads;
  std::vector<size_t> places;  // in `job`
  for (size_t i = 0; i < job.blocks.size(); ++i) {
    const auto [source, target] = job.blocks[i];
    if (options_.fillable) job.statuses[i] = options_.fillable(target);
    if (!job.statuses[i].ok()) continue;
    places.push_back(i);
    StoreRead read;
    read.slot = source;
    read.out = recoded ? payloads_[1].of(i) : options_.host(target);
    reads.push_back(std::move(read));
  }
  std::vector<PayloadCheck> checks;
  checks.reserve(reads.size());
  for (size_t r = 0; r < reads.size(); ++r) {
    checks.emplace_back(job.identities[places[r]], reads[r].out, store_.shape().layer_bytes(), 0);
    reads[r].check = &checks[r];
  }
  store_.Read(reads, [&](size_t r) {
    StoreRead& read = reads[r];
    const size_t i = places[r];
    absl::Status& status = job.statuses[i];
    status = std::move(read.status);
    // Where nobody else removes blocks, it has lost this one.
    if (absl::IsNotFound(status) && !store_.shared()) {
      status = absl::DataLossError(status.message());
    }
    if (status.ok()) status = TakeIn(read.record, checks[r], job, i, read.out);
  });
  // What could not be read must not be found again after a restart.
  for (const size_t i : places) {
    if (!job.statuses[i].ok()) (void)store_.Drop(job.blocks[i].source);
  }
}

// ---- Books -------------------------------------------------------------------------------------

absl::Status DiskLink::BookSliceLocked(CopyId id, const Job& job) {
  Progress& progress = copies_.find(id)->second;
  bool any_good = false;
  for (size_t i = 0; i < job.statuses.size(); ++i) {
    const absl::Status& status = job.statuses[i];
    if (status.ok()) {
      any_good = true;
      continue;
    }
    progress.failed.push_back(static_cast<int32_t>(progress.done + i));
    if (absl::IsDataLoss(status)) ++progress.corrupt;
    if (IsOfBlock(status)) any_good = true;
    if (progress.error.ok() || IsOfBlock(progress.error)) {
      progress.error = absl::Status(
          status.code(),
          absl::StrCat(store_.place(), " KV slot ",
                       (job.direction == LinkDirection::kDiskToHost ? job.blocks[i].source
                                                                    : job.blocks[i].target)
                           .value(),
                       ": ", status.message()));
    }
  }
  progress.done += job.blocks.size();
  return any_good ? absl::OkStatus() : progress.error;
}

DiskLink::Ended DiskLink::BookArrivalsLocked(const std::vector<LinkArrival>& arrivals,
                                             absl::Time now) {
  Ended ended;
  for (const LinkArrival& arrival : arrivals) {
    if (!arrival.result.has_value()) continue;
    const auto it = copies_.find(arrival.id);
    SLUICE_CHECK(it != copies_.end());
    CopyResult result = ResultOf(*arrival.result, it->second, &ended.unwanted);
    if (arrival.started) {
      meter_.EndTransfer(arrival.direction, result.bytes, result.status.ok(), now);
    } else {
      meter_.DropTransfer(arrival.direction, result.bytes);
    }
    std::string complaint = ComplaintLocked(result, arrival.direction, now);
    if (!complaint.empty()) ended.complaints.push_back(std::move(complaint));
    copies_.erase(it);
    ended.results.push_back(std::move(result));
  }
  return ended;
}

// `unwanted`: slots whose blocks the scheduler will not know of any more.
CopyResult DiskLink::ResultOf(const CopyResult& arrived, Progress& progress,
                              std::vector<BlockId>* unwanted) {
  CopyResult result = arrived;
  const std::vector<Copy::Pair>& blocks = progress.copy.blocks;
  const bool written = progress.copy.direction == LinkDirection::kHostToDisk;
  result.corrupt = progress.corrupt;
  if (absl::IsCancelled(result.status)) {
    for (size_t i = 0; written && i < progress.done; ++i) unwanted->push_back(blocks[i].target);
    return result;
  }
  if (progress.failed.empty()) return result;
  for (size_t i = progress.done; i < blocks.size(); ++i) {
    progress.failed.push_back(static_cast<int32_t>(i));
    if (!written) unwanted->push_back(blocks[i].source);
  }
  result.failed = std::move(progress.failed);
  result.status =
      absl::Status(progress.error.code(), absl::StrCat(result.failed.size(), " of ", blocks.size(),
                                                       " blocks: ", progress.error.message()));
  return result;
}

std::string DiskLink::ComplaintLocked(const CopyResult& result, LinkDirection direction,
                                      absl::Time now) {
  if (result.status.ok() || absl::IsCancelled(result.status)) return "";
  if (absl::IsNotFound(result.status)) return "";  // nothing is wrong with that
  if (now - complained_ < kBetweenComplaints) {
    ++kept_quiet_;
    return "";
  }
  complained_ = now;
  const int64_t quiet = std::exchange(kept_quiet_, 0);
  return absl::StrCat(store_.place(), " KV tier: cannot ",
                      direction == LinkDirection::kDiskToHost ? "read " : "write ",
                      result.status.message(),
                      quiet == 0 ? "" : absl::StrCat(" (and ", quiet, " copies before)"),
                      direction == LinkDirection::kDiskToHost ? "; they are computed again"
                                                              : "; they are not kept");
}

}  // namespace sluice
