// ClientSecurity: how a client command proves who it is, and knows whom it talks to.
#pragma once

#include <grpcpp/security/credentials.h>
#include <grpcpp/support/client_interceptor.h>

#include <memory>
#include <string>

#include "absl/status/statusor.h"

namespace sluice {

struct ClientSecurity {
  // PEM of who signed the server's certificate; "system" for what the system trusts. Empty: no TLS.
  std::string tls_ca = "";
  // The client's own certificate, where the server asks for one (mutual TLS).
  std::string tls_cert = "";
  std::string tls_key = "";
  // The name the server's certificate must show, where it is not that of the endpoint.
  std::string tls_server_name = "";
  // A file whose only word is the token. A file, because arguments are visible to every user.
  std::string token_file = "";
};

// Credentials of the connection: TLS or none.
// Returns INVALID_ARGUMENT if the flags do not fit together, NOT_FOUND naming a file that cannot be
// read.
absl::StatusOr<std::shared_ptr<grpc::ChannelCredentials>> MakeChannelCredentials(
    const ClientSecurity& security);

// Adds "authorization: Bearer TOKEN" to every call; null without a token file. Not gRPC's own call
// credentials, because those refuse connections without TLS, as behind a mesh or on loopback.
// Returns NOT_FOUND or INVALID_ARGUMENT naming the file; never the token.
absl::StatusOr<std::unique_ptr<grpc::experimental::ClientInterceptorFactoryInterface>>
MakeTokenInterceptor(const ClientSecurity& security);

}  // namespace sluice
