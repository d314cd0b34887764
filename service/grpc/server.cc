#include "service/grpc/server.h"

#include <algorithm>
#include <mutex>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "grpcpp/ext/proto_server_reflection_plugin.h"
#include "grpcpp/security/server_credentials.h"
#include "grpcpp/server.h"
#include "grpcpp/server_builder.h"
#include "scheduler/base/status_macros.h"
#include "service/grpc/control_service.h"
#include "service/grpc/health_service.h"
#include "service/grpc/inference_service.h"
#include "service/grpc/listener.h"
#include "service/grpc/load_monitor.h"
#include "service/grpc/orca_service.h"
#include "service/grpc/server_tls.h"
#include "service/grpc/stream_pump.h"
#include "service/grpc/vllm_service.h"

namespace sluice {
namespace {

// "host:port", with brackets around an IPv6 address.
std::string JoinHostPort(const std::string& host, int port) {
  const bool bare_ipv6 = host.find(':') != std::string::npos && host.front() != '[';
  return bare_ipv6 ? absl::StrCat("[", host, "]:", port) : absl::StrCat(host, ":", port);
}

absl::Status Validate(const GrpcServerOptions& options) {
  if (options.port < 0 || options.port > 65535) {
    return absl::InvalidArgumentError(
        absl::StrCat("port: ", options.port, " is not in [0, 65535]; 0 picks a free one"));
  }
  constexpr int64_t kMost = (int64_t{1} << 31) - 1;
  if (options.max_receive_bytes < 1 || options.max_receive_bytes > kMost) {
    return absl::InvalidArgumentError(absl::StrCat("max_receive_bytes: ", options.max_receive_bytes,
                                                   " is not in [1, ", kMost, "]"));
  }
  if (options.max_connections < 0) {
    return absl::InvalidArgumentError(absl::StrCat("max_connections: ", options.max_connections,
                                                   " is negative; 0 means no limit"));
  }
  if (options.pump_threads < 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("pump_threads: ", options.pump_threads, " is not at least 1"));
  }
  return absl::OkStatus();
}

// Calls of one connection at a time, those that have not sent their request included: more than the
// queue takes, for a gateway that has one connection.
constexpr int kMaxStreams = 16'384;

// Of a call; as much as HTTP takes.
constexpr int kMaxMetadataBytes = 16 << 10;

int Milliseconds(absl::Duration duration) {
  return static_cast<int>(absl::ToInt64Milliseconds(duration));
}

void SetArguments(const GrpcServerOptions& options, grpc::ServerBuilder* builder) {
  builder->SetMaxReceiveMessageSize(static_cast<int>(options.max_receive_bytes));
  builder->AddChannelArgument(GRPC_ARG_SERVER_HANDSHAKE_TIMEOUT_MS,
                              Milliseconds(options.handshake_timeout));
  builder->AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS, kMaxStreams);
  builder->AddChannelArgument(GRPC_ARG_MAX_METADATA_SIZE, kMaxMetadataBytes);
  builder->AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, Milliseconds(options.keepalive));
  builder->AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS,
                              Milliseconds(options.keepalive_timeout));
  builder->AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  builder->AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS,
                              Milliseconds(options.min_client_ping_interval));
}

}  // namespace

// Order of the members is the order of life: services go after the gRPC server that calls them.
class GrpcServer::Impl {
 public:
  Impl(const GrpcServerOptions& options, ServiceContext parts)
      : context(std::move(parts)),
        host(options.host),
        pump(std::make_shared<StreamPump>(options.pump_threads)),
        health(context),
        monitor(context),
        generate(context, monitor, pump),
        control(context, health, generate),
        inference(generate),
        vllm(generate, health),
        orca(context, monitor) {}

  const ServiceContext context;
  const std::string host;
  std::unique_ptr<Listener> listener;
  const std::shared_ptr<StreamPump> pump;  // shared with calls that end late
  HealthService health;
  LoadMonitor monitor;
  GenerateShared generate;
  ControlService control;
  InferenceService inference;
  VllmService vllm;
  OrcaService orca;
  std::unique_ptr<grpc::Server> server;
  std::once_flag shut_down;
};

absl::StatusOr<std::unique_ptr<GrpcServer>> GrpcServer::Start(const GrpcServerOptions& options,
                                                              ServiceContext context) {
  SLUICE_RETURN_IF_ERROR(Validate(options));
  SLUICE_ASSIGN_OR_RETURN(const std::shared_ptr<grpc::ServerCredentials> credentials,
                          MakeServerCredentials(options.tls));
  auto impl = std::make_unique<Impl>(options, std::move(context));
  grpc::reflection::InitProtoReflectionServerBuilderPlugin();
  grpc::ServerBuilder builder;
  SetArguments(options, &builder);
  const std::string address = JoinHostPort(options.host, options.port);
  absl::StatusOr<std::unique_ptr<Listener>> listener = Listener::Bind(options.host, options.port);
  if (!listener.ok()) {
    return absl::UnavailableError(absl::StrCat("cannot listen on ", address, ": ",
                                               listener.status().message(),
                                               "; choose another host or port"));
  }
  impl->listener = *std::move(listener);
  auto acceptor = builder.experimental().AddExternalConnectionAcceptor(
      grpc::ServerBuilder::experimental_type::ExternalConnectionType::FROM_FD, credentials);
  builder.RegisterService(&impl->inference);
  builder.RegisterService(&impl->vllm);
  builder.RegisterService(&impl->orca);
  builder.RegisterService(&impl->control);
  builder.RegisterService(&impl->health);
  impl->server = builder.BuildAndStart();
  if (impl->server == nullptr) {
    return absl::UnavailableError(absl::StrCat("cannot serve gRPC on ", address));
  }
  impl->listener->Accept(std::move(acceptor), options.max_connections, options.keepalive_timeout);
  return std::unique_ptr<GrpcServer>(new GrpcServer(std::move(impl)));
}

GrpcServer::GrpcServer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
GrpcServer::~GrpcServer() { Shutdown(absl::ZeroDuration()); }

int GrpcServer::port() const { return impl_->listener->port(); }
std::string GrpcServer::endpoint() const { return JoinHostPort(impl_->host, port()); }

void GrpcServer::BeginDrain() { impl_->control.BeginDrain(); }

void GrpcServer::Shutdown(absl::Duration grace) {
  std::call_once(impl_->shut_down, [&] {
    impl_->control.BeginDrain();
    impl_->listener->Close();
    impl_->control.Shutdown();
    impl_->health.Shutdown();
    impl_->vllm.Shutdown();
    impl_->orca.Shutdown();
    impl_->server->Shutdown(
        absl::ToChronoTime(absl::Now() + std::min(grace, absl::Hours(24 * 365))));
    impl_->pump->Stop();
    impl_->monitor.Stop();
  });
}

}  // namespace sluice
