#include "backend/cuda/link/link_lane.h"

#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "backend/cuda/kernels/kv_transfer.h"
#include "scheduler/base/check.h"
#include "scheduler/base/status_macros.h"

namespace sluice::cuda {
namespace {

// Slices of small copies are small; so many of them keep a stream busy.
constexpr int kSlots = 16;

}  // namespace

absl::StatusOr<std::unique_ptr<LinkLane>> LinkLane::Create(const CudaKvPools& pools,
                                                           const Options& options,
                                                           DeviceHealth& health,
                                                           MemoryAccount& account) {
  std::unique_ptr<LinkLane> lane(new LinkLane(pools, options, health));
  SLUICE_ASSIGN_OR_RETURN(lane->stream_, Stream::Create(options.priority));
  for (int i = 0; i < kSlots; ++i) SLUICE_RETURN_IF_ERROR(lane->AddSlot(account));
  return lane;
}

absl::Status LinkLane::AddSlot(MemoryAccount& account) {
  auto slot = std::make_unique<Slot>();
  SLUICE_ASSIGN_OR_RETURN(slot->done, Event::Create());
  const Bytes pairs(options_.slice_blocks * static_cast<int64_t>(sizeof(KvTransferPair)));
  SLUICE_ASSIGN_OR_RETURN(slot->pairs, PinnedBuffer::Allocate(pairs, "link slices", account));
  slot->checks = pools_.quantizes() && options_.direction == LinkDirection::kDeviceToHost;
  if (slot->checks) {
    const Bytes flags(options_.slice_blocks * static_cast<int64_t>(sizeof(int32_t)));
    SLUICE_ASSIGN_OR_RETURN(slot->broken, DeviceBuffer::Allocate(flags, "link checks", account));
    SLUICE_ASSIGN_OR_RETURN(slot->broken_copy,
                            PinnedBuffer::Allocate(flags, "link checks", account));
  }
  slots_.push_back(std::move(slot));
  return absl::OkStatus();
}

LinkLane::~LinkLane() {
  if (stream_.get() == nullptr) return;
  stream_.Synchronize().IgnoreError();
}

absl::Status LinkLane::WaitForFence(const Event& fence) {
  // Usually it has passed: the step whose work it follows was waited for.
  if (cudaEventQuery(fence.get()) == cudaSuccess) return absl::OkStatus();
  return health_.Note(cudaStreamWaitEvent(stream_.get(), fence.get()), "cudaStreamWaitEvent");
}

absl::Status LinkLane::Submit(const LinkSlice& slice, LinkFlight* flight) {
  SLUICE_CHECK(!full() && static_cast<int64_t>(slice.blocks.size()) <= options_.slice_blocks);
  flight->copy = slice.id;
  flight->layer = slice.layer;
  flight->blocks = static_cast<int64_t>(slice.blocks.size());
  flight->slot = next_slot_;
  Slot& slot = *slots_[next_slot_];
  next_slot_ = (next_slot_ + 1) % slots_.size();
  PlanTransfer(pools_, options_.direction, slice.layer, slice.blocks, options_.kernel_below,
               &plan_);
  flight->by_kernel = plan_.by_kernel;
  const absl::Status enqueued = plan_.by_kernel ? EnqueueKernel(slice.layer, slot) : EnqueueRuns();
  const absl::Status closed = Close(slot);
  return enqueued.ok() ? closed : enqueued;
}

// By the kernel, from or to mapped host memory.
absl::Status LinkLane::EnqueueKernel(int layer, Slot& slot) {
  std::memcpy(slot.pairs.data(), plan_.pairs.data(), plan_.pairs.size() * sizeof(KvTransferPair));
  const bool load = options_.direction == LinkDirection::kHostToDevice;
  const KvView device = pools_.DeviceView(layer);
  const KvView host = pools_.HostView(layer);
  KvTransferParams params;
  params.pairs = slot.pairs.as<KvTransferPair>();
  params.count = static_cast<int32_t>(plan_.pairs.size());
  params.shape = pools_.page;
  params.from_type = load ? pools_.host_type : pools_.page.type;
  params.to_type = load ? pools_.page.type : pools_.host_type;
  params.from = load ? host : device;
  params.to = load ? device : host;
  params.half = pools_.half;
  params.broken = slot.broken.as<int32_t>();
  const size_t flags = plan_.pairs.size() * sizeof(int32_t);
  cudaStream_t const stream = stream_.get();
  if (slot.checks) {
    SLUICE_RETURN_IF_ERROR(
        health_.Note(cudaMemsetAsync(params.broken, 0, flags, stream), "cudaMemset"));
  }
  SLUICE_RETURN_IF_ERROR(health_.Note(LaunchKvTransfer(params, stream), "launch of kv_transfer"));
  if (!slot.checks) return absl::OkStatus();
  return health_.Note(cudaMemcpyAsync(slot.broken_copy.data(), params.broken, flags,
                                      cudaMemcpyDeviceToHost, stream),
                      "cudaMemcpyAsync");
}

// By the copy engine: stretches of pages as two-dimensional copies, all else in one call.
absl::Status LinkLane::EnqueueRuns() {
  const cudaMemcpyKind kind = options_.direction == LinkDirection::kHostToDevice
                                  ? cudaMemcpyHostToDevice
                                  : cudaMemcpyDeviceToHost;
  cudaStream_t const stream = stream_.get();
  batch_to_.clear();
  batch_from_.clear();
  batch_bytes_.clear();
  for (const CopyRun& run : plan_.runs) {
    const auto width = static_cast<size_t>(run.width);
    if (run.rows == 1) {
      batch_to_.push_back(run.to);
      batch_from_.push_back(run.from);
      batch_bytes_.push_back(width);
      continue;
    }
    SLUICE_RETURN_IF_ERROR(
        health_.Note(cudaMemcpy2DAsync(run.to, static_cast<size_t>(run.to_pitch), run.from,
                                       static_cast<size_t>(run.from_pitch), width,
                                       static_cast<size_t>(run.rows), kind, stream),
                     "cudaMemcpy2DAsync"));
  }
  const size_t singles = batch_to_.size();
#if CUDART_VERSION >= 13000
  if (singles > 1) {
    // In stream order: the source may be what the stream has waited for.
    cudaMemcpyAttributes attributes{};
    attributes.srcAccessOrder = cudaMemcpySrcAccessOrderStream;
    size_t first = 0;
    return health_.Note(
        cudaMemcpyBatchAsync(batch_to_.data(), batch_from_.data(), batch_bytes_.data(), singles,
                             &attributes, &first, 1, stream),
        "cudaMemcpyBatchAsync");
  }
#endif
  for (size_t i = 0; i < singles; ++i) {
    SLUICE_RETURN_IF_ERROR(
        health_.Note(cudaMemcpyAsync(batch_to_[i], batch_from_[i], batch_bytes_[i], kind, stream),
                     "cudaMemcpyAsync"));
  }
  return absl::OkStatus();
}

// Marks the end of the slice. Where that cannot be recorded, waits for it.
absl::Status LinkLane::Close(Slot& slot) {
  slot.recorded =
      health_.Note(cudaEventRecord(slot.done.get(), stream_.get()), "cudaEventRecord").ok();
  if (slot.recorded) return absl::OkStatus();
  return health_.Wait([&] { return cudaStreamSynchronize(stream_.get()); },
                      "cudaStreamSynchronize");
}

absl::Status LinkLane::WaitForOldest(std::vector<int64_t>* refused) {
  const LinkFlight& flight = flights_.front();
  Slot& slot = *slots_[flight.slot];
  if (slot.recorded) {
    SLUICE_RETURN_IF_ERROR(health_.Wait([&] { return cudaEventSynchronize(slot.done.get()); },
                                        "copy between host and device"));
  }
  if (!slot.checks) return absl::OkStatus();
  const int32_t* const broken = slot.broken_copy.as<int32_t>();
  for (int64_t i = 0; i < flight.blocks; ++i) {
    if (broken[i] != 0) refused->push_back(flight.first + i);
  }
  return absl::OkStatus();
}

void LinkLane::Push(const LinkFlight& flight) {
  flights_.push_back(flight);
  blocks_ += flight.blocks;
}

LinkFlight LinkLane::Pop() {
  const LinkFlight flight = flights_.front();
  flights_.pop_front();
  blocks_ -= flight.blocks;
  return flight;
}

const LinkFlight* LinkLane::Find(CopyId copy, int layer) const {
  for (auto it = flights_.rbegin(); it != flights_.rend(); ++it) {
    if (it->copy == copy && it->layer == layer && it->completes_layer) return &*it;
  }
  return nullptr;
}

absl::Status LinkLane::MakeWait(cudaStream_t stream, const LinkFlight& flight) {
  const Slot& slot = *slots_[flight.slot];
  if (!slot.recorded) return absl::OkStatus();
  return health_.Note(cudaStreamWaitEvent(stream, slot.done.get()), "cudaStreamWaitEvent");
}

}  // namespace sluice::cuda
