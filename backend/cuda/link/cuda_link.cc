// What callers see of CudaLink. What its threads do is in cuda_link_worker.cc.
#include "backend/cuda/link/cuda_link.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "scheduler/base/check.h"
#include "scheduler/base/status_macros.h"

namespace sluice::cuda {
namespace {

// Bounds the lists of pairs that the kernel reads.
constexpr int64_t kMostSliceBlocks = 4096;
constexpr int kMostSlicesInFlight = 16;

absl::Status Validate(const CudaKvPools& pools, const CudaLinkOptions& options) {
  const auto bad = [](absl::string_view name, double value, absl::string_view want) {
    return absl::InvalidArgumentError(
        absl::StrCat("link option ", name, " is ", value, "; want ", want));
  };
  if (!(options.rate > ByteRate(0))) return bad("rate", options.rate.value(), "more than 0");
  if (options.slice_time <= absl::ZeroDuration()) {
    return bad("slice_time", absl::ToDoubleSeconds(options.slice_time), "more than 0 seconds");
  }
  if (options.slices_in_flight < 1 || options.slices_in_flight > kMostSlicesInFlight) {
    return bad("slices_in_flight", options.slices_in_flight, "1 to 16");
  }
  if (pools.layers < 1 || pools.page_bytes() < 16 || pools.page_bytes() % 16 != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("KV pages of ", pools.page_bytes(), " bytes in ", pools.layers,
                     " layers; want at least one layer and a multiple of 16 bytes"));
  }
  if (pools.quantizes() && pools.page.type != KvType::kHalf) {
    return absl::InvalidArgumentError(
        "the offload codec needs 16-bit KV on the device; store 8-bit KV as it is");
  }
  return absl::OkStatus();
}

LinkSchedulerOptions SchedulerOptions(const CudaKvPools& pools, const CudaLinkOptions& options) {
  // Unpaced: the link itself says how fast it is.
  LinkSchedulerOptions scheduler;
  scheduler.layers = static_cast<int>(pools.layers);
  scheduler.layer_bytes = Bytes(pools.host_page_bytes());
  scheduler.slice_bytes = Bytes(SliceBlocks(pools, options) * pools.host_page_bytes());
  scheduler.write_back_share = options.write_back_share;
  scheduler.promote_after = options.promote_after;
  return scheduler;
}

bool IsDisk(LinkDirection direction) {
  return direction == LinkDirection::kDiskToHost || direction == LinkDirection::kHostToDisk;
}

}  // namespace

int64_t SliceBlocks(const CudaKvPools& pools, const CudaLinkOptions& options) {
  const int64_t bytes = pools.host_page_bytes();
  double unit = (Bytes(bytes) / options.rate).value();
  // Blocks that are no neighbours are descriptors of their own, unless the kernel takes them.
  const bool by_kernel = pools.quantizes() || bytes < options.kernel_below.value();
  if (!by_kernel) unit = std::max(unit, options.per_descriptor.value());
  const double time = absl::ToDoubleSeconds(options.slice_time) / options.slices_in_flight;
  // A hair above, so that a slice of exactly that time is not cut short by rounding.
  const double fits = std::min(time / unit * (1 + 1e-9), static_cast<double>(kMostSliceBlocks));
  return std::max<int64_t>(1, static_cast<int64_t>(fits));
}

absl::StatusOr<std::unique_ptr<CudaLink>> CudaLink::Create(
    const DeviceContext& context, const CudaKvPools& pools, const CudaLinkOptions& options,
    DeviceHealth& health, MemoryAccount& account, ActivityMeter& meter) {
  SLUICE_RETURN_IF_ERROR(Validate(pools, options));
  SLUICE_RETURN_IF_ERROR(SchedulerOptions(pools, options).Validate());
  std::unique_ptr<CudaLink> link(new CudaLink(context, pools, options, health, meter));
  for (const LinkDirection direction :
       {LinkDirection::kHostToDevice, LinkDirection::kDeviceToHost}) {
    const bool load = direction == LinkDirection::kHostToDevice;
    // A step waits for what a load's kernel writes, and nothing waits for a store's.
    const LinkLane::Options lane{direction, link->slice_blocks_, options.slices_in_flight,
                                 options.kernel_below,
                                 load ? context.highest_priority() : context.lowest_priority()};
    SLUICE_ASSIGN_OR_RETURN(link->line(direction).lane,
                            LinkLane::Create(link->pools_, lane, health, account));
  }
  if (!options.own_threads) return link;
  for (Line& line : link->lines_) {
    line.worker = std::thread([raw = link.get(), &line] { raw->WorkerMain(line); });
  }
  return link;
}

CudaLink::CudaLink(const DeviceContext& context, const CudaKvPools& pools,
                   const CudaLinkOptions& options, DeviceHealth& health, ActivityMeter& meter)
    : context_(context),
      pools_(pools),
      options_(options),
      health_(health),
      meter_(meter),
      slice_blocks_(SliceBlocks(pools, options)),
      scheduler_(SchedulerOptions(pools, options)) {}

CudaLink::~CudaLink() {
  {
    const std::lock_guard<std::mutex> lock(mu_);
    stop_ = true;
  }
  work_.notify_all();
  progress_.notify_all();
  for (Line& line : lines_) {
    if (line.worker.joinable()) line.worker.join();
  }
}

void CudaLink::SetListener(std::function<void()> on_done) {
  const std::lock_guard<std::mutex> lock(mu_);
  on_done_ = std::move(on_done);
}

// An event behind everything that `compute` holds now, or null if that has run already.
absl::StatusOr<std::shared_ptr<Event>> CudaLink::RecordFence(cudaStream_t compute) {
  absl::StatusOr<std::shared_ptr<Event>> fence = fences_.Lend();
  if (fence.ok() &&
      health_.Note(cudaEventRecord((*fence)->get(), compute), "cudaEventRecord").ok()) {
    return fence;
  }
  // Out of events: the slow way.
  SLUICE_RETURN_IF_ERROR(health_.Note(cudaStreamSynchronize(compute), "cudaStreamSynchronize"));
  return std::shared_ptr<Event>();
}

void CudaLink::Start(std::span<const Copy> copies, cudaStream_t compute) {
  if (copies.empty()) return;
  absl::Status status = health_.status();
  std::shared_ptr<Event> fence;
  if (status.ok() && compute != nullptr) {
    absl::StatusOr<std::shared_ptr<Event>> recorded = RecordFence(compute);
    status = recorded.status();
    if (recorded.ok()) fence = *std::move(recorded);
  }
  {
    const std::lock_guard<std::mutex> lock(mu_);
    const absl::Time now = options_.clock();
    for (const Copy& copy : copies) {
      newest_ = std::max(newest_, copy.id);
      if (IsDisk(copy.direction)) {
        RefuseLocked(copy,
                     absl::FailedPreconditionError(absl::StrCat(
                         "copy ", copy.id.value(),
                         " is from or to a disk tier, which is not the CUDA link's; it belongs to "
                         "the disk link")),
                     now);
      } else if (!status.ok()) {
        RefuseLocked(copy, status, now);
      } else if (lost_) {
        RefuseLocked(copy, health_.status(), now);
      } else {
        QueueLocked(copy, fence, now);
      }
    }
  }
  work_.notify_all();
}

void CudaLink::QueueLocked(const Copy& copy, const std::shared_ptr<Event>& fence, absl::Time now) {
  const bool load = copy.direction == LinkDirection::kHostToDevice;
  for (const Copy::Pair& pair : copy.blocks) {
    const BlockId device = load ? pair.target : pair.source;
    const BlockId host = load ? pair.source : pair.target;
    SLUICE_CHECK(device.valid() && device.value() < pools_.device_blocks.value());
    SLUICE_CHECK(host.valid() && host.value() < pools_.host_blocks.value());
  }
  const auto [it, added] = copies_.try_emplace(copy.id);
  SLUICE_CHECK(added);
  Progress& progress = it->second;
  progress.direction = copy.direction;
  progress.blocks = static_cast<int64_t>(copy.blocks.size());
  progress.bytes = Bytes(progress.blocks * pools_.host_block_bytes().value());
  progress.fence = fence;
  meter_.QueueTransfer(copy.direction, progress.bytes);
  scheduler_.Push(copy, now);
}

void CudaLink::RefuseLocked(const Copy& copy, const absl::Status& why, absl::Time now) {
  const auto [it, added] = copies_.try_emplace(copy.id);
  SLUICE_CHECK(added);
  it->second.failure = why;
  const auto blocks = static_cast<int64_t>(copy.blocks.size());
  finished_.push_back({copy.id, why, Bytes(blocks * pools_.host_block_bytes().value()), now, now});
  news_ = true;
  Remember(copy.id, &it->second);
}

void CudaLink::Revoke(std::span<const CopyId> copies) {
  if (copies.empty()) return;
  {
    const std::lock_guard<std::mutex> lock(mu_);
    if (lost_) return;
    const absl::Time now = options_.clock();
    for (const CopyId id : copies) scheduler_.Revoke(id, now);
  }
  work_.notify_all();
}

std::vector<CopyResult> CudaLink::TakeFinished() {
  const std::lock_guard<std::mutex> lock(mu_);
  return std::exchange(finished_, {});
}

bool CudaLink::Settled(CopyId id, int layer) {
  const std::lock_guard<std::mutex> lock(mu_);
  const auto it = copies_.find(id);
  return it == copies_.end() || it->second.Failed() || it->second.layers_done > layer;
}

bool CudaLink::SubmittedLocked(CopyId id, int layer) const {
  const auto it = copies_.find(id);
  if (it == copies_.end()) return true;
  const Progress& progress = it->second;
  return progress.Failed() || progress.units >= (layer + 1) * progress.blocks;
}

absl::Status CudaLink::WaitForLayer(cudaStream_t stream, std::span<const CopyId> loads, int layer) {
  Lock lock(mu_);
  for (const CopyId id : loads) {
    if (id.valid() && id <= newest_) continue;
    return absl::InternalError(
        absl::StrCat("a step waits for copy ", id.value(), ", which was never started"));
  }
  const auto submitted = [&] {
    return stop_ || std::all_of(loads.begin(), loads.end(),
                                [&](CopyId id) { return SubmittedLocked(id, layer); });
  };
  while (!submitted()) {
    if (options_.own_threads) {
      progress_.wait(lock);
    } else if (!PumpLocked(true, &lock)) {
      return absl::InternalError("a step waits for a copy that nothing can move");
    }
  }
  absl::Status status = WaitForFlights(stream, loads, layer);
  if (!status.ok()) WaitUntilOver(loads, &lock);
  return status;
}

// Until nothing writes the targets any more: the step that cannot wait reads them, if for nothing.
void CudaLink::WaitUntilOver(std::span<const CopyId> loads, Lock* lock) {
  const auto over = [&] {
    return stop_ || std::all_of(loads.begin(), loads.end(), [&](CopyId id) {
             const auto it = copies_.find(id);
             return it == copies_.end() || it->second.remembered;
           });
  };
  while (!over()) {
    if (options_.own_threads) {
      progress_.wait(*lock);
    } else if (!PumpLocked(true, lock)) {
      return;
    }
  }
}

// The newest slice of each direction will do: a stream keeps its order.
absl::Status CudaLink::WaitForFlights(cudaStream_t stream, std::span<const CopyId> loads,
                                      int layer) {
  std::array<const LinkFlight*, 2> newest{};
  for (const CopyId id : loads) {
    const auto it = copies_.find(id);
    if (it == copies_.end()) continue;
    const Progress& progress = it->second;
    if (progress.Failed()) return progress.Why();
    if (progress.layers_done > layer) continue;
    const LinkFlight* const flight = line(progress.direction).lane->Find(id, layer);
    if (flight == nullptr) return absl::CancelledError("the link is being destroyed");
    const LinkFlight*& latest = newest[static_cast<size_t>(progress.direction)];
    if (latest == nullptr || latest->sequence < flight->sequence) latest = flight;
  }
  for (size_t i = 0; i < lines_.size(); ++i) {
    if (newest[i] == nullptr) continue;
    SLUICE_RETURN_IF_ERROR(lines_[i].lane->MakeWait(stream, *newest[i]));
  }
  return absl::OkStatus();
}

bool CudaLink::Pump(bool wait) {
  Lock lock(mu_);
  return PumpLocked(wait, &lock);
}

}  // namespace sluice::cuda
