#include "backend/kv/remote_tls.h"

#include <arpa/inet.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <poll.h>

#include <array>
#include <cerrno>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/strings/str_cat.h"
#include "backend/kv/tls_context.h"
#include "scheduler/base/status_macros.h"

namespace sluice {
namespace {

// Parts up to this size share a record.
constexpr size_t kSmallPart = 4096;

bool IsAddress(const std::string& host) {
  std::array<unsigned char, sizeof(in6_addr)> bytes;
  return inet_pton(AF_INET, host.c_str(), bytes.data()) == 1 ||
         inet_pton(AF_INET6, host.c_str(), bytes.data()) == 1;
}

class TlsTransport final : public RemoteTransport {
 public:
  TlsTransport(RemoteSocket socket, TlsConnection tls, std::string host, bool ours)
      : socket_(std::move(socket)), tls_(std::move(tls)), host_(std::move(host)), ours_(ours) {}

  absl::Status Shake(absl::Time deadline);

  absl::Status Send(std::span<const std::span<const std::byte>> parts,
                    absl::Time deadline) override;
  absl::StatusOr<size_t> Receive(std::span<std::byte> out, bool all, absl::Time deadline) override;
  bool secure() const override { return true; }

 private:
  static int OnCertificate(int accepted, X509_STORE_CTX* check);
  // Runs `step` until it is through; it may have to send and to receive to get there.
  absl::Status Do(absl::FunctionRef<int()> step, absl::Time deadline);
  absl::Status SendBytes(std::span<const std::byte> bytes, absl::Time deadline);
  absl::Status Problem(int code);

  const RemoteSocket socket_;
  const TlsConnection tls_;
  const std::string host_;
  const bool ours_;  // whether we have a certificate
  TlsRefusal refusal_;
};

int TlsTransport::OnCertificate(int accepted, X509_STORE_CTX* check) {
  if (accepted == 1) return 1;
  auto* const tls =
      static_cast<SSL*>(X509_STORE_CTX_get_ex_data(check, SSL_get_ex_data_X509_STORE_CTX_idx()));
  static_cast<TlsTransport*>(SSL_get_app_data(tls))->refusal_ = RefusalOf(check);
  return 0;
}

absl::Status TlsTransport::Shake(absl::Time deadline) {
  SSL* const tls = tls_.get();
  BIO* const bio = MakeSocketBio(socket_.fd());
  if (bio == nullptr) return absl::UnavailableError("TLS: out of memory");
  SSL_set_bio(tls, bio, bio);
  SSL_set_app_data(tls, this);
  SSL_set_verify(tls, SSL_VERIFY_PEER, &OnCertificate);
  bool named = false;
  if (IsAddress(host_)) {
    named = X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(tls), host_.c_str()) == 1;
  } else {
    SSL_set_hostflags(tls, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    named =
        SSL_set1_host(tls, host_.c_str()) == 1 && SSL_set_tlsext_host_name(tls, host_.c_str()) == 1;
  }
  if (!named) return absl::UnavailableError(absl::StrCat("TLS: ", host_, " is no name of a host"));
  const absl::Status shaken = Do([tls] { return SSL_connect(tls); }, deadline);
  if (!absl::IsDeadlineExceeded(shaken)) return shaken;
  return absl::DeadlineExceededError(
      absl::StrCat("TLS: the handshake got ", shaken.message(),
                   "; if its port does not speak TLS, name its TLS port, or use redis://"));
}

absl::Status TlsTransport::Do(absl::FunctionRef<int()> step, absl::Time deadline) {
  while (true) {
    ERR_clear_error();
    errno = 0;
    const int result = step();
    if (result == 1) return absl::OkStatus();
    const int code = SSL_get_error(tls_.get(), result);
    if (code != SSL_ERROR_WANT_READ && code != SSL_ERROR_WANT_WRITE) return Problem(code);
    SLUICE_RETURN_IF_ERROR(socket_.Wait(code == SSL_ERROR_WANT_READ ? POLLIN : POLLOUT, deadline));
  }
}

absl::Status TlsTransport::Problem(int code) {
  const int error = errno;
  if (refusal_.error != X509_V_OK) return RefusalStatus(refusal_, host_);
  if (code == SSL_ERROR_ZERO_RETURN) {
    return absl::UnavailableError("the server closed the connection");
  }
  if (code == SSL_ERROR_SYSCALL && ERR_peek_error() == 0) {
    if (error == 0) return absl::UnavailableError("the server closed the connection");
    return BrokenBy("TLS", error);
  }
  return ErrorStatus(ours_);
}

absl::Status TlsTransport::SendBytes(std::span<const std::byte> bytes, absl::Time deadline) {
  while (!bytes.empty()) {
    size_t sent = 0;
    const absl::Status status =
        Do([&] { return SSL_write_ex(tls_.get(), bytes.data(), bytes.size(), &sent); }, deadline);
    if (absl::IsUnavailable(status)) {
      // With TLS 1.3 a server that refuses us says so after the handshake, and hangs up.
      std::byte one{};
      size_t got = 0;
      const absl::Status last =
          Do([&] { return SSL_read_ex(tls_.get(), &one, 1, &got); }, deadline);
      return absl::IsPermissionDenied(last) ? last : status;
    }
    SLUICE_RETURN_IF_ERROR(status);
    bytes = bytes.subspan(sent);
  }
  return absl::OkStatus();
}

absl::Status TlsTransport::Send(std::span<const std::span<const std::byte>> parts,
                                absl::Time deadline) {
  std::vector<std::byte> small;
  for (const std::span<const std::byte> part : parts) {
    if (part.size() <= kSmallPart) {
      small.insert(small.end(), part.begin(), part.end());
      continue;
    }
    SLUICE_RETURN_IF_ERROR(SendBytes(std::exchange(small, {}), deadline));
    SLUICE_RETURN_IF_ERROR(SendBytes(part, deadline));
  }
  return SendBytes(small, deadline);
}

absl::StatusOr<size_t> TlsTransport::Receive(std::span<std::byte> out, bool all,
                                             absl::Time deadline) {
  size_t done = 0;
  while (done < out.size()) {
    size_t got = 0;
    const std::span<std::byte> rest = out.subspan(done);
    SLUICE_RETURN_IF_ERROR(
        Do([&] { return SSL_read_ex(tls_.get(), rest.data(), rest.size(), &got); }, deadline));
    done += got;
    if (!all) break;
  }
  return done;
}

}  // namespace

absl::StatusOr<std::unique_ptr<RemoteTransport>> MakeTlsTransport(RemoteSocket socket,
                                                                  const std::string& host,
                                                                  const RemoteTlsOptions& options,
                                                                  absl::Time deadline) {
  SLUICE_ASSIGN_OR_RETURN(const TlsContext context, MakeTlsContext(options));
  TlsConnection tls(SSL_new(context.get()));  // keeps the context
  if (tls == nullptr) return absl::UnavailableError("TLS: out of memory");
  SLUICE_RETURN_IF_ERROR(socket.SetBlocking(false));
  auto transport = std::make_unique<TlsTransport>(std::move(socket), std::move(tls), host,
                                                  !options.certificate_file.empty());
  SLUICE_RETURN_IF_ERROR(transport->Shake(deadline));
  return transport;
}

}  // namespace sluice
