#include "service/cli/client.h"

#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>

#include <chrono>

#include "absl/status/status.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "google/rpc/retry_info.pb.h"
#include "scheduler/base/status_macros.h"

namespace sluice {
namespace {

constexpr absl::Duration kControlTimeout = absl::Seconds(10);

absl::Status CheckEndpoint(const std::string& endpoint) {
  const size_t colon = endpoint.rfind(':');
  int port = 0;
  if (colon == std::string::npos || colon == 0 ||
      !absl::SimpleAtoi(endpoint.substr(colon + 1), &port) || port < 1 || port > 65535) {
    return absl::InvalidArgumentError(
        absl::StrCat("--endpoint: \"", endpoint, "\" is not HOST:PORT with a port in [1, 65535]"));
  }
  return absl::OkStatus();
}

grpc::ChannelArguments ChannelOptions(const ClientSecurity& security) {
  grpc::ChannelArguments args;
  if (!security.tls_server_name.empty()) args.SetSslTargetNameOverride(security.tls_server_name);
  args.SetMaxReceiveMessageSize(-1);
  args.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);  // the endpoint is meant literally
  args.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 100);
  args.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, 100);
  args.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 1000);
  return args;
}

absl::Status NothingAnswers(const std::string& endpoint, absl::Duration patience, bool tls) {
  const char* remedy =
      tls ? "start a server, or check that it speaks TLS, that --tls-ca signed its "
            "certificate, and whether it wants --tls-cert"
          : "start a server with \"sluice serve --model DIR\", or name it with "
            "--endpoint HOST:PORT";
  return absl::UnavailableError(absl::StrCat("nothing answers at ", endpoint, " (waited ",
                                             absl::FormatDuration(patience), "); ", remedy));
}

std::shared_ptr<grpc::Channel> MakeChannel(
    const std::string& endpoint, const ClientSecurity& security,
    const std::shared_ptr<grpc::ChannelCredentials>& credentials,
    std::unique_ptr<grpc::experimental::ClientInterceptorFactoryInterface> interceptor) {
  std::vector<std::unique_ptr<grpc::experimental::ClientInterceptorFactoryInterface>> chain;
  if (interceptor != nullptr) chain.push_back(std::move(interceptor));
  return grpc::experimental::CreateCustomChannelWithInterceptors(
      endpoint, credentials, ChannelOptions(security), std::move(chain));
}

template <class Response, class Call>
absl::StatusOr<Response> ControlCall(const char* name, const Call& call) {
  grpc::ClientContext context;
  context.set_deadline(absl::ToChronoTime(absl::Now() + kControlTimeout));
  Response response;
  const grpc::Status status = call(&context, &response);
  if (status.ok()) return response;
  return absl::UnavailableError(absl::StrCat(name, ": ", DescribeError(status)));
}

}  // namespace

Client::Client(std::string endpoint, std::shared_ptr<grpc::Channel> channel)
    : endpoint_(std::move(endpoint)),
      inference_(v1::Inference::NewStub(channel)),
      control_(v1::Control::NewStub(channel)),
      health_(grpc::health::v1::Health::NewStub(channel)) {}

absl::StatusOr<std::unique_ptr<Client>> Client::Connect(const std::string& endpoint,
                                                        absl::Duration patience,
                                                        const ClientSecurity& security) {
  SLUICE_RETURN_IF_ERROR(CheckEndpoint(endpoint));
  SLUICE_ASSIGN_OR_RETURN(const auto credentials, MakeChannelCredentials(security));
  SLUICE_ASSIGN_OR_RETURN(auto interceptor, MakeTokenInterceptor(security));
  std::shared_ptr<grpc::Channel> channel =
      MakeChannel(endpoint, security, credentials, std::move(interceptor));
  if (!channel->WaitForConnected(absl::ToChronoTime(absl::Now() + patience))) {
    return NothingAnswers(endpoint, patience, !security.tls_ca.empty());
  }
  return std::unique_ptr<Client>(new Client(endpoint, std::move(channel)));
}

absl::StatusOr<v1::ServerInfo> Client::GetServerInfo() {
  return ControlCall<v1::ServerInfo>("GetServerInfo", [&](auto* context, auto* response) {
    return control_->GetServerInfo(context, v1::GetServerInfoRequest(), response);
  });
}

absl::StatusOr<v1::Load> Client::GetLoad() {
  return ControlCall<v1::Load>("GetLoad", [&](auto* context, auto* response) {
    return control_->GetLoad(context, v1::GetLoadRequest(), response);
  });
}

absl::StatusOr<std::string> Client::GetHealth(const std::string& service) {
  using grpc::health::v1::HealthCheckResponse;
  grpc::ClientContext context;
  context.set_deadline(absl::ToChronoTime(absl::Now() + kControlTimeout));
  grpc::health::v1::HealthCheckRequest request;
  request.set_service(service);
  HealthCheckResponse response;
  const grpc::Status status = health_->Check(&context, request, &response);
  if (status.ok()) return HealthCheckResponse::ServingStatus_Name(response.status());
  return absl::UnavailableError(absl::StrCat("Health.Check: ", DescribeError(status)));
}

std::string CodeName(grpc::StatusCode code) {
  // gRPC's and Abseil's codes are the same numbers.
  std::string name = absl::StatusCodeToString(static_cast<absl::StatusCode>(code));
  return name.empty() ? absl::StrCat("CODE_", static_cast<int>(code)) : name;
}

std::optional<absl::Duration> RetryDelay(const grpc::Status& status) {
  google::rpc::Status details;
  if (status.error_details().empty() || !details.ParseFromString(status.error_details())) {
    return std::nullopt;
  }
  for (const google::protobuf::Any& any : details.details()) {
    google::rpc::RetryInfo info;
    if (!any.UnpackTo(&info)) continue;
    return absl::Seconds(info.retry_delay().seconds()) +
           absl::Nanoseconds(info.retry_delay().nanos());
  }
  return std::nullopt;
}

std::string DescribeError(const grpc::Status& status) {
  std::string text = absl::StrCat(CodeName(status.error_code()), ": ", status.error_message());
  const std::optional<absl::Duration> delay = RetryDelay(status);
  if (delay.has_value()) {
    absl::StrAppend(&text, " (retry in ", absl::FormatDuration(*delay), ")");
  }
  return text;
}

absl::Duration MonotonicNow() {
  return absl::FromChrono(std::chrono::steady_clock::now().time_since_epoch());
}

}  // namespace sluice
