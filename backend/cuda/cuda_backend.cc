#include "backend/cuda/cuda_backend.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "backend/cuda/device/context.h"
#include "backend/cuda/device/memory.h"
#include "backend/cuda/device/pinned_pool.h"
#include "backend/cuda/device/pool_size.h"
#include "backend/cuda/device/status.h"
#include "backend/cuda/device/stream.h"
#include "backend/cuda/forward/forward.h"
#include "backend/cuda/gemm_choice.h"
#include "backend/cuda/kv_shape.h"
#include "backend/cuda/link/cuda_link.h"
#include "backend/cuda/link/kv_pools.h"
#include "backend/cuda/stall_watch.h"
#include "backend/cuda/step_check.h"
#include "backend/cuda/step_runner.h"
#include "backend/cuda/weights/device_weights.h"
#include "backend/kv/kv_codec.h"
#include "backend/kv/storage_link.h"
#include "scheduler/base/check.h"
#include "scheduler/base/status_macros.h"

namespace sluice {
namespace {

using cuda::CudaKvPools;
using cuda::CudaLink;
using cuda::DeviceBuffer;
using cuda::DeviceContext;
using cuda::DeviceHealth;
using cuda::DeviceWeights;
using cuda::Forward;
using cuda::GemmEngine;
using cuda::MemoryAccount;
using cuda::PinnedPool;
using cuda::StallWatch;
using cuda::StepRunner;
using cuda::Stream;

// Slots of the pool are numbered with 32 bits (rope_kv_write.h).
constexpr int64_t kMostSlots = INT32_MAX;

absl::Status OutOfRange(const char* option, int64_t value, const char* want) {
  return absl::InvalidArgumentError(absl::StrCat(option, " is ", value, "; want ", want));
}

Blocks MostBlocks(const CudaBackendOptions& options) {
  return Blocks(kMostSlots / options.tokens_per_block.value());
}

absl::Status CheckCodecs(KvCodecKind device, KvCodecKind host) {
  if (device == KvCodecKind::kInt4) {
    return absl::UnimplementedError(
        "the CUDA kernels know no int4; use --kv-cache-dtype=auto, fp8 or int8");
  }
  if (host == KvCodecKind::kInt4) {
    return absl::UnimplementedError(
        "the CUDA kernels know no int4; use --kv-host-codec=raw, fp8 or int8");
  }
  if (device == KvCodecKind::kRaw || host == KvCodecKind::kRaw || host == device) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(absl::StrCat(
      "KV is ", CudaBackend::KvDType(device), " on the device and cannot become ",
      CudaBackend::KvDType(host),
      " on the host: nothing is rounded twice; use --kv-host-codec=raw, which keeps the bytes"));
}

absl::Status Validate(const ModelConfig& config, const CudaBackendOptions& options) {
  const int64_t page = options.tokens_per_block.value();
  if (page < 16 || page > 256 || page % 16 != 0) {
    return OutOfRange("tokens_per_block", page, "a multiple of 16 from 16 to 256");
  }
  if (options.device_blocks.has_value() &&
      (*options.device_blocks < Blocks(1) || *options.device_blocks > MostBlocks(options))) {
    return OutOfRange("device_blocks", options.device_blocks->value(),
                      "at least 1, and less than 2^31 tokens");
  }
  if (options.host_blocks < Blocks(0) || options.host_blocks > Blocks(INT32_MAX)) {
    return OutOfRange("host_blocks", options.host_blocks.value(), "0 or more");
  }
  if (options.max_model_len < Tokens(1)) {
    return OutOfRange("max_model_len", options.max_model_len.value(), "at least 1");
  }
  if (options.max_step_tokens < Tokens(1)) {
    return OutOfRange("max_step_tokens", options.max_step_tokens.value(), "at least 1");
  }
  SLUICE_RETURN_IF_ERROR(CheckCodecs(options.device_codec, options.host_codec));
  return cuda::CheckSupported(config);
}

class CudaBackendImpl : public Backend {
 public:
  CudaBackendImpl(const ModelConfig& config, const CudaBackendOptions& options)
      : config_(config), options_(options), meter_(options_.clock()) {}

  absl::Status Init(const Checkpoint& checkpoint);

  const BackendInfo& info() const override { return info_; }
  void SetCopyListener(std::function<void()> on_done) override {
    storage_.SetCopyListener(on_done);
    link_->SetListener(std::move(on_done));
  }
  void StartCopies(std::span<const Copy> copies) override {
    storage_.StartCopies(copies,
                         [this](std::span<const Copy> own) { link_->Start(own, compute_.get()); });
  }
  void RevokeCopies(std::span<const CopyId> copies) override {
    link_->Revoke(copies);
    storage_.RevokeCopies(copies);
  }
  void ForgetDiskBlocks(std::span<const BlockId> slots) override {
    storage_.ForgetDiskBlocks(slots);
  }
  std::vector<CopyResult> TakeFinishedCopies() override;
  StepResult Run(const StepPlan& plan) override {
    Launch(plan);
    return Wait();
  }
  void Launch(const StepPlan& plan) override;
  StepResult Wait() override { return runner_->Wait(); }
  ActivitySnapshot activity() override { return meter_.Snapshot(options_.clock()); }

 private:
  absl::Status StartModel(const Checkpoint& checkpoint);
  absl::StatusOr<Blocks> DeviceBlocks() const;
  KvCodecKind HostCodec() const {
    return CudaBackend::HostCodec(options_.device_codec, options_.host_codec);
  }
  absl::Status AllocatePools();
  absl::Status StartLink();
  absl::Status OpenStorage();
  absl::Status FillInfo();

  const ModelConfig config_;
  const CudaBackendOptions options_;
  BackendInfo info_;
  ActivityMeter meter_;

  // In order of construction; each uses only earlier ones.
  std::unique_ptr<DeviceContext> context_;
  DeviceHealth health_;
  MemoryAccount account_;
  Stream compute_;
  std::unique_ptr<GemmEngine> gemm_;
  std::unique_ptr<DeviceWeights> weights_;
  std::unique_ptr<Forward> forward_;
  CudaKvPools pools_;
  DeviceBuffer device_pool_;
  std::unique_ptr<PinnedPool> host_pool_;
  std::unique_ptr<CudaLink> link_;
  StorageLink storage_;
  std::unique_ptr<StallWatch> stalls_;
  std::unique_ptr<StepRunner> runner_;
};

absl::Status CudaBackendImpl::Init(const Checkpoint& checkpoint) {
  SLUICE_ASSIGN_OR_RETURN(DeviceContext context, DeviceContext::Open(options_.device));
  context_ = std::make_unique<DeviceContext>(std::move(context));
  SLUICE_RETURN_IF_ERROR(StartModel(checkpoint));
  SLUICE_RETURN_IF_ERROR(AllocatePools());
  SLUICE_RETURN_IF_ERROR(StartLink());
  SLUICE_RETURN_IF_ERROR(OpenStorage());
  stalls_ = std::make_unique<StallWatch>(*context_, meter_, options_.clock);
  runner_ = std::make_unique<StepRunner>(
      StepRunner::Parts{*forward_, *link_, *stalls_, health_, account_, compute_.get()},
      options_.tokens_per_block, config_.vocab);
  return FillInfo();
}

// Everything that takes device memory but the pool, which gets the rest.
absl::Status CudaBackendImpl::StartModel(const Checkpoint& checkpoint) {
  // Copies know no priorities, and the gather kernels of the link are short: they go first.
  SLUICE_ASSIGN_OR_RETURN(compute_, Stream::Create(context_->lowest_priority()));
  SLUICE_ASSIGN_OR_RETURN(
      weights_,
      DeviceWeights::Load(
          config_, checkpoint, compute_.get(), options_.weight_piece, account_, options_.progress,
          options_.fp8_weights ? cuda::WeightType::kFp8E4m3 : cuda::WeightType::kBf16));
  SLUICE_ASSIGN_OR_RETURN(gemm_, cuda::MakeServingGemmEngine(options_.batch_invariant));
  cuda::ForwardOptions forward;
  forward.max_positions = options_.max_model_len;
  forward.max_rows = options_.max_step_tokens;
  forward.multiprocessors = context_->info().multiprocessors;
  SLUICE_ASSIGN_OR_RETURN(
      forward_, Forward::Create(config_, *weights_, forward, *gemm_, compute_.get(), account_));
  return absl::OkStatus();
}

absl::StatusOr<Blocks> CudaBackendImpl::DeviceBlocks() const {
  if (options_.device_blocks.has_value()) return *options_.device_blocks;
  SLUICE_ASSIGN_OR_RETURN(const DeviceContext::Memory memory, context_->QueryMemory());
  cuda::PoolRequest request;
  request.total = memory.total;
  request.free = memory.free;
  request.utilization = options_.gpu_memory_utilization;
  request.block =
      cuda::BlockBytes(config_, options_.tokens_per_block, cuda::TypeOf(options_.device_codec));
  request.most = MostBlocks(options_);
  return cuda::DevicePoolBlocks(request);
}

absl::Status CudaBackendImpl::AllocatePools() {
  pools_.page =
      cuda::PageShape(config_, options_.tokens_per_block, cuda::TypeOf(options_.device_codec));
  pools_.host_type = cuda::TypeOf(HostCodec());
  pools_.layers = config_.layers;
  SLUICE_ASSIGN_OR_RETURN(pools_.device_blocks, DeviceBlocks());
  pools_.host_blocks = options_.host_blocks;
  SLUICE_ASSIGN_OR_RETURN(
      device_pool_, DeviceBuffer::Allocate(pools_.device_bytes(), "the device KV pool", account_));
  pools_.device = device_pool_.as<std::byte>();
  if (options_.host_blocks > Blocks(0)) {
    cuda::PinnedPoolOptions host;
    host.size = pools_.host_bytes();
    host.granule = pools_.host_block_bytes();
    SLUICE_ASSIGN_OR_RETURN(host_pool_, PinnedPool::Create(*context_, host, account_));
    pools_.host = host_pool_->data();
    pools_.host_chunk = Blocks(host_pool_->chunk().value() / pools_.host_block_bytes().value());
  }
  forward_->SetPools(pools_);
  return absl::OkStatus();
}

absl::Status CudaBackendImpl::StartLink() {
  cuda::CudaLinkOptions link;
  link.rate = options_.link.rate;
  link.per_descriptor = options_.link.per_descriptor;
  link.kernel_below = options_.link.kernel_below;
  link.host_pool = host_pool_.get();
  link.clock = options_.clock;
  SLUICE_ASSIGN_OR_RETURN(link_,
                          CudaLink::Create(*context_, pools_, link, health_, account_, meter_));
  return absl::OkStatus();
}

// The host may use its pool before all of it is pinned; what never will be is not worth filling.
absl::Status CudaBackendImpl::OpenStorage() {
  const Bytes block = pools_.host_block_bytes();
  StorageLinkOptions storage;
  storage.store = options_.disk;
  storage.blocks = cuda::ShapeOfBlocks(config_, options_.tokens_per_block);
  storage.host_codec = HostCodec();
  storage.stored_codec = CudaBackend::HostCodec(options_.device_codec, options_.disk_codec);
  storage.link.host = [this, block](BlockId id) {
    return std::span<std::byte>(pools_.HostPage(0, id.value()), block.size());
  };
  storage.link.fillable = [this, block](BlockId id) {
    return host_pool_->Usable(Bytes((id.value() + 1) * block.value()));
  };
  storage.link.host_blocks = options_.host_blocks;
  storage.link.log = options_.disk_log;
  storage.link.clock = options_.clock;
  return storage_.Open(std::move(storage), meter_);
}

std::vector<CopyResult> CudaBackendImpl::TakeFinishedCopies() {
  std::vector<CopyResult> finished = link_->TakeFinished();
  storage_.TakeFinished(&finished);
  return finished;
}

absl::Status CudaBackendImpl::FillInfo() {
  info_.name = "cuda";
  info_.device = absl::StrCat(context_->Describe(), ", ", std::string(gemm_->name()));
  info_.dtype = "bf16";
  if (options_.fp8_weights) absl::StrAppend(&info_.dtype, ", fp8 weights");
  if (options_.device_codec != KvCodecKind::kRaw) {
    absl::StrAppend(&info_.dtype, ", ", CudaBackend::KvDType(options_.device_codec), " KV");
  }
  info_.geometry = CudaBackend::HostGeometry(config_, options_.tokens_per_block, HostCodec());
  info_.device_block_bytes = pools_.device_block_bytes();
  const KvShape shape = cuda::ShapeOfBlocks(config_, options_.tokens_per_block);
  SLUICE_ASSIGN_OR_RETURN(const KvCodec codec, KvCodec::Create(shape, {.kind = HostCodec()}));
  SLUICE_CHECK(codec.encoded_block_bytes() == pools_.host_block_bytes());
  info_.host_codec = codec.name();
  info_.device_blocks = pools_.device_blocks;
  info_.host_blocks = pools_.host_blocks;
  if (options_.disk != nullptr) {
    info_.disk_blocks = options_.disk->shape().slots;
    info_.disk = options_.disk->description();
    info_.storage_tier = options_.disk->tier();
    info_.storage_place = options_.disk->place();
    info_.disk_block_bytes = options_.disk->shape().payload;
  }
  info_.layers = config_.layers;
  info_.vocab_size = config_.vocab;
  info_.max_steps_in_flight = StepRunner::kMaxInFlight;
  // Attention reads one type of KV.
  info_.attends_in_place =
      host_pool_ != nullptr && !pools_.quantizes() && context_->info().host_addresses;
  return absl::OkStatus();
}

void CudaBackendImpl::Launch(const StepPlan& plan) {
  cuda::CheckStep(plan, info_, {options_.max_model_len, options_.max_step_tokens, config_.vocab});
  // CUDA's current device belongs to a thread, and the engine has one of its own.
  runner_->Launch(plan, health_.Note(cudaSetDevice(context_->info().ordinal), "cudaSetDevice"));
}

}  // namespace

absl::StatusOr<std::unique_ptr<Backend>> CudaBackend::Create(const ModelConfig& config,
                                                             const Checkpoint& checkpoint,
                                                             const CudaBackendOptions& options) {
  SLUICE_RETURN_IF_ERROR(Validate(config, options));
  auto backend = std::make_unique<CudaBackendImpl>(config, options);
  SLUICE_RETURN_IF_ERROR(backend->Init(checkpoint));
  return backend;
}

}  // namespace sluice
