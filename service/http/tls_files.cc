#include "service/http/tls_files.h"

#include <sys/stat.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "scheduler/base/status_macros.h"

namespace sluice {
namespace {

namespace ssl = boost::asio::ssl;
using Error = boost::system::error_code;

absl::Status CannotUse(const char* what, const std::string& path, const Error& error) {
  return absl::InvalidArgumentError(
      absl::StrCat("tls ", what, ": cannot use ", path, " for HTTP: ", error.message()));
}

}  // namespace

absl::StatusOr<std::unique_ptr<TlsFiles>> TlsFiles::Open(const HttpTls& tls, Report report) {
  std::unique_ptr<TlsFiles> files(new TlsFiles(tls, std::move(report)));
  files->stamps_ = files->StampsNow();
  files->looked_ = absl::Now();
  SLUICE_ASSIGN_OR_RETURN(files->context_, files->Read());
  return files;
}

std::shared_ptr<ssl::context> TlsFiles::Current() {
  const absl::Time now = absl::Now();
  if (now - looked_ < tls_.reload_interval) return context_;
  looked_ = now;
  const Stamps stamps = StampsNow();
  if (stamps == stamps_) return context_;
  stamps_ = stamps;
  absl::StatusOr<std::shared_ptr<ssl::context>> read = Read();
  if (report_ != nullptr) report_(read.status());
  if (read.ok()) context_ = *std::move(read);
  return context_;
}

TlsFiles::Stamps TlsFiles::StampsNow() const {
  Stamps stamps;
  const std::array<const std::string*, 3> paths = {&tls_.certificate, &tls_.key, &tls_.client_ca};
  for (size_t i = 0; i < paths.size(); ++i) {
    struct stat found = {};
    if (paths[i]->empty() || ::stat(paths[i]->c_str(), &found) != 0) continue;
    stamps[i] = {found.st_ino, found.st_size, found.st_mtim.tv_sec, found.st_mtim.tv_nsec};
  }
  return stamps;
}

absl::StatusOr<std::shared_ptr<ssl::context>> TlsFiles::Read() const {
  auto context = std::make_shared<ssl::context>(ssl::context::tls_server);
  Error error;
  context->set_options(ssl::context::default_workarounds | ssl::context::no_tlsv1 |
                           ssl::context::no_tlsv1_1 | ssl::context::no_compression,
                       error);
  // A key with a passphrase is refused, not asked about on the terminal.
  context->set_password_callback(
      [](size_t, ssl::context::password_purpose) { return std::string(); }, error);
  context->use_certificate_chain_file(tls_.certificate, error);
  if (error) return CannotUse("certificate", tls_.certificate, error);
  context->use_private_key_file(tls_.key, ssl::context::pem, error);
  if (error) {
    return absl::InvalidArgumentError(absl::StrCat("tls key: ", tls_.key,
                                                   " is not the key of the certificate in ",
                                                   tls_.certificate, " (", error.message(), ")"));
  }
  if (tls_.client_ca.empty()) return context;
  context->load_verify_file(tls_.client_ca, error);
  if (!error) {
    context->set_verify_mode(ssl::verify_peer | ssl::verify_fail_if_no_peer_cert, error);
  }
  if (error) return CannotUse("client ca", tls_.client_ca, error);
  return context;
}

}  // namespace sluice
