// ServerRuntime's ports: metrics, gRPC and HTTP, who may use them, and what they say about the
// server.
#include <spdlog/spdlog.h>

#include <algorithm>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "scheduler/base/status_macros.h"
#include "service/cli/sampling_defaults.h"
#include "service/cli/server_runtime.h"
#include "service/cli/version.h"
#include "service/http/openai_api.h"

namespace sluice {
namespace {

// One line per Generate rpc, for whoever runs with --log-level=debug.
void LogRequestEnd(const RequestEnd& end) {
  if (!spdlog::should_log(spdlog::level::debug)) return;
  spdlog::debug("{} {} \"{}\" {} after {:.3f} s{}{}", end.service, "Generate",
                absl::CHexEscape(end.request_id), absl::StatusCodeToString(end.code),
                absl::ToDoubleSeconds(end.took), end.trace_id.empty() ? "" : " trace ",
                end.trace_id);
}

}  // namespace

std::string JoinHostPort(const std::string& host, int port) {
  const bool v6 = host.find(':') != std::string::npos && host.front() != '[';
  return v6 ? absl::StrCat("[", host, "]:", port) : absl::StrCat(host, ":", port);
}

absl::Status ServerRuntime::StartMetricsServer() {
  const std::optional<int> port = config_.MetricsPort();
  if (!port.has_value()) return absl::OkStatus();
  absl::StatusOr<std::unique_ptr<MetricsServer>> server = MetricsServer::Start(
      JoinHostPort(config_.host, *port),
      {{"/metrics", metrics_->native()}, {"/metrics/vllm", metrics_->vllm_aliases()}});
  if (!server.ok()) {
    return absl::Status(server.status().code(),
                        absl::StrCat(server.status().message(),
                                     "; choose another --metrics-port, 0 for a free one, or off"));
  }
  metrics_server_ = *std::move(server);
  return absl::OkStatus();
}

absl::Status ServerRuntime::StartAccess() {
  const SecurityConfig& security = config_.security;
  AccessOptions options;
  options.token_file = security.auth_token_file;
  options.isolate_tenants = security.isolate_tenants;
  options.limits = {security.tenant_max_concurrent, security.tenant_queue_share,
                    security.tenant_tokens_per_minute, config_.max_queue};
  const auto report = [](const absl::Status& status) {
    if (status.ok()) return spdlog::info("read the token file again");
    spdlog::error("{}; the tokens from before stay", std::string(status.message()));
  };
  SLUICE_ASSIGN_OR_RETURN(access_, AccessControl::Create(options, clock_, report));
  const bool local = config_.host == "localhost" || config_.host == "::1" ||
                     absl::StartsWith(config_.host, "127.");
  if (!local && security.auth_token_file.empty() && security.tls_client_ca.empty()) {
    spdlog::warn("whoever reaches {} may use this server: it asks for no token and no certificate",
                 config_.host);
  }
  return absl::OkStatus();
}

absl::Status ServerRuntime::StartGrpc() {
  GrpcServerOptions options;
  options.host = config_.host;
  options.port = config_.port;
  const SecurityConfig& security = config_.security;
  options.max_receive_bytes = security.max_message_mib << 20;
  options.tls = {security.tls_cert, security.tls_key, security.tls_client_ca};
  options.max_connections = security.max_connections;
  options.handshake_timeout =
      std::min(options.handshake_timeout, absl::Seconds(security.client_timeout_s));
  SLUICE_RETURN_IF_ERROR(StartAccess());
  SamplingDefaults defaults;
  if (!simulation_.has_value()) {
    SLUICE_ASSIGN_OR_RETURN(defaults, LoadSamplingDefaults(config_.model));
  }
  ServiceContext context{*engine_, *tokenizer_,      *metrics_,
                         clock_,   DescribeServer(), std::move(defaults)};
  context.model_type = model_.model_type;
  context.on_request_end = LogRequestEnd;
  context.access = access_.get();
  context.trace = trace_.get();
  context.power = power_.get();
  SLUICE_RETURN_IF_ERROR(StartHttp(context));
  SLUICE_ASSIGN_OR_RETURN(grpc_, GrpcServer::Start(options, std::move(context)));
  return absl::OkStatus();
}

void ServerRuntime::SecureHttp(HttpServerOptions* options) const {
  const SecurityConfig& security = config_.security;
  options->tls = {security.tls_cert, security.tls_key, security.tls_client_ca};
  options->on_tls_reload = [](const absl::Status& status) {
    if (status.ok()) return spdlog::info("read the certificate of HTTP again");
    spdlog::error("{}; the certificate from before stays", std::string(status.message()));
  };
  options->max_connections =
      static_cast<int>(std::min<int64_t>(security.max_connections, INT32_MAX));
  const absl::Duration timeout = absl::Seconds(security.client_timeout_s);
  options->header_timeout = std::min(options->header_timeout, timeout);
  options->body_timeout = timeout;
  options->write_timeout = timeout;
}

absl::Status ServerRuntime::StartHttp(const ServiceContext& context) {
  const std::optional<int> port = config_.HttpPort();
  if (!port.has_value()) return absl::OkStatus();
  ChatTemplate chat_template =
      simulation_.has_value() ? ChatTemplate::Fallback() : ChatTemplate::Load(config_.model);
  const absl::Status usable = chat_template.status();
  const std::string origin = chat_template.origin();
  const auto api = std::make_shared<OpenAiApi>(context, std::move(chat_template));
  HttpServerOptions options;
  options.host = config_.host;
  options.port = *port;
  options.max_body_bytes =
      std::min(api->max_body_bytes(), int64_t{config_.security.max_message_mib} << 20);
  SecureHttp(&options);
  absl::StatusOr<std::unique_ptr<HttpServer>> server = HttpServer::Start(options, api);
  if (absl::IsUnavailable(server.status()) && config_.http_port.empty()) {
    spdlog::warn("{}; the OpenAI-compatible API is off (--http-port=auto picks a free port)",
                 std::string(server.status().message()));
    return absl::OkStatus();
  }
  if (absl::IsInvalidArgument(server.status())) return server.status();
  if (!server.ok()) {
    return absl::Status(server.status().code(),
                        absl::StrCat(server.status().message(),
                                     "; choose another --http-port, auto for a free one, or off"));
  }
  http_ = *std::move(server);
  spdlog::info("OpenAI-compatible API on {}, chat template: {}", HttpUrl(), origin);
  if (!usable.ok()) spdlog::warn("chat is refused: {}", std::string(usable.message()));
  return absl::OkStatus();
}

v1::ServerInfo ServerRuntime::DescribeServer() const {
  const BackendInfo& backend = backend_->info();
  v1::ServerInfo info;
  info.set_version(Version());
  info.set_model(config_.DisplayName());
  info.set_model_path(config_.model);
  info.set_architecture(model_.architecture);
  info.set_simulated(simulation_.has_value());
  info.set_fingerprint(simulation_ ? simulation_->fingerprint : checkpoint_->fingerprint());
  info.set_parameters(simulation_ ? simulation_->parameters : checkpoint_->parameters());
  info.set_vocab_size(static_cast<uint32_t>(model_.vocab));
  info.set_max_model_len(static_cast<uint32_t>(max_model_len_.value()));
  for (const TokenId id : model_.eos_ids) info.add_eos_token_ids(static_cast<uint32_t>(id));
  if (model_.bos_id >= 0) info.set_bos_token_id(static_cast<uint32_t>(model_.bos_id));
  info.set_backend(backend.name);
  info.set_device(backend.device);
  info.set_dtype(backend.dtype);
  info.set_block_size(static_cast<uint32_t>(backend.geometry.tokens_per_block.value()));
  info.set_block_bytes(static_cast<uint64_t>(backend.geometry.bytes_per_block.value()));
  info.set_device_kv_blocks(static_cast<uint64_t>(backend.device_blocks.value()));
  info.set_host_kv_blocks(static_cast<uint64_t>(backend.host_blocks.value()));
  info.set_device_block_bytes(static_cast<uint64_t>(backend.device_block_bytes.value()));
  if (backend.disk_blocks > Blocks(0)) {
    info.set_storage(backend.storage_place);
    info.set_storage_kv_blocks(static_cast<uint64_t>(backend.disk_blocks.value()));
    info.set_storage_block_bytes(static_cast<uint64_t>(backend.disk_block_bytes.value()));
  }
  info.set_link_bytes_per_second(backend.link_bytes_per_second);
  info.set_link_emulated(backend.link_emulated);
  info.set_policy(config_.policy);
  info.set_max_num_batched_tokens(static_cast<uint32_t>(config_.max_num_batched_tokens.value()));
  info.set_max_num_seqs(static_cast<uint32_t>(config_.max_num_seqs));
  info.set_queue_limit(static_cast<uint32_t>(config_.max_queue));
  return info;
}

std::string ServerRuntime::HttpUrl() const {
  return absl::StrCat(config_.security.tls_cert.empty() ? "http://" : "https://",
                      JoinHostPort(config_.host, http_->port()), "/v1");
}

std::string ServerRuntime::ReadyLine() const {
  std::string line = absl::StrCat("sluice: serving ", config_.DisplayName(), " on ",
                                  JoinHostPort(config_.host, grpc_->port()));
  absl::StrAppend(&line, ", metrics ");
  if (metrics_server_ == nullptr) {
    line += "off";
  } else {
    absl::StrAppend(&line, "on http://", JoinHostPort(config_.host, metrics_server_->port()),
                    "/metrics");
  }
  return http_ == nullptr ? line : absl::StrCat(line, " and the OpenAI API on ", HttpUrl());
}

}  // namespace sluice
