#include "backend/kv/tls_context.h"

#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstdint>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace sluice {
namespace {

// What is received at a time: several records, so that each need not be asked for twice.
constexpr size_t kReadBufferBytes = 128 << 10;

std::string LastError() {
  const char* const reason = ERR_reason_error_string(ERR_peek_last_error());
  return reason == nullptr ? "unknown error" : reason;
}

absl::Status CannotUse(const char* flag, const char* what, const std::string& path) {
  return absl::NotFoundError(
      absl::StrCat("TLS: ", flag, ": cannot use ", path, " as ", what, ": ", LastError()));
}

int SendBytes(BIO* bio, const char* bytes, int count) {
  BIO_clear_retry_flags(bio);
  const auto fd = static_cast<int>(reinterpret_cast<intptr_t>(BIO_get_data(bio)));
  const ssize_t sent = send(fd, bytes, static_cast<size_t>(count), MSG_NOSIGNAL | MSG_DONTWAIT);
  if (sent < 0 && (errno == EAGAIN || errno == EINTR)) BIO_set_retry_write(bio);
  return static_cast<int>(sent);
}

int ReceiveBytes(BIO* bio, char* out, int most) {
  BIO_clear_retry_flags(bio);
  const auto fd = static_cast<int>(reinterpret_cast<intptr_t>(BIO_get_data(bio)));
  const ssize_t got = recv(fd, out, static_cast<size_t>(most), MSG_DONTWAIT);
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) BIO_set_retry_read(bio);
  return static_cast<int>(got);
}

long ControlBio(BIO* /*bio*/, int command, long /*number*/, void* /*pointer*/) {
  return command == BIO_CTRL_FLUSH ? 1 : 0;
}

BIO_METHOD* SocketMethod() {
  static BIO_METHOD* const method = [] {
    BIO_METHOD* const made =
        BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "socket without signals");
    if (made == nullptr) return made;
    BIO_meth_set_write(made, &SendBytes);
    BIO_meth_set_read(made, &ReceiveBytes);
    BIO_meth_set_ctrl(made, &ControlBio);
    return made;
  }();
  return method;
}

// A key with a passphrase is refused, not asked about on the terminal.
int NoPassphrase(char* /*out*/, int /*most*/, int /*writing*/, void* /*data*/) { return 0; }

std::string TextOf(const ASN1_STRING* text) {
  const auto* const bytes = reinterpret_cast<const char*>(ASN1_STRING_get0_data(text));
  return std::string(bytes, static_cast<size_t>(ASN1_STRING_length(text)));
}

std::string AddressText(const ASN1_OCTET_STRING* address) {
  std::vector<std::string> parts;
  const unsigned char* const bytes = ASN1_STRING_get0_data(address);
  const int count = ASN1_STRING_length(address);
  if (count == 4) {
    for (int i = 0; i < count; ++i) parts.push_back(absl::StrCat(static_cast<int>(bytes[i])));
    return absl::StrJoin(parts, ".");
  }
  for (int i = 0; i + 1 < count; i += 2) {
    parts.push_back(absl::StrCat(absl::Hex(bytes[i] << 8 | bytes[i + 1])));
  }
  return absl::StrJoin(parts, ":");
}

std::string NamesOf(X509* certificate) {
  std::vector<std::string> names;
  auto* const all = static_cast<GENERAL_NAMES*>(
      X509_get_ext_d2i(certificate, NID_subject_alt_name, nullptr, nullptr));
  for (int i = 0; i < sk_GENERAL_NAME_num(all); ++i) {
    const GENERAL_NAME* const name = sk_GENERAL_NAME_value(all, i);
    if (name->type == GEN_DNS) names.push_back(TextOf(name->d.dNSName));
    if (name->type == GEN_IPADD) names.push_back(AddressText(name->d.iPAddress));
  }
  GENERAL_NAMES_free(all);
  return names.empty() ? "no name" : absl::StrJoin(names, ", ");
}

std::string SubjectOf(const X509* certificate) {
  char text[256] = "";
  X509_NAME_oneline(X509_get_subject_name(certificate), text, sizeof(text));
  return text;
}

std::string ExpiryOf(const X509* certificate) {
  BIO* const out = BIO_new(BIO_s_mem());
  std::string text = "?";
  if (out != nullptr && ASN1_TIME_print(out, X509_get0_notAfter(certificate)) == 1) {
    char* bytes = nullptr;
    const long size = BIO_get_mem_data(out, &bytes);
    text.assign(bytes, static_cast<size_t>(size));
  }
  BIO_free(out);
  return text;
}

}  // namespace

absl::StatusOr<TlsContext> MakeTlsContext(const RemoteTlsOptions& options) {
  ERR_clear_error();
  TlsContext context(SSL_CTX_new(TLS_client_method()));
  if (context == nullptr) return absl::UnavailableError(absl::StrCat("TLS: ", LastError()));
  SSL_CTX* const c = context.get();
  SSL_CTX_set_min_proto_version(c, TLS1_2_VERSION);
  SSL_CTX_set_mode(c, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
  SSL_CTX_set_read_ahead(c, 1);
  SSL_CTX_set_default_read_buffer_len(c, kReadBufferBytes);
  SSL_CTX_set_default_passwd_cb(c, &NoPassphrase);
  if (options.ca_file.empty()) {
    if (SSL_CTX_set_default_verify_paths(c) != 1) {
      return CannotUse("--kv-remote-ca-file", "the default", "what the system trusts");
    }
  } else if (SSL_CTX_load_verify_file(c, options.ca_file.c_str()) != 1) {
    return CannotUse("--kv-remote-ca-file", "authorities to trust (PEM)", options.ca_file);
  }
  if (options.certificate_file.empty()) return context;
  if (SSL_CTX_use_certificate_chain_file(c, options.certificate_file.c_str()) != 1) {
    return CannotUse("--kv-remote-cert-file", "a certificate (PEM)", options.certificate_file);
  }
  if (SSL_CTX_use_PrivateKey_file(c, options.key_file.c_str(), SSL_FILETYPE_PEM) != 1) {
    return CannotUse(
        "--kv-remote-key-file",
        absl::StrCat("the key of the certificate in ", options.certificate_file).c_str(),
        options.key_file);
  }
  return context;
}

BIO* MakeSocketBio(int fd) {
  BIO_METHOD* const method = SocketMethod();
  BIO* const bio = method == nullptr ? nullptr : BIO_new(method);
  if (bio == nullptr) return nullptr;
  BIO_set_data(bio, reinterpret_cast<void*>(static_cast<intptr_t>(fd)));
  BIO_set_init(bio, 1);
  return bio;
}

TlsRefusal RefusalOf(X509_STORE_CTX* check) {
  TlsRefusal refusal;
  refusal.error = X509_STORE_CTX_get_error(check);
  X509* const certificate = X509_STORE_CTX_get_current_cert(check);
  if (certificate == nullptr) return refusal;
  refusal.subject = SubjectOf(certificate);
  refusal.names = NamesOf(certificate);
  refusal.expiry = ExpiryOf(certificate);
  return refusal;
}

absl::Status RefusalStatus(const TlsRefusal& refusal, const std::string& host) {
  std::string why;
  switch (refusal.error) {
    case X509_V_ERR_HOSTNAME_MISMATCH:
    case X509_V_ERR_IP_ADDRESS_MISMATCH:
      why = absl::StrCat("its certificate is for ", refusal.names, ", not for ", host,
                         "; name it so in the URL, or have a certificate made for ", host);
      break;
    case X509_V_ERR_CERT_HAS_EXPIRED:
      why = absl::StrCat("its certificate (", refusal.subject, ") has expired on ", refusal.expiry,
                         "; the server needs a new one");
      break;
    case X509_V_ERR_CERT_NOT_YET_VALID:
      why = absl::StrCat("its certificate (", refusal.subject,
                         ") is not valid yet; is the clock of this machine right?");
      break;
    default:
      why = absl::StrCat("its certificate (", refusal.subject,
                         ") is not trusted: ", X509_verify_cert_error_string(refusal.error),
                         "; name the authority that signed it by --kv-remote-ca-file");
  }
  return absl::PermissionDeniedError(absl::StrCat("TLS: ", why));
}

absl::Status ErrorStatus(bool ours) {
  const unsigned long error = ERR_peek_last_error();
  const int reason = ERR_GET_LIB(error) == ERR_LIB_SSL ? ERR_GET_REASON(error) : 0;
  const auto refused = [](const char* what) { return absl::PermissionDeniedError(what); };
  switch (reason) {
    case SSL_R_WRONG_VERSION_NUMBER:
    case SSL_R_HTTP_REQUEST:
    case SSL_R_UNKNOWN_PROTOCOL:
      return refused("TLS: its port does not speak TLS; name its TLS port, or use redis://");
    case SSL_R_TLSV13_ALERT_CERTIFICATE_REQUIRED:
      return refused(
          "TLS: it wants a certificate of ours; give --kv-remote-cert-file and "
          "--kv-remote-key-file");
    case SSL_R_TLSV1_ALERT_UNKNOWN_CA:
    case SSL_R_SSLV3_ALERT_BAD_CERTIFICATE:
    case SSL_R_SSLV3_ALERT_CERTIFICATE_EXPIRED:
    case SSL_R_SSLV3_ALERT_CERTIFICATE_REVOKED:
    case SSL_R_SSLV3_ALERT_CERTIFICATE_UNKNOWN:
    case SSL_R_SSLV3_ALERT_UNSUPPORTED_CERTIFICATE:
    case SSL_R_TLSV1_ALERT_ACCESS_DENIED:
    case SSL_R_TLSV1_ALERT_DECRYPT_ERROR:
      return absl::PermissionDeniedError(
          absl::StrCat("TLS: it does not accept our certificate (", LastError(),
                       "); give one that it trusts by --kv-remote-cert-file"));
    case SSL_R_SSLV3_ALERT_HANDSHAKE_FAILURE:
      return absl::PermissionDeniedError(absl::StrCat(
          "TLS: it refuses the handshake (", LastError(), ")",
          ours ? "" : "; if it wants a certificate of ours, give --kv-remote-cert-file"));
    case SSL_R_TLSV1_ALERT_PROTOCOL_VERSION:
    case SSL_R_UNSUPPORTED_PROTOCOL:
      return refused("TLS: it speaks nothing newer than TLS 1.1; it should");
    case SSL_R_UNEXPECTED_EOF_WHILE_READING:
      return absl::UnavailableError("the server closed the connection");
    default:
      return absl::UnavailableError(absl::StrCat("TLS: ", LastError()));
  }
}

}  // namespace sluice
