#include "service/cli/client.h"

#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>

#include <chrono>

#include "absl/status/status.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "google/rpc/retry_info.pb.h"

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

grpc::ChannelArguments ChannelOptions() {
  grpc::ChannelArguments args;
  args.SetMaxReceiveMessageSize(-1);
  args.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);  // the endpoint is meant literally
  args.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 100);
  args.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, 100);
  args.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 1000);
  return args;
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
      control_(v1::Control::NewStub(channel)) {}

absl::StatusOr<std::unique_ptr<Client>> Client::Connect(const std::string& endpoint,
                                                        absl::Duration patience) {
  const absl::Status shape = CheckEndpoint(endpoint);
  if (!shape.ok()) return shape;
  std::shared_ptr<grpc::Channel> channel =
      grpc::CreateCustomChannel(endpoint, grpc::InsecureChannelCredentials(), ChannelOptions());
  if (!channel->WaitForConnected(absl::ToChronoTime(absl::Now() + patience))) {
    return absl::UnavailableError(absl::StrCat("nothing answers at ", endpoint, " (waited ",
                                               absl::FormatDuration(patience),
                                               "); start a server with \"sluice serve --model "
                                               "DIR\", or name it with --endpoint HOST:PORT"));
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
