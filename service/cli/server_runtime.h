// ServerRuntime: every part of a running server, built from a ServeConfig in the right order and
// taken down in the reverse.
//
//   model files -> backend -> scheduler -> engine -> gRPC
//                                 metrics -----------^
//
// With --backend=sim, a model's profile and a simulated machine take the place of the first two.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "backend/cpu/cpu_backend.h"
#include "backend/cuda/cuda_backend.h"
#include "backend/model/checkpoint.h"
#include "backend/model/model_config.h"
#include "service/access/access_control.h"
#include "service/cli/lost_device.h"
#include "service/cli/request_recording.h"
#include "service/cli/sim_serving.h"
#include "service/cli/storage_tier.h"
#include "service/config/serve_config.h"
#include "service/engine/engine.h"
#include "service/grpc/server.h"
#include "service/http/http_server.h"
#include "service/telemetry/gpu_meter.h"
#include "service/telemetry/metrics.h"
#include "service/telemetry/metrics_server.h"
#include "service/telemetry/power_meter.h"
#include "service/tokenizer/tokenizer.h"
#include "service/trace/engine_trace.h"
#include "service/trace/trace_file.h"

namespace sluice {

class ServerRuntime {
 public:
  // Loads and starts everything, with a log line for each part; serves when it returns.
  // Returns the first error, worded for the person who typed the command.
  static absl::StatusOr<std::unique_ptr<ServerRuntime>> Start(const ServeConfig& config);
  ~ServerRuntime();
  ServerRuntime(const ServerRuntime&) = delete;
  ServerRuntime& operator=(const ServerRuntime&) = delete;

  // "sluice: serving MODEL on HOST:PORT, metrics on http://HOST:PORT/metrics and the OpenAI API on
  // http://HOST:PORT/v1", with the ports that were chosen.
  std::string ReadyLine() const;

  // Refuses new requests, waits up to `timeout` for the live ones, closes the ports. Returns
  // whether all live ones finished.
  bool DrainAndStop(absl::Duration timeout);

  // Calls `on_lost` once, on any thread, when the backend's device is lost. From then on the server
  // refuses requests, and only ends.
  void OnLostDevice(std::function<void()> on_lost) { lost_.Notify(std::move(on_lost)); }
  // Why it was lost; OK if it was not.
  absl::Status lost_device() const { return lost_.why(); }

 private:
  explicit ServerRuntime(const ServeConfig& config) : config_(config) {}

  absl::Status StartRecording();
  absl::Status LoadModel();
  absl::Status LoadTokenizer();
  absl::Status StartBackend();
  absl::Status StartCuda();
  // What must be equal for KV to be used again by another process.
  absl::StatusOr<DiskNamespace> Namespace(const CpuBackendOptions& backend) const;
  absl::StatusOr<DiskNamespace> Namespace(const CudaBackendOptions& backend) const;
  // Opens the tier behind host memory, if there is to be one, for KV of `space`; storage_ is null
  // otherwise. Before the backend is made, which gets its store.
  absl::Status OpenStorage(const absl::StatusOr<DiskNamespace>& space);
  // Instead of the three above.
  absl::Status StartSimulation();
  // Settles max_model_len_ for a device pool of `pool` tokens.
  absl::Status FitContext(Tokens pool);
  void LogBackend() const;
  // What steps and copies cost here, to begin with; says in the log where from.
  absl::StatusOr<CostCoefficients> LoadCost() const;
  // What the codec of the host pool changes of them.
  absl::Status PriceCodec(CostCoefficients& cost) const;
  // Metrics and traces: what watches the engine.
  absl::Status StartTelemetry();
  absl::Status StartEngine();
  absl::Status StartMetricsServer();
  absl::Status StartGrpc();
  // Tokens and limits of tenants.
  absl::Status StartAccess();
  // The OpenAI-compatible API. A default port that is in use is no error: the API is off then.
  absl::Status StartHttp(const ServiceContext& context);
  // "http://HOST:PORT/v1". REQUIRES: the API is on.
  std::string HttpUrl() const;
  // TLS and limits.
  void SecureHttp(HttpServerOptions* options) const;
  v1::ServerInfo DescribeServer() const;
  // Waits until what is on its way to the tier behind the host is there, or for `timeout`.
  void FlushStorage(absl::Duration timeout);
  // Ends what still runs. Again: nothing happens.
  void Stop();
  void CloseTraceFile();

  const ServeConfig config_;
  const std::function<absl::Time()> clock_ = MonotonicClock();

  // In order of construction; each uses only earlier ones.
  LostDevice lost_;
  std::unique_ptr<RequestRecording> recording_;  // null: off
  ModelConfig model_;
  std::unique_ptr<Checkpoint> checkpoint_;  // null: simulated
  std::optional<SimServing> simulation_;    // its backend is in backend_
  std::unique_ptr<Tokenizer> tokenizer_;
  Tokens max_model_len_;
  std::unique_ptr<StorageTier> storage_;  // null: none
  std::unique_ptr<Backend> backend_;
  std::shared_ptr<PowerMeter> power_;
  std::shared_ptr<GpuMeter> gpus_;
  std::unique_ptr<Metrics> metrics_;
  std::unique_ptr<EngineTrace> trace_;     // null: off
  std::unique_ptr<TraceFile> trace_file_;  // null: off
  std::unique_ptr<Scheduler> scheduler_;
  std::unique_ptr<EngineLoop> loop_;
  std::unique_ptr<Engine> engine_;
  std::unique_ptr<MetricsServer> metrics_server_;  // null: off
  std::unique_ptr<AccessControl> access_;
  std::unique_ptr<GrpcServer> grpc_;
  std::unique_ptr<HttpServer> http_;  // null: off

  static std::function<absl::Time()> MonotonicClock();
};

// "127.0.0.1:80", "[::1]:80".
std::string JoinHostPort(const std::string& host, int port);

}  // namespace sluice
