#include "service/cli/client_security.h"

#include <algorithm>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "scheduler/base/status_macros.h"
#include "service/grpc/flag_file.h"

namespace sluice {
namespace {

using grpc::experimental::ClientRpcInfo;
using grpc::experimental::InterceptionHookPoints;
using grpc::experimental::Interceptor;
using grpc::experimental::InterceptorBatchMethods;

class AddToken final : public Interceptor {
 public:
  explicit AddToken(const std::string& header) : header_(header) {}

  void Intercept(InterceptorBatchMethods* methods) override {
    if (methods->QueryInterceptionHookPoint(InterceptionHookPoints::PRE_SEND_INITIAL_METADATA)) {
      methods->GetSendInitialMetadata()->insert({"authorization", header_});
    }
    methods->Proceed();
  }

 private:
  const std::string& header_;  // the factory's, which lives as long as the channel
};

class AddTokenFactory final : public grpc::experimental::ClientInterceptorFactoryInterface {
 public:
  explicit AddTokenFactory(std::string header) : header_(std::move(header)) {}
  Interceptor* CreateClientInterceptor(ClientRpcInfo*) override { return new AddToken(header_); }

 private:
  const std::string header_;
};

}  // namespace

absl::StatusOr<std::shared_ptr<grpc::ChannelCredentials>> MakeChannelCredentials(
    const ClientSecurity& security) {
  if (security.tls_ca.empty()) {
    const bool rest = !security.tls_cert.empty() || !security.tls_key.empty() ||
                      !security.tls_server_name.empty();
    if (!rest) return grpc::InsecureChannelCredentials();
    return absl::InvalidArgumentError(
        "--tls-ca: is missing, so there is no TLS; name who signed the server's certificate, or "
        "system");
  }
  if (security.tls_cert.empty() != security.tls_key.empty()) {
    return absl::InvalidArgumentError("--tls-cert and --tls-key: want both or none");
  }
  grpc::SslCredentialsOptions options;
  if (security.tls_ca != "system") {
    SLUICE_ASSIGN_OR_RETURN(options.pem_root_certs, ReadFlagFile("--tls-ca", security.tls_ca));
  }
  if (!security.tls_cert.empty()) {
    SLUICE_ASSIGN_OR_RETURN(options.pem_cert_chain, ReadFlagFile("--tls-cert", security.tls_cert));
    SLUICE_ASSIGN_OR_RETURN(options.pem_private_key, ReadFlagFile("--tls-key", security.tls_key));
  }
  return grpc::SslCredentials(options);
}

absl::StatusOr<std::unique_ptr<grpc::experimental::ClientInterceptorFactoryInterface>>
MakeTokenInterceptor(const ClientSecurity& security) {
  if (security.token_file.empty()) return nullptr;
  SLUICE_ASSIGN_OR_RETURN(const std::string content,
                          ReadFlagFile("--token-file", security.token_file));
  const std::string token(absl::StripAsciiWhitespace(content));
  const auto printable = [](char c) { return absl::ascii_isgraph(static_cast<unsigned char>(c)); };
  if (token.empty() || !std::all_of(token.begin(), token.end(), printable)) {
    return absl::InvalidArgumentError(
        absl::StrCat("--token-file: ", security.token_file,
                     " holds no token or more than one; want one word of printable ASCII"));
  }
  return std::make_unique<AddTokenFactory>(absl::StrCat("Bearer ", token));
}

}  // namespace sluice
