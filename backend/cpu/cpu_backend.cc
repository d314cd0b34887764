#include "backend/cpu/cpu_backend.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "backend/cpu/forward.h"
#include "backend/cpu/gemm.h"
#include "backend/cpu/kv_layout.h"
#include "backend/cpu/link.h"
#include "backend/cpu/sampler.h"
#include "backend/cpu/thread_pool.h"
#include "backend/cpu/weights.h"
#include "backend/kv/kv_recoder.h"
#include "backend/kv/storage_link.h"
#include "scheduler/base/check.h"
#include "scheduler/base/status_macros.h"

namespace sluice {
namespace {

constexpr int kMaxThreads = 1024;

Element ResolveElement(CpuDType dtype, const Checkpoint& checkpoint) {
  if (dtype == CpuDType::kAuto) {
    return checkpoint.dominant_dtype() == DType::kF32 ? Element::kF32 : Element::kBF16;
  }
  return dtype == CpuDType::kF32 ? Element::kF32 : Element::kBF16;
}

absl::Status OutOfRange(const char* option, const std::string& value, const char* want) {
  return absl::InvalidArgumentError(absl::StrCat(option, " is ", value, "; want ", want));
}

absl::Status Validate(const ModelConfig& config, const CpuBackendOptions& options) {
  const int64_t page = options.tokens_per_block.value();
  if (page < 16 || page > 256 || page % 16 != 0) {
    return OutOfRange("tokens_per_block", absl::StrCat(page), "a multiple of 16 from 16 to 256");
  }
  if (options.device_blocks < Blocks(1) || options.device_blocks > Blocks(INT32_MAX)) {
    return OutOfRange("device_blocks", absl::StrCat(options.device_blocks.value()), "at least 1");
  }
  if (options.host_blocks < Blocks(0) || options.host_blocks > Blocks(INT32_MAX)) {
    return OutOfRange("host_blocks", absl::StrCat(options.host_blocks.value()), "0 or more");
  }
  if (options.max_model_len < Tokens(1)) {
    return OutOfRange("max_model_len", absl::StrCat(options.max_model_len.value()), "at least 1");
  }
  if (options.max_step_tokens < Tokens(1)) {
    return OutOfRange("max_step_tokens", absl::StrCat(options.max_step_tokens.value()),
                      "at least 1");
  }
  if (options.threads < 0 || options.threads > kMaxThreads) {
    return OutOfRange("threads", absl::StrCat(options.threads), "0 (all CPUs) to 1024");
  }
  if (!(options.link_gbps >= 0) || std::isinf(options.link_gbps)) {
    return OutOfRange("link_gbps", absl::StrCat(options.link_gbps), "0 (no limit) or more");
  }
  if (config.head_dim < 2 || config.head_dim % 2 != 0) {
    return OutOfRange("the model's head_dim", absl::StrCat(config.head_dim), "an even number");
  }
  return absl::OkStatus();
}

KvLayout MakeLayout(const ModelConfig& config, Element element, const CpuBackendOptions& options) {
  KvLayout layout;
  layout.element = element;
  layout.layers = config.layers;
  layout.kv_heads = config.kv_heads;
  layout.head_dim = config.head_dim;
  layout.page_tokens = options.tokens_per_block.value();
  return layout;
}

class CpuBackendImpl : public Backend {
 public:
  CpuBackendImpl(const ModelConfig& config, const CpuBackendOptions& options)
      : config_(config),
        options_(options),
        meter_(options_.clock()),
        pool_(options.threads, options.pin_threads),
        gemm_(pool_),
        samplers_(static_cast<size_t>(pool_.size())) {}

  absl::Status Init(const Checkpoint& checkpoint);

  const BackendInfo& info() const override { return info_; }
  void SetCopyListener(std::function<void()> on_done) override {
    storage_.SetCopyListener(on_done);
    link_->SetListener(std::move(on_done));
  }
  void StartCopies(std::span<const Copy> copies) override {
    storage_.StartCopies(copies, [this](std::span<const Copy> own) { link_->Start(own); });
  }
  void RevokeCopies(std::span<const CopyId> copies) override {
    link_->Revoke(copies);
    storage_.RevokeCopies(copies);
  }
  void ForgetDiskBlocks(std::span<const BlockId> slots) override {
    storage_.ForgetDiskBlocks(slots);
  }
  std::vector<CopyResult> TakeFinishedCopies() override;
  StepResult Run(const StepPlan& plan) override;
  ActivitySnapshot activity() override { return meter_.Snapshot(options_.clock()); }

 private:
  void CheckPlan(const StepPlan& plan) const;
  void WaitForLoads(const StepPlan& plan, int layer, StepResult& result);
  absl::Status Compute(const StepPlan& plan, StepResult& result);
  absl::Status OpenStorage();
  void FillInfo();

  const ModelConfig config_;
  const CpuBackendOptions options_;
  BackendInfo info_;
  ActivityMeter meter_;
  ThreadPool pool_;
  Gemm gemm_;
  CpuWeights weights_;
  KvPools pools_;
  std::unique_ptr<Forward> forward_;
  std::unique_ptr<Link> link_;
  StorageLink storage_;
  std::vector<Sampler> samplers_;           // per worker
  std::vector<ForwardSequence> sequences_;  // of the step at hand
  std::vector<size_t> loading_;             // indices of sequences with loads
};

absl::Status CpuBackendImpl::Init(const Checkpoint& checkpoint) {
  const Element element = ResolveElement(options_.dtype, checkpoint);
  const KvLayout layout = MakeLayout(config_, element, options_);
  KvCodecOptions codec;
  codec.kind = options_.host_codec;
  SLUICE_ASSIGN_OR_RETURN(
      pools_, KvPools::Allocate(layout, options_.device_blocks, options_.host_blocks, codec,
                                options_.host_memory));
  SLUICE_ASSIGN_OR_RETURN(weights_, PackWeights(config_, checkpoint, element, gemm_));
  SLUICE_ASSIGN_OR_RETURN(forward_,
                          Forward::Create(config_, weights_, pools_, options_.max_model_len,
                                          options_.max_step_tokens, gemm_, pool_));
  LinkOptions link;
  link.clock = options_.clock;
  link.bytes_per_second = options_.link_gbps * 1e9;
  link.verify = options_.verify_host_blocks;
  link_ = std::make_unique<Link>(pools_, link, meter_);
  SLUICE_RETURN_IF_ERROR(OpenStorage());
  FillInfo();
  return absl::OkStatus();
}

absl::Status CpuBackendImpl::OpenStorage() {
  StorageLinkOptions storage;
  storage.store = options_.disk;
  storage.blocks = ShapeOf(pools_.layout());
  storage.host_codec = options_.host_codec;
  storage.stored_codec = options_.disk_codec;
  storage.link.host = [this](BlockId block) { return pools_.HostBlock(block); };
  storage.link.host_blocks = options_.host_blocks;
  storage.link.on_arrival = [this](BlockId block) { link_->NoteHostBlock(block); };
  storage.link.log = options_.disk_log;
  storage.link.clock = options_.clock;
  return storage_.Open(std::move(storage), meter_);
}

std::vector<CopyResult> CpuBackendImpl::TakeFinishedCopies() {
  std::vector<CopyResult> finished = link_->TakeFinished();
  storage_.TakeFinished(&finished);
  return finished;
}

void CpuBackendImpl::FillInfo() {
  const KvLayout& layout = pools_.layout();
  info_.name = "cpu";
  info_.device = absl::StrCat(gemm_.description(), ", ", pool_.size(),
                              pool_.size() == 1 ? " thread" : " threads");
  info_.dtype = layout.element == Element::kBF16 ? "bf16" : "f32";
  info_.geometry = {options_.tokens_per_block, pools_.host_block_bytes()};
  info_.device_block_bytes = layout.block_bytes();
  const KvCodec* codec = pools_.host_codec();
  if (codec != nullptr) info_.host_codec = codec->name();
  info_.device_blocks = options_.device_blocks;
  info_.host_blocks = options_.host_blocks;
  if (options_.disk != nullptr) {
    info_.disk_blocks = options_.disk->shape().slots;
    info_.disk = options_.disk->description();
    info_.storage_tier = options_.disk->tier();
    info_.storage_place = options_.disk->place();
    info_.disk_block_bytes = options_.disk->shape().payload;
  }
  info_.layers = config_.layers;
  info_.vocab_size = config_.vocab;
  info_.link_bytes_per_second = options_.link_gbps * 1e9;
  info_.link_emulated = options_.link_gbps > 0;
  // Checksums are compared by loads; what is verified is not read in place. Nor is what can only be
  // decoded as a whole.
  info_.attends_in_place = options_.host_blocks > Blocks(0) && !options_.verify_host_blocks &&
                           (codec == nullptr || codec->decodes_heads());
}

void CpuBackendImpl::CheckPlan(const StepPlan& plan) const {
  int64_t rows = 0;
  for (const SequenceWork& work : plan.sequences) {
    SLUICE_CHECK(work.count > Tokens(0) && work.first >= Tokens(0));
    const Tokens end = work.first + work.count;
    SLUICE_CHECK(end <= options_.max_model_len);
    SLUICE_CHECK(work.tokens.size() >= end.size());
    SLUICE_CHECK(static_cast<int64_t>(work.blocks.size()) >= info_.geometry.BlocksFor(end).value());
    SLUICE_CHECK(work.sample == (work.sampling != nullptr));
    SLUICE_CHECK(work.host_blocks.empty() || info_.attends_in_place);
    SLUICE_CHECK(work.host_blocks.size() <= work.blocks.size());
    SLUICE_CHECK(static_cast<int64_t>(work.host_blocks.size()) <=
                 info_.geometry.FullBlocks(work.first).value());
    for (size_t i = 0; i < work.blocks.size(); ++i) {
      const bool in_place = i < work.host_blocks.size() && work.host_blocks[i].valid();
      const BlockId block = in_place ? work.host_blocks[i] : work.blocks[i];
      const Blocks pool = in_place ? options_.host_blocks : options_.device_blocks;
      SLUICE_CHECK(block.valid() && block.value() < pool.value());
    }
    rows += work.count.value();
  }
  SLUICE_CHECK(rows <= options_.max_step_tokens.value());
}

StepResult CpuBackendImpl::Run(const StepPlan& plan) {
  CheckPlan(plan);
  StepResult result;
  result.id = plan.id;
  result.started = options_.clock();
  result.sequences.resize(plan.sequences.size());
  meter_.BeginCompute(result.started);
  {
    const ThreadPool::CallerScope scope(pool_);
    result.status = Compute(plan, result);
  }
  if (!result.status.ok()) result.sequences.clear();
  result.finished = options_.clock();
  meter_.EndCompute(result.finished);
  return result;
}

// Blocks until `layer` of every load the step needs is in place. A failed load fails its sequence;
// the others go on, and the failed one's rows come along for nothing.
void CpuBackendImpl::WaitForLoads(const StepPlan& plan, int layer, StepResult& result) {
  for (const size_t i : loading_) {
    SequenceResult& sequence = result.sequences[i];
    for (const CopyId load : plan.sequences[i].loads) {
      if (!sequence.status.ok()) break;
      if (link_->Settled(load, layer)) {
        sequence.status = link_->WaitForLayer(load, layer);
        continue;
      }
      const absl::Time from = options_.clock();
      meter_.EndCompute(from);
      meter_.BeginStall(from);
      sequence.status = link_->WaitForLayer(load, layer);
      const absl::Time to = options_.clock();
      meter_.EndStall(to);
      meter_.BeginCompute(to);
      sequence.load_stall += to - from;
      result.load_stall += to - from;
    }
  }
}

absl::Status CpuBackendImpl::Compute(const StepPlan& plan, StepResult& result) {
  sequences_.clear();
  loading_.clear();
  for (size_t i = 0; i < plan.sequences.size(); ++i) {
    const SequenceWork& work = plan.sequences[i];
    sequences_.push_back({work.tokens.subspan(work.first.size(), work.count.size()),
                          work.first.value(), work.blocks, false, work.host_blocks});
    if (!work.loads.empty()) loading_.push_back(i);
  }
  if (sequences_.empty()) return absl::OkStatus();
  SLUICE_RETURN_IF_ERROR(
      forward_->Run(sequences_, [&](int layer) { WaitForLoads(plan, layer, result); }));

  for (size_t i = 0; i < sequences_.size(); ++i) {
    sequences_[i].logits = plan.sequences[i].sample && result.sequences[i].status.ok();
  }
  return forward_->Logits(sequences_, [&](size_t i, std::span<float> logits, int worker) {
    const SequenceWork& work = plan.sequences[i];
    SampleInput input;
    input.params = work.sampling;
    input.tokens = work.tokens.first((work.first + work.count).size());
    input.prompt = work.prompt.value();
    input.output_index = work.output_index;
    absl::StatusOr<SampledToken> sampled =
        samplers_[static_cast<size_t>(worker)].Sample(logits, input);
    if (sampled.ok()) {
      result.sequences[i].sampled = *std::move(sampled);
    } else {
      result.sequences[i].status = sampled.status();
    }
  });
}

absl::StatusOr<KvRecoder> MakeRecoder(const ModelConfig& config, const Checkpoint& checkpoint,
                                      const CpuBackendOptions& options) {
  SLUICE_RETURN_IF_ERROR(Validate(config, options));
  const Element element = ResolveElement(options.dtype, checkpoint);
  return KvRecoder::Create(ShapeOf(MakeLayout(config, element, options)), options.host_codec,
                           options.disk_codec);
}

const char* ElementName(Element element) { return element == Element::kBF16 ? "bf16" : "f32"; }

}  // namespace

absl::StatusOr<std::unique_ptr<Backend>> CpuBackend::Create(const ModelConfig& config,
                                                            const Checkpoint& checkpoint,
                                                            const CpuBackendOptions& options) {
  SLUICE_RETURN_IF_ERROR(Validate(config, options));
  auto backend = std::make_unique<CpuBackendImpl>(config, options);
  SLUICE_RETURN_IF_ERROR(backend->Init(checkpoint));
  return backend;
}

absl::StatusOr<KvGeometry> CpuBackend::Geometry(const ModelConfig& config,
                                                const Checkpoint& checkpoint,
                                                const CpuBackendOptions& options) {
  SLUICE_RETURN_IF_ERROR(Validate(config, options));
  const Element element = ResolveElement(options.dtype, checkpoint);
  return KvGeometry{options.tokens_per_block, MakeLayout(config, element, options).block_bytes()};
}

absl::StatusOr<StoreShape> CpuBackend::DiskShape(const ModelConfig& config,
                                                 const Checkpoint& checkpoint,
                                                 const CpuBackendOptions& options) {
  SLUICE_ASSIGN_OR_RETURN(const KvRecoder recoder, MakeRecoder(config, checkpoint, options));
  return StoreShape{Blocks(0), recoder.stored_bytes(), config.layers, options.tokens_per_block};
}

absl::StatusOr<KvGeometry> CpuBackend::HostGeometry(const ModelConfig& config,
                                                    const Checkpoint& checkpoint,
                                                    const CpuBackendOptions& options) {
  CpuBackendOptions host = options;
  host.disk_codec = options.host_codec;  // there need not be a disk
  SLUICE_ASSIGN_OR_RETURN(const KvRecoder recoder, MakeRecoder(config, checkpoint, host));
  return KvGeometry{options.tokens_per_block, recoder.host_bytes()};
}

absl::StatusOr<std::string> CpuBackend::DiskCodec(const ModelConfig& config,
                                                  const Checkpoint& checkpoint,
                                                  const CpuBackendOptions& options) {
  SLUICE_ASSIGN_OR_RETURN(const KvRecoder recoder, MakeRecoder(config, checkpoint, options));
  return recoder.name();
}

std::string CpuBackend::KvDType(const Checkpoint& checkpoint, const CpuBackendOptions& options) {
  return ElementName(ResolveElement(options.dtype, checkpoint));
}

}  // namespace sluice
