#include "service/cli/server_runtime.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <chrono>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "scheduler/base/status_macros.h"
#include "service/calibration/calibration_file.h"
#include "service/config/flag_values.h"
#include "service/config/memory.h"

namespace sluice {
namespace {

// After the last live request has ended: time for its last message to reach the client.
constexpr absl::Duration kFlushGrace = absl::Seconds(5);
// On the way out, time for blocks to reach the disk tier.
constexpr absl::Duration kDiskFlush = absl::Seconds(10);

// KV events kept for gateways that were away: some 15 MiB with blocks of 32 tokens.
constexpr int64_t kKvEventCapacity = 65'536;

CpuDType ParseDType(const std::string& name) {
  if (name == "f32") return CpuDType::kF32;
  return name == "bf16" ? CpuDType::kBF16 : CpuDType::kAuto;
}

CpuBackendOptions MakeBackendOptions(const ServeConfig& config) {
  CpuBackendOptions options;
  options.dtype = ParseDType(config.dtype);
  options.tokens_per_block = config.block_size;
  options.max_step_tokens = config.max_num_batched_tokens;
  options.threads = config.threads;
  options.link_gbps = config.link_gbps;
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
  disk_.reset();
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

absl::Status ServerRuntime::StartBackend() {
  CpuBackendOptions options = MakeBackendOptions(config_);
  options.clock = clock_;
  SLUICE_ASSIGN_OR_RETURN(const KvGeometry geometry,
                          CpuBackend::Geometry(model_, *checkpoint_, options));
  const Bytes memory = MemoryLimit();
  options.device_blocks = config_.DeviceBlocks(geometry.bytes_per_block, memory);
  options.host_blocks = config_.HostBlocks(geometry.bytes_per_block, memory);
  SLUICE_RETURN_IF_ERROR(FitContext(geometry.TokensIn(options.device_blocks)));
  options.max_model_len = max_model_len_;
  SLUICE_RETURN_IF_ERROR(OpenDisk(options));
  if (disk_ != nullptr) {
    options.disk = &disk_->store();
    options.disk_log = [](const std::string& message) { spdlog::warn("{}", message); };
  }

  spdlog::info("packing weights");
  const absl::Time start = clock_();
  SLUICE_ASSIGN_OR_RETURN(backend_, CpuBackend::Create(model_, *checkpoint_, options));
  spdlog::info("ready after {:.2f} s", absl::ToDoubleSeconds(clock_() - start));
  LogBackend();
  return absl::OkStatus();
}

absl::Status ServerRuntime::OpenDisk(const CpuBackendOptions& backend) {
  if (config_.kv_disk_dir.empty()) return absl::OkStatus();
  DiskTierOptions options;
  options.directory = config_.kv_disk_dir;
  options.limit = config_.DiskBytes();
  options.clock = clock_;
  options.space.model = checkpoint_->fingerprint();
  options.space.name = config_.DisplayName();
  options.space.dtype = CpuBackend::KvDType(*checkpoint_, backend);
  SLUICE_ASSIGN_OR_RETURN(options.space.shape,
                          CpuBackend::DiskShape(model_, *checkpoint_, backend));
  SLUICE_ASSIGN_OR_RETURN(disk_, DiskTier::Open(options));
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
  LogPool("device", info.device_blocks, info.geometry);
  LogPool("host", info.host_blocks, info.geometry);
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
  SLUICE_ASSIGN_OR_RETURN(Calibration calibration, LoadCalibration(request));
  spdlog::info("{}", calibration.provenance);
  return calibration.cost;
}

absl::Status ServerRuntime::StartTelemetry() {
  const BackendInfo& info = backend_->info();
  power_ = PowerMeter::OfThisMachine(clock_);
  spdlog::info("energy is counted for: {}", power_->DeviceNames());
  MetricsOptions options;
  options.read_activity = [backend = backend_.get()] { return backend->activity(); };
  options.more = {power_};
  options.policy = config_.policy;
  metrics_ = std::make_unique<Metrics>(info, config_.DisplayName(), std::move(options));
  if (config_.trace_events == 0) return absl::OkStatus();
  trace_ = std::make_unique<EngineTrace>(static_cast<size_t>(config_.trace_events));
  if (config_.trace_file.empty()) return absl::OkStatus();
  SLUICE_ASSIGN_OR_RETURN(
      trace_file_, TraceFile::Create(config_.trace_file, *trace_, MiB(config_.trace_file_limit_mib),
                                     clock_(), absl::StrCat(info.name, ", ", info.device)));
  return absl::OkStatus();
}

absl::Status ServerRuntime::StartEngine() {
  const BackendInfo& info = backend_->info();
  SchedulerOptions options;
  options.max_model_len = max_model_len_;
  options.queue_limit = config_.max_queue;
  options.prefix_caching = config_.prefix_caching;
  options.kv_events = config_.prefix_caching;
  options.preemption = config_.preemption;
  options.step_token_limit = config_.max_num_batched_tokens;
  options.max_running = config_.max_num_seqs;
  options.geometry = info.geometry;
  options.device_blocks = info.device_blocks;
  options.max_store_blocks = DefaultStoreBlocks(info.device_blocks);
  options.host_blocks = info.host_blocks;
  options.disk_blocks = info.disk_blocks;
  options.policy = config_.policy;
  options.policy_options.patience = Seconds(config_.patience_s);
  options.tpot_target = Seconds(config_.tpot_target_ms / 1e3);
  SLUICE_ASSIGN_OR_RETURN(options.cost, LoadCost());
  if (disk_ != nullptr) {
    options.cache_seed = disk_->seed();
    disk_->Price(options.cost);
  }
  SLUICE_RETURN_IF_ERROR(options.Validate());
  scheduler_ = std::make_unique<Scheduler>(options);
  if (disk_ != nullptr) SLUICE_RETURN_IF_ERROR(disk_->Adopt(*scheduler_));
  EngineOptions engine;
  engine.observer = recording_.get();
  engine.kv_event_capacity = config_.prefix_caching ? kKvEventCapacity : 0;
  engine.tracer = trace_.get();
  loop_ = std::make_unique<EngineLoop>(*scheduler_, *backend_, metrics_.get(), clock_, engine);
  engine_ = std::make_unique<Engine>(*loop_);
  return absl::OkStatus();
}

void ServerRuntime::FlushDisk(absl::Duration timeout) {
  if (disk_ == nullptr) return;
  const absl::Time end = clock_() + timeout;
  Blocks pending = loop_->load().scheduler.spills_pending;
  if (pending > Blocks(0)) spdlog::info("writing {} blocks to the disk tier", pending.value());
  while (pending > Blocks(0) && clock_() < end) {
    absl::SleepFor(absl::Milliseconds(5));
    pending = loop_->load().scheduler.spills_pending;
  }
  if (pending > Blocks(0)) spdlog::warn("{} blocks were not written to the disk", pending.value());
}

bool ServerRuntime::DrainAndStop(absl::Duration timeout) {
  grpc_->BeginDrain();
  const bool drained = engine_->Drain(timeout);
  FlushDisk(kDiskFlush);
  const absl::Duration grace = drained ? kFlushGrace : absl::ZeroDuration();
  if (http_ != nullptr) http_->Shutdown(grace);
  grpc_->Shutdown(grace);
  Stop();
  return drained;
}

}  // namespace sluice
