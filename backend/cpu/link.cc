#include "backend/cpu/link.h"

#include <sys/prctl.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "scheduler/base/check.h"
#include "scheduler/base/status_macros.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

namespace sluice {
namespace {

// Failed copies that are remembered, for steps that are still going to wait for them. The scheduler
// hears of a failure within a step and names the copy no more.
constexpr size_t kFailuresRemembered = 4096;

LinkSchedulerOptions SchedulerOptions(const KvPools& pools, double bytes_per_second) {
  LinkSchedulerOptions options;
  options.layers = static_cast<int>(pools.layout().layers);
  options.layer_bytes = Bytes(pools.host_layer_bytes());
  for (LineOptions& line : options.lines) line.rate = ByteRate(bytes_per_second);
  return options;
}

bool IsDisk(LinkDirection direction) {
  return direction == LinkDirection::kDiskToHost || direction == LinkDirection::kHostToDisk;
}

}  // namespace

Link::Link(const KvPools& pools, const LinkOptions& options, ActivityMeter& meter)
    : pools_(pools),
      verify_(options.verify),
      clock_(options.clock),
      meter_(meter),
      scheduler_(SchedulerOptions(pools, options.bytes_per_second)) {
  if (verify_) {
    checksums_.resize(pools.host_blocks().size() * static_cast<size_t>(pools.layout().layers));
  }
  if (pools.host_codec() != nullptr) {
    plain_.resize(static_cast<size_t>(pools.layout().host_layer_bytes()));
  }
  worker_ = std::thread([this] { WorkerMain(); });
}

Link::~Link() {
  {
    std::lock_guard<std::mutex> lock(mu_);
    stop_ = true;
  }
  work_.notify_all();
  worker_.join();
}

void Link::SetListener(std::function<void()> on_done) {
  std::lock_guard<std::mutex> lock(mu_);
  on_done_ = std::move(on_done);
}

void Link::Start(std::span<const Copy> copies) {
  if (copies.empty()) return;
  {
    std::lock_guard<std::mutex> lock(mu_);
    const absl::Time now = clock_();
    for (const Copy& copy : copies) {
      const bool added = copies_.try_emplace(copy.id).second;
      SLUICE_CHECK(added);
      newest_ = std::max(newest_, copy.id);
      if (IsDisk(copy.direction)) {
        RefuseLocked(copy, now);
      } else {
        QueueLocked(copy, now);
      }
    }
  }
  work_.notify_one();
}

void Link::QueueLocked(const Copy& copy, absl::Time now) {
  for (const Copy::Pair& pair : copy.blocks) {
    const bool load = copy.direction == LinkDirection::kHostToDevice;
    const BlockId device = load ? pair.target : pair.source;
    const BlockId host = load ? pair.source : pair.target;
    SLUICE_CHECK(device.valid() && device.value() < pools_.device_blocks().value());
    SLUICE_CHECK(host.valid() && host.value() < pools_.host_blocks().value());
  }
  const auto blocks = static_cast<int64_t>(copy.blocks.size());
  meter_.QueueTransfer(copy.direction, Bytes(blocks * pools_.host_block_bytes().value()));
  scheduler_.Push(copy, now);
}

void Link::RefuseLocked(const Copy& copy, absl::Time now) {
  const absl::Status status = absl::FailedPreconditionError(absl::StrCat(
      "copy ", copy.id.value(),
      " is from or to a disk tier, and the CPU backend has none; run without disk blocks"));
  const auto blocks = static_cast<int64_t>(copy.blocks.size());
  finished_.push_back(
      {copy.id, status, Bytes(blocks * pools_.host_block_bytes().value()), now, now});
  Remember(copy.id, status);
  refused_ = true;
}

void Link::Remember(CopyId id, const absl::Status& failure) {
  copies_[id].status = failure;
  failed_.push_back(id);
  if (failed_.size() <= kFailuresRemembered) return;
  copies_.erase(failed_.front());
  failed_.pop_front();
}

void Link::Revoke(std::span<const CopyId> copies) {
  if (copies.empty()) return;
  {
    std::lock_guard<std::mutex> lock(mu_);
    const absl::Time now = clock_();
    for (const CopyId id : copies) scheduler_.Revoke(id, now);
  }
  work_.notify_one();
}

std::vector<CopyResult> Link::TakeFinished() {
  std::lock_guard<std::mutex> lock(mu_);
  return std::exchange(finished_, {});
}

void Link::NoteHostBlock(BlockId block) {
  if (!verify_) return;
  const auto layers = static_cast<size_t>(pools_.layout().layers);
  for (size_t layer = 0; layer < layers; ++layer) {
    checksums_[block.index() * layers + layer] =
        XXH3_64bits(pools_.HostLayer(static_cast<int64_t>(layer), block),
                    static_cast<size_t>(pools_.host_layer_bytes()));
  }
}

bool Link::SettledLocked(CopyId id, int layer) const {
  const auto it = copies_.find(id);
  return it == copies_.end() || it->second.layers > layer || !it->second.status.ok();
}

bool Link::Settled(CopyId id, int layer) {
  std::lock_guard<std::mutex> lock(mu_);
  return SettledLocked(id, layer);
}

absl::Status Link::WaitForLayer(CopyId id, int layer) {
  std::unique_lock<std::mutex> lock(mu_);
  if (!id.valid() || id > newest_) {
    return absl::InternalError(
        absl::StrCat("a step waits for copy ", id.value(), ", which was never started"));
  }
  progress_.wait(lock, [&] { return SettledLocked(id, layer); });
  const auto it = copies_.find(id);
  return it == copies_.end() ? absl::OkStatus() : it->second.status;
}

void Link::WorkerMain() {
  // Wake up within microseconds of the time asked for, not the default 50.
  prctl(PR_SET_TIMERSLACK, 1000UL, 0UL, 0UL, 0UL);
  std::unique_lock<std::mutex> lock(mu_);
  while (!stop_) {
    const absl::Time now = clock_();
    const std::vector<LinkArrival> arrivals = scheduler_.Arrive(now);
    if (!arrivals.empty() || refused_) {
      const bool refused = std::exchange(refused_, false);
      const bool ended = BookArrivals(arrivals, now) || refused;
      const std::function<void()> on_done = on_done_;
      lock.unlock();
      progress_.notify_all();
      if (ended && on_done) on_done();
      lock.lock();
      continue;
    }
    if (const std::optional<LinkSlice> slice = scheduler_.Start(now)) {
      if (slice->first) meter_.BeginTransfer(slice->direction, now);
      lock.unlock();
      const absl::Status status = MoveSlice(*slice);
      lock.lock();
      scheduler_.Moved(*slice, status, clock_());
      continue;
    }
    const absl::Time next = scheduler_.next_event();
    if (next == absl::InfiniteFuture()) {
      work_.wait(lock);
    } else {
      work_.wait_for(lock, absl::ToChronoNanoseconds(next - now));
    }
  }
}

// Returns whether any copy has ended.
bool Link::BookArrivals(const std::vector<LinkArrival>& arrivals, absl::Time now) {
  bool ended = false;
  for (const LinkArrival& arrival : arrivals) {
    const auto it = copies_.find(arrival.id);
    SLUICE_CHECK(it != copies_.end());
    it->second.layers = arrival.layers;
    if (!arrival.result.has_value()) continue;
    ended = true;
    const CopyResult& result = *arrival.result;
    if (arrival.started) {
      meter_.EndTransfer(arrival.direction, result.bytes, result.status.ok(), now);
    } else {
      meter_.DropTransfer(arrival.direction, result.bytes);
    }
    if (result.status.ok()) {
      copies_.erase(it);
    } else {
      Remember(arrival.id, result.status);
    }
    finished_.push_back(result);
  }
  return ended;
}

absl::Status Link::MoveSlice(const LinkSlice& slice) {
  for (size_t i = 0; i < slice.blocks.size(); ++i) {
    const bool last = i + 1 == slice.blocks.size();
    const BlockId next = last ? BlockId() : slice.blocks[i + 1].source;
    SLUICE_RETURN_IF_ERROR(MoveBlock(slice.direction, slice.layer, slice.blocks[i], next));
  }
  return absl::OkStatus();
}

absl::Status Link::MoveBlock(LinkDirection direction, int layer, const Copy::Pair& pair,
                             BlockId next) {
  const KvLayout& layout = pools_.layout();
  const bool load = direction == LinkDirection::kHostToDevice;
  const BlockId host_block = load ? pair.source : pair.target;
  std::byte* host = pools_.HostLayer(layer, host_block);
  std::byte* page = pools_.Page(layer, load ? pair.target : pair.source);
  const std::byte* ahead = nullptr;
  if (next.valid()) ahead = load ? pools_.HostLayer(layer, next) : pools_.Page(layer, next);
  const auto host_bytes = static_cast<size_t>(pools_.host_layer_bytes());
  const size_t checksum =
      host_block.index() * static_cast<size_t>(layout.layers) + static_cast<size_t>(layer);
  if (!load) {
    SLUICE_RETURN_IF_ERROR(StoreLayer(page, host, ahead));
    if (verify_) checksums_[checksum] = XXH3_64bits(host, host_bytes);
    return absl::OkStatus();
  }
  if (verify_ && checksums_[checksum] != XXH3_64bits(host, host_bytes)) {
    return absl::DataLossError(absl::StrCat("host KV block ", host_block.value(), ", layer ", layer,
                                            ": checksum mismatch; the block is not used"));
  }
  LoadLayer(host, page, ahead);
  return absl::OkStatus();
}

absl::Status Link::StoreLayer(const std::byte* page, std::byte* host, const std::byte* next) {
  const KvCodec* codec = pools_.host_codec();
  if (codec == nullptr) {
    // A checksum reads what was written.
    StorePage(pools_.layout(), page, host, {.stream = !verify_, .next = next});
    return absl::OkStatus();
  }
  StorePage(pools_.layout(), page, plain_.data(), {.next = next});
  return codec->EncodeLayer(plain_, {host, static_cast<size_t>(pools_.host_layer_bytes())});
}

void Link::LoadLayer(const std::byte* host, std::byte* page, const std::byte* next) {
  const KvCodec* codec = pools_.host_codec();
  if (codec == nullptr) {
    LoadPage(pools_.layout(), host, page, {.stream = true, .next = next});
    return;
  }
  codec->DecodeLayer({host, static_cast<size_t>(pools_.host_layer_bytes())}, plain_);
  LoadPage(pools_.layout(), plain_.data(), page, {.stream = true});
}

}  // namespace sluice
