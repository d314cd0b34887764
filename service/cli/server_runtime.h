// ServerRuntime: every part of a running server, built from a ServeConfig in the right order and
// taken down in the reverse.
//
//   model files -> backend -> scheduler -> engine -> gRPC
//                                 metrics -----------^
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "backend/cpu/cpu_backend.h"
#include "backend/model/checkpoint.h"
#include "backend/model/model_config.h"
#include "service/config/serve_config.h"
#include "service/engine/engine.h"
#include "service/grpc/server.h"
#include "service/telemetry/metrics.h"
#include "service/tokenizer/tokenizer.h"

namespace sluice {

class ServerRuntime {
 public:
  // Loads and starts everything, with a log line for each part; serves when it returns.
  // Returns the first error, worded for the person who typed the command.
  static absl::StatusOr<std::unique_ptr<ServerRuntime>> Start(const ServeConfig& config);
  ~ServerRuntime();
  ServerRuntime(const ServerRuntime&) = delete;
  ServerRuntime& operator=(const ServerRuntime&) = delete;

  // "sluice: serving MODEL on HOST:PORT, metrics on http://HOST:PORT/metrics", with the ports that
  // were chosen.
  std::string ReadyLine() const;

  // Refuses new requests, waits up to `timeout` for the live ones, closes the ports. Returns
  // whether all live ones finished.
  bool DrainAndStop(absl::Duration timeout);

 private:
  explicit ServerRuntime(const ServeConfig& config) : config_(config) {}

  absl::Status LoadModel();
  absl::Status LoadTokenizer();
  absl::Status StartBackend();
  // What steps and copies cost here, to begin with; says in the log where from.
  absl::StatusOr<CostCoefficients> LoadCost() const;
  absl::Status StartEngine();
  absl::Status StartMetricsServer();
  absl::Status StartGrpc();
  v1::ServerInfo DescribeServer() const;

  const ServeConfig config_;
  const std::function<absl::Time()> clock_ = MonotonicClock();

  // In order of construction; each uses only earlier ones.
  ModelConfig model_;
  std::unique_ptr<Checkpoint> checkpoint_;
  std::unique_ptr<Tokenizer> tokenizer_;
  Tokens max_model_len_;
  std::unique_ptr<Backend> backend_;
  std::unique_ptr<Metrics> metrics_;
  std::unique_ptr<Scheduler> scheduler_;
  std::unique_ptr<EngineLoop> loop_;
  std::unique_ptr<Engine> engine_;
  std::unique_ptr<MetricsServer> metrics_server_;  // null: off
  std::unique_ptr<GrpcServer> grpc_;

  static std::function<absl::Time()> MonotonicClock();
};

// Sampling defaults of `dir`/generation_config.json; none without the file.
// Returns INVALID_ARGUMENT naming file and field if a value has the wrong type or is out of range.
absl::StatusOr<SamplingDefaults> LoadSamplingDefaults(const std::string& dir);

// "127.0.0.1:80", "[::1]:80".
std::string JoinHostPort(const std::string& host, int port);

}  // namespace sluice
