#include "service/grpc/server_tls.h"

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "grpcpp/security/tls_certificate_provider.h"
#include "grpcpp/security/tls_credentials_options.h"
#include "scheduler/base/status_macros.h"
#include "service/grpc/flag_file.h"

namespace sluice {
namespace {

using Certificate = std::unique_ptr<X509, decltype(&X509_free)>;
using Key = std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)>;
using Bio = std::unique_ptr<BIO, decltype(&BIO_free)>;

Bio OpenBio(const std::string& pem) {
  return {BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size())), &BIO_free};
}

// OpenSSL keeps errors in a queue, which would be read as somebody else's later.
absl::Status NotPem(const char* flag, const std::string& path, const char* what) {
  ERR_clear_error();
  return absl::InvalidArgumentError(absl::StrCat(flag, ": ", path, " holds no ", what, " in PEM"));
}

absl::StatusOr<Certificate> ReadCertificate(const char* flag, const std::string& path) {
  SLUICE_ASSIGN_OR_RETURN(const std::string pem, ReadFlagFile(flag, path));
  Certificate certificate(PEM_read_bio_X509(OpenBio(pem).get(), nullptr, nullptr, nullptr),
                          &X509_free);
  if (certificate == nullptr) return NotPem(flag, path, "certificate");
  return certificate;
}

absl::StatusOr<Key> ReadKey(const std::string& path) {
  SLUICE_ASSIGN_OR_RETURN(const std::string pem, ReadFlagFile("tls key", path));
  // A key with a passphrase is refused, not asked about on the terminal.
  const auto no_passphrase = [](char*, int, int, void*) { return -1; };
  Key key(PEM_read_bio_PrivateKey(OpenBio(pem).get(), nullptr, no_passphrase, nullptr),
          &EVP_PKEY_free);
  if (key == nullptr) return NotPem("tls key", path, "private key without passphrase");
  return key;
}

absl::Status CheckFiles(const ServerTls& tls) {
  SLUICE_ASSIGN_OR_RETURN(const Certificate certificate,
                          ReadCertificate("tls certificate", tls.certificate));
  SLUICE_ASSIGN_OR_RETURN(const Key key, ReadKey(tls.key));
  if (X509_check_private_key(certificate.get(), key.get()) != 1) {
    ERR_clear_error();
    return absl::InvalidArgumentError(absl::StrCat(
        "tls key: ", tls.key, " is not the key of the certificate in ", tls.certificate));
  }
  if (tls.client_ca.empty()) return absl::OkStatus();
  return ReadCertificate("tls client ca", tls.client_ca).status();
}

}  // namespace

absl::StatusOr<std::shared_ptr<grpc::ServerCredentials>> MakeServerCredentials(
    const ServerTls& tls) {
  if (tls.certificate.empty() && tls.key.empty() && tls.client_ca.empty()) {
    return grpc::InsecureServerCredentials();
  }
  if (tls.certificate.empty() || tls.key.empty()) {
    return absl::InvalidArgumentError(
        "tls: certificate and key must both be given; add the missing file");
  }
  SLUICE_RETURN_IF_ERROR(CheckFiles(tls));
  using grpc::experimental::FileWatcherCertificateProvider;
  const auto seconds = static_cast<unsigned>(
      std::clamp<int64_t>(absl::ToInt64Seconds(tls.reload_interval), 1, 86400));
  grpc::experimental::TlsServerCredentialsOptions options(
      std::make_shared<FileWatcherCertificateProvider>(tls.key, tls.certificate, tls.client_ca,
                                                       seconds));
  options.watch_identity_key_cert_pairs();
  if (!tls.client_ca.empty()) {
    options.watch_root_certs();
    options.set_cert_request_type(GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY);
  }
  return grpc::experimental::TlsServerCredentials(options);
}

}  // namespace sluice
