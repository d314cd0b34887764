#include "service/cli/server_runtime.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <chrono>
#include <limits>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "scheduler/base/status_macros.h"
#include "service/calibration/calibration_file.h"
#include "service/calibration/codec_cost.h"
#include "service/cli/cuda_serving.h"
#include "service/config/flag_values.h"
#include "service/config/memory.h"

namespace sluice {
namespace {

// After the last live request has ended: time for its last message to reach the client.
constexpr absl::Duration kFlushGrace = absl::Seconds(5);
// On the way out, time for blocks to reach the tier behind the host.
constexpr absl::Duration kStorageFlush = absl::Seconds(10);
// Spent on each of four figures of a host pool that is encoded.
constexpr absl::Duration kCodecProbe = absl::Milliseconds(60);

CpuDType ParseDType(const std::string& name) {
  if (name == "f32") return CpuDType::kF32;
  return name == "bf16" ? CpuDType::kBF16 : CpuDType::kAuto;
}

// REQUIRES: one of the codecs' names; the flags take no others.
KvCodecKind CodecOf(const std::string& name) {
  return ParseKvCodecKind(name).value_or(KvCodecKind::kRaw);
}

CpuBackendOptions MakeBackendOptions(const ServeConfig& config) {
  CpuBackendOptions options;
  options.dtype = ParseDType(config.dtype);
  options.tokens_per_block = config.block_size;
  options.max_step_tokens = config.max_num_batched_tokens;
  options.threads = config.threads;
  options.link_gbps = config.link_gbps;
  options.host_codec = CodecOf(config.kv_host_codec);
  options.disk_codec = CodecOf(config.DiskCodec());
  options.host_memory.numa_node =
      config.host_memory.numa_node.value_or(HostMemoryOptions::kAnyNode);
  options.host_memory.lock = config.host_memory.lock;
  options.host_memory.touch = config.host_memory.touch;
  options.disk_log = [](const std::string& message) { spdlog::warn("{}", message); };
  options.host_memory.info = [](const std::string& text) { spdlog::info("{}", text); };
  options.host_memory.warn = [](const std::string& text) { spdlog::warn("{}", text); };
  return options;
}

std::string Millions(int64_t count) {
  return absl::StrFormat("%.2f M", static_cast<double>(count) / 1e6);
}

void LogPool(const char* name, Blocks blocks, const KvGeometry& geometry) {
  spdlog::info("{} KV pool: {} blocks = {} tokens = {}", name, blocks.value(),
               geometry.TokensIn(blocks).value(), FormatBytes(geometry.BytesFor(blocks)));
}

std::string LinkText(const BackendInfo& info) {
  if (info.name == "cuda") return "as fast as the device's slot";
  if (info.link_bytes_per_second <= 0) return "as fast as memory";
  return absl::StrCat(info.link_emulated ? "emulated at " : "",
                      FormatNumber(info.link_bytes_per_second / 1e9), " GB/s per direction");
}

}  // namespace

std::function<absl::Time()> ServerRuntime::MonotonicClock() {
  const absl::Time wall = absl::Now();
  const auto start = std::chrono::steady_clock::now();
  return
      [wall, start] { return wall + absl::FromChrono(std::chrono::steady_clock::now() - start); };
}

absl::StatusOr<std::unique_ptr<ServerRuntime>> ServerRuntime::Start(const ServeConfig& config) {
  std::unique_ptr<ServerRuntime> runtime(new ServerRuntime(config));
  SLUICE_RETURN_IF_ERROR(runtime->StartRecording());
  if (config.simulated()) {
    SLUICE_RETURN_IF_ERROR(runtime->StartSimulation());
  } else {
    SLUICE_RETURN_IF_ERROR(runtime->LoadModel());
    SLUICE_RETURN_IF_ERROR(runtime->LoadTokenizer());
    SLUICE_RETURN_IF_ERROR(runtime->StartBackend());
  }
  SLUICE_RETURN_IF_ERROR(runtime->StartTelemetry());
  SLUICE_RETURN_IF_ERROR(runtime->StartEngine());
  SLUICE_RETURN_IF_ERROR(runtime->StartMetricsServer());
  SLUICE_RETURN_IF_ERROR(runtime->StartGrpc());
  return runtime;
}

ServerRuntime::~ServerRuntime() { Stop(); }

void ServerRuntime::Stop() {
  http_.reset();
  grpc_.reset();
  metrics_server_.reset();
  engine_.reset();
  backend_.reset();  // before loop_, which its link worker wakes when a copy ends
  storage_.reset();  // before loop_, which it answers
  loop_.reset();
  CloseTraceFile();
  if (recording_ == nullptr) return;
  const absl::Status closed = recording_->Close();
  const TraceRecorder::Stats stats = recording_->stats();
  recording_.reset();
  if (!closed.ok()) return spdlog::error("recording: {}", std::string(closed.message()));
  spdlog::info("recorded {} requests in {} ({} without output left out, {} dropped)", stats.written,
               config_.record, stats.left_out, stats.dropped);
}

void ServerRuntime::CloseTraceFile() {
  if (trace_file_ == nullptr) return;
  const absl::Status closed = trace_file_->Close();
  const TraceFile::Stats stats = trace_file_->stats();
  trace_file_.reset();
  if (!closed.ok()) return spdlog::error("{}", std::string(closed.message()));
  spdlog::info("traced {} events in {}{}", stats.events, config_.trace_file,
               stats.full ? "; cut off at --trace-file-limit-mib" : "");
  if (stats.lost > 0) {
    spdlog::warn("{} events of the trace were lost; raise --trace-events", stats.lost);
  }
}

absl::Status ServerRuntime::StartRecording() {
  if (config_.record.empty()) return absl::OkStatus();
  SLUICE_ASSIGN_OR_RETURN(recording_, RequestRecording::Create(config_.record, config_.block_size));
  return absl::OkStatus();
}

absl::Status ServerRuntime::LoadModel() {
  spdlog::info("loading {}", config_.model);
  SLUICE_ASSIGN_OR_RETURN(model_, LoadModelConfig(config_.model));
  SLUICE_ASSIGN_OR_RETURN(checkpoint_, Checkpoint::Open(config_.model, model_));
  spdlog::info("model {}: {}, {} layers, {} parameters, {} in {}", config_.DisplayName(),
               model_.architecture, model_.layers, Millions(checkpoint_->parameters()),
               FormatBytes(checkpoint_->total_bytes()), DTypeName(checkpoint_->dominant_dtype()));
  return absl::OkStatus();
}

absl::Status ServerRuntime::LoadTokenizer() {
  absl::StatusOr<std::unique_ptr<Tokenizer>> tokenizer = Tokenizer::Load(config_.model);
  if (absl::IsNotFound(tokenizer.status())) {
    spdlog::warn("{} has no tokenizer.json: prompts must be token ids, answers have no text",
                 config_.model);
    tokenizer_ = Tokenizer::IdsOnly(model_.vocab);
    return absl::OkStatus();
  }
  SLUICE_ASSIGN_OR_RETURN(tokenizer_, std::move(tokenizer));
  spdlog::info("tokenizer: {} tokens", tokenizer_->vocab_size());
  return absl::OkStatus();
}

absl::Status ServerRuntime::StartCuda() {
  // What the model can do; cut below to what the pool holds, which is known when weights are there.
  SLUICE_RETURN_IF_ERROR(FitContext(Tokens(std::numeric_limits<int64_t>::max())));
  CudaBackendOptions options =
      MakeCudaOptions(config_, model_, max_model_len_, MemoryLimit(), clock_);
  SLUICE_RETURN_IF_ERROR(OpenStorage(Namespace(options)));
  if (storage_ != nullptr) options.disk = &storage_->store();
  SLUICE_ASSIGN_OR_RETURN(options.link, CalibratedCudaLink(config_.calibration));
  spdlog::info("loading weights to the device");
  const absl::Time start = clock_();
  SLUICE_ASSIGN_OR_RETURN(backend_, CudaBackend::Create(model_, *checkpoint_, options));
  spdlog::info("ready after {:.2f} s", absl::ToDoubleSeconds(clock_() - start));
  LogBackend();
  const BackendInfo& info = backend_->info();
  return FitContext(info.geometry.TokensIn(info.device_blocks));
}

absl::Status ServerRuntime::StartBackend() {
  if (config_.backend == "cuda") return StartCuda();
  CpuBackendOptions options = MakeBackendOptions(config_);
  options.clock = clock_;
  options.host_memory.clock = clock_;
  SLUICE_ASSIGN_OR_RETURN(const KvGeometry geometry,
                          CpuBackend::Geometry(model_, *checkpoint_, options));
  const Bytes memory = MemoryLimit();
  options.device_blocks = config_.DeviceBlocks(geometry.bytes_per_block, memory);
  SLUICE_ASSIGN_OR_RETURN(const KvGeometry host,
                          CpuBackend::HostGeometry(model_, *checkpoint_, options));
  options.host_blocks = config_.HostBlocks(host.bytes_per_block, memory);
  SLUICE_RETURN_IF_ERROR(FitContext(geometry.TokensIn(options.device_blocks)));
  options.max_model_len = max_model_len_;
  SLUICE_RETURN_IF_ERROR(OpenStorage(Namespace(options)));
  if (storage_ != nullptr) options.disk = &storage_->store();

  if (config_.cuda.batch_invariant) {
    spdlog::info("--batch-invariant: always so with --backend=cpu");
  }
  spdlog::info("packing weights");
  const absl::Time start = clock_();
  SLUICE_ASSIGN_OR_RETURN(backend_, CpuBackend::Create(model_, *checkpoint_, options));
  spdlog::info("ready after {:.2f} s", absl::ToDoubleSeconds(clock_() - start));
  LogBackend();
  return absl::OkStatus();
}

absl::StatusOr<DiskNamespace> ServerRuntime::Namespace(const CpuBackendOptions& backend) const {
  DiskNamespace space;
  space.model = checkpoint_->fingerprint();
  space.name = config_.DisplayName();
  space.dtype = CpuBackend::KvDType(*checkpoint_, backend);
  SLUICE_ASSIGN_OR_RETURN(space.shape, CpuBackend::DiskShape(model_, *checkpoint_, backend));
  SLUICE_ASSIGN_OR_RETURN(space.codec, CpuBackend::DiskCodec(model_, *checkpoint_, backend));
  return space;
}

absl::StatusOr<DiskNamespace> ServerRuntime::Namespace(const CudaBackendOptions& backend) const {
  DiskNamespace space;
  space.model = checkpoint_->fingerprint();
  space.name = config_.DisplayName();
  // The bytes have the order a CPU's have, but other last digits: sums are added in another order.
  space.dtype = absl::StrCat(CudaBackend::KvDType(backend.device_codec),
                             backend.fp8_weights ? " (cuda, fp8 weights)" : " (cuda)");
  SLUICE_ASSIGN_OR_RETURN(space.shape, CudaBackend::DiskShape(model_, backend));
  SLUICE_ASSIGN_OR_RETURN(space.codec, CudaBackend::DiskCodec(model_, backend));
  return space;
}

absl::Status ServerRuntime::OpenStorage(const absl::StatusOr<DiskNamespace>& space) {
  if (!StorageTier::Wanted(config_)) return absl::OkStatus();
  SLUICE_RETURN_IF_ERROR(space.status());
  SLUICE_ASSIGN_OR_RETURN(storage_, StorageTier::Open(config_, *space, clock_));
  return absl::OkStatus();
}

absl::Status ServerRuntime::StartSimulation() {
  SimMachineFlags machine;
  machine.model = config_.model_profile;
  machine.hardware = config_.hardware;
  machine.block_size = config_.block_size;
  machine.device_kv = config_.device_kv_bytes;
  machine.host_kv = config_.host_kv_bytes;
  if (config_.link_gbps > 0) machine.link_gbps = config_.link_gbps;
  SLUICE_ASSIGN_OR_RETURN(simulation_, MakeSimServing(machine, /*mean_output=*/0, clock_));
  model_ = simulation_->model;
  backend_ = std::move(simulation_->backend);
  tokenizer_ = Tokenizer::IdsOnly(model_.vocab);
  spdlog::warn("--backend=sim: answers mean nothing, and all times, rates and bytes are simulated");
  LogBackend();
  const BackendInfo& info = backend_->info();
  return FitContext(info.geometry.TokensIn(info.device_blocks));
}

absl::Status ServerRuntime::FitContext(Tokens pool) {
  const Tokens model_limit(model_.max_position_embeddings);
  if (config_.max_model_len.has_value() && *config_.max_model_len > model_limit) {
    return absl::InvalidArgumentError(
        absl::StrCat("--max-model-len: ", config_.max_model_len->value(),
                     " is more than the model's limit of ", model_limit.value(), " tokens"));
  }
  // One request may fill the device pool, not more.
  max_model_len_ = config_.max_model_len.value_or(std::min(model_limit, pool));
  if (max_model_len_ > pool) {
    spdlog::warn(
        "--max-model-len {} is more than the device pool holds ({} tokens): longer requests "
        "are refused",
        max_model_len_.value(), pool.value());
  } else if (max_model_len_ < model_limit && !config_.max_model_len.has_value()) {
    spdlog::warn(
        "context cut from {} to {} tokens to fit the device pool; enlarge it with "
        "--device-kv-gib",
        model_limit.value(), max_model_len_.value());
  }
  return absl::OkStatus();
}

void ServerRuntime::LogBackend() const {
  const BackendInfo& info = backend_->info();
  spdlog::info("backend {}: {}, {}", info.name, info.device, info.dtype);
  KvGeometry device = info.geometry;
  if (info.device_block_bytes > Bytes(0)) device.bytes_per_block = info.device_block_bytes;
  LogPool("device", info.device_blocks, device);
  LogPool("host", info.host_blocks, info.geometry);
  if (info.name == "cuda" && info.host_codec != "raw") {
    spdlog::info(
        "host KV is {}{}", info.host_codec,
        device.bytes_per_block == info.geometry.bytes_per_block ? ", as on the device" : "");
  }
  spdlog::info("link: {}", LinkText(info));
}

absl::StatusOr<CostCoefficients> ServerRuntime::LoadCost() const {
  if (simulation_.has_value()) return simulation_->cost;
  const BackendInfo& info = backend_->info();
  CalibrationRequest request;
  request.path = config_.calibration;
  request.model = config_.model;
  request.weights = info.dtype == "f32" ? NumberFormat::kF32 : NumberFormat::kBf16;
  request.kv = request.weights;
  if (info.link_bytes_per_second > 0) request.link = ByteRate(info.link_bytes_per_second);
  if (info.name == "cuda") {
    request.kv = CudaKvFormat(config_.cuda);
    request.builtin = CudaHardwareProfile(info.device);
  }
  SLUICE_ASSIGN_OR_RETURN(Calibration calibration, LoadCalibration(request));
  spdlog::info("{}", calibration.provenance);
  if (info.name == "cuda") {
    PriceCudaKv(info.geometry, calibration.cost);
    PriceCudaWeights(config_.cuda, model_, calibration.cost);
  }
  if (info.name == "cpu" && info.host_codec != "raw") {
    SLUICE_RETURN_IF_ERROR(PriceCodec(calibration.cost));
  }
  return calibration.cost;
}

absl::Status ServerRuntime::PriceCodec(CostCoefficients& cost) const {
  const BackendInfo& info = backend_->info();
  CodecCostOptions options;
  options.codec = CodecOf(config_.kv_host_codec);
  options.shape = {model_.hidden, model_.intermediate, model_.heads, model_.kv_heads,
                   model_.head_dim};
  options.layers = model_.layers;
  options.element = info.dtype == "f32" ? Element::kF32 : Element::kBF16;
  options.block_tokens = info.geometry.tokens_per_block;
  options.threads = config_.threads;
  if (info.link_bytes_per_second > 0) options.link = ByteRate(info.link_bytes_per_second);
  options.control.clock = clock_;
  options.control.time = kCodecProbe;
  SLUICE_RETURN_IF_ERROR(PriceHostCodec(options, cost));
  const LinkCoefficients& load = cost.links[static_cast<size_t>(LinkDirection::kHostToDevice)];
  spdlog::info("host KV pool: {}: {} per token, loads {:.2f} GB/s of that", info.host_codec,
               FormatBytes(cost.kv_bytes_per_token), 1e-9 / load.per_byte.value());
  return absl::OkStatus();
}

absl::Status ServerRuntime::StartTelemetry() {
  const BackendInfo& info = backend_->info();
  power_ = PowerMeter::OfThisMachine(clock_);
  spdlog::info("energy is counted for: {}", power_->DeviceNames());
  gpus_ = GpuMeter::OfThisMachine();
  for (const std::string& warning : gpus_->SlowSlots()) spdlog::warn("{}", warning);
  MetricsOptions options;
  options.read_activity = [backend = backend_.get()] { return backend->activity(); };
  options.more = {power_, gpus_};
  if (storage_ != nullptr) storage_->AddSeries(config_.DisplayName(), &options);
  options.policy = config_.policy;
  metrics_ = std::make_unique<Metrics>(info, config_.DisplayName(), std::move(options));
  if (config_.trace_events == 0) return absl::OkStatus();
  trace_ = std::make_unique<EngineTrace>(static_cast<size_t>(config_.trace_events));
  if (config_.trace_file.empty()) return absl::OkStatus();
  SLUICE_ASSIGN_OR_RETURN(
      trace_file_,
      TraceFile::Create(config_.trace_file, *trace_, MiB(config_.trace_file_limit_mib), clock_(),
                        absl::StrCat(info.name, ", ", info.device), info.storage_place));
  return absl::OkStatus();
}

absl::Status ServerRuntime::StartEngine() {
  const BackendInfo& info = backend_->info();
  SchedulerOptions options;
  options.max_model_len = max_model_len_;
  options.queue_limit = config_.max_queue;
  options.prefix_caching = config_.prefix_caching;
  options.kv_events = config_.prefix_caching && config_.kv_events > 0;
  options.preemption = config_.preemption;
  options.step_token_limit = config_.max_num_batched_tokens;
  options.max_running = config_.max_num_seqs;
  options.geometry = info.geometry;
  options.device_blocks = info.device_blocks;
  options.max_store_blocks = DefaultStoreBlocks(info.device_blocks);
  options.host_blocks = info.host_blocks;
  options.disk_blocks = info.disk_blocks;
  options.storage_tier = info.storage_tier;
  // An emulated link stands for one that host memory is behind: what reads around it at the speed
  // of this machine's memory would show times no such machine has.
  options.attend_in_place =
      info.attends_in_place && !info.link_emulated && config_.attend_in_place == "auto";
  options.policy = config_.policy;
  options.policy_options.patience = Seconds(config_.patience_s);
  options.tpot_target = Seconds(config_.tpot_target_ms / 1e3);
  SLUICE_ASSIGN_OR_RETURN(options.cost, LoadCost());
  if (storage_ != nullptr) {
    options.cache_seed = storage_->seed();
    storage_->Price(info.geometry, options.cost);
  }
  SLUICE_RETURN_IF_ERROR(options.Validate());
  scheduler_ =
      std::make_unique<Scheduler>(options, storage_ != nullptr ? storage_->hash() : &BlockHash);
  if (storage_ != nullptr) SLUICE_RETURN_IF_ERROR(storage_->Adopt(*scheduler_));
  EngineOptions engine;
  engine.observer = recording_.get();
  engine.kv_event_capacity = options.kv_events ? config_.kv_events : 0;
  engine.tracer = trace_.get();
  engine.max_steps_in_flight = static_cast<int>(config_.max_steps_in_flight);
  if (storage_ != nullptr) engine.finder = storage_->finder();
  engine.on_lost = [this](const absl::Status& why) {
    spdlog::error("{}", std::string(why.message()));
    lost_.Set(why);
  };
  loop_ = std::make_unique<EngineLoop>(*scheduler_, *backend_, metrics_.get(), clock_, engine);
  engine_ = std::make_unique<Engine>(*loop_);
  return absl::OkStatus();
}

void ServerRuntime::FlushStorage(absl::Duration timeout) {
  if (storage_ == nullptr) return;
  const char* const tier = storage_->name();
  const absl::Time end = clock_() + timeout;
  Blocks pending = loop_->load().scheduler.spills_pending;
  if (pending > Blocks(0)) spdlog::info("writing {} blocks to the {} tier", pending.value(), tier);
  while (pending > Blocks(0) && clock_() < end) {
    absl::SleepFor(absl::Milliseconds(5));
    pending = loop_->load().scheduler.spills_pending;
  }
  if (pending > Blocks(0))
    spdlog::warn("{} blocks were not written to the {} tier", pending.value(), tier);
  storage_->Flush(std::max(end - clock_(), absl::ZeroDuration()));
}

bool ServerRuntime::DrainAndStop(absl::Duration timeout) {
  grpc_->BeginDrain();
  const bool drained = engine_->Drain(timeout);
  FlushStorage(kStorageFlush);
  const absl::Duration grace = drained ? kFlushGrace : absl::ZeroDuration();
  if (http_ != nullptr) http_->Shutdown(grace);
  grpc_->Shutdown(grace);
  Stop();
  return drained;
}

}  // namespace sluice
