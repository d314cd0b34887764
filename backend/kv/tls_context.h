// What OpenSSL needs before and around a connection of remote_tls.h: a context from files, a way to
// bytes that raises no SIGPIPE, and words for what goes wrong.
#pragma once

#include <openssl/bio.h>
#include <openssl/ssl.h>

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "backend/kv/remote_tls.h"

namespace sluice {

struct FreeTls {
  void operator()(SSL_CTX* context) const { SSL_CTX_free(context); }
  void operator()(SSL* connection) const { SSL_free(connection); }
};
using TlsContext = std::unique_ptr<SSL_CTX, FreeTls>;
using TlsConnection = std::unique_ptr<SSL, FreeTls>;

// Returns NOT_FOUND naming the file that cannot be used.
absl::StatusOr<TlsContext> MakeTlsContext(const RemoteTlsOptions& options);

// A BIO over a socket that belongs to somebody else. Null: out of memory.
BIO* MakeSocketBio(int fd);

// What a peer's certificate was refused for.
struct TlsRefusal {
  int error = X509_V_OK;
  std::string subject;  // of the certificate that did not pass
  std::string names;    // for which it is, "a, b"
  std::string expiry;
};
// Fills it in from the certificate being checked.
TlsRefusal RefusalOf(X509_STORE_CTX* check);

// What to say, and to do, if our check of the certificate of `host` failed so.
absl::Status RefusalStatus(const TlsRefusal& refusal, const std::string& host);

// What to say about the error on top of OpenSSL's queue. `ours`: whether we have shown a
// certificate.
absl::Status ErrorStatus(bool ours);

}  // namespace sluice
