#include "service/telemetry/metrics_server.h"

#include <exception>
#include <utility>

#include "absl/strings/str_cat.h"
#include "prometheus/collectable.h"
#include "prometheus/exposer.h"

namespace sluice {

class MetricsServer::Impl {
 public:
  Impl(const std::string& address, std::vector<MetricsPage> list)
      : pages(std::move(list)), exposer(address, /*num_threads=*/2) {
    for (const MetricsPage& page : pages) exposer.RegisterCollectable(page.content, page.path);
  }

  const std::vector<MetricsPage> pages;  // the exposer holds weak references
  prometheus::Exposer exposer;
};

absl::StatusOr<std::unique_ptr<MetricsServer>> MetricsServer::Start(
    const std::string& address, std::vector<MetricsPage> pages) {
  try {
    auto impl = std::make_unique<Impl>(address, std::move(pages));
    return std::unique_ptr<MetricsServer>(new MetricsServer(std::move(impl)));
  } catch (const std::exception& e) {
    return absl::UnavailableError(absl::StrCat("cannot serve metrics on ", address, ": ", e.what(),
                                               "; is the port in use? (--metrics-port)"));
  }
}

MetricsServer::MetricsServer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
MetricsServer::~MetricsServer() = default;

int MetricsServer::port() const { return impl_->exposer.GetListeningPorts().front(); }

}  // namespace sluice
