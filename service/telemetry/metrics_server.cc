#include <exception>
#include <string>

#include "absl/strings/str_cat.h"
#include "prometheus/exposer.h"
#include "prometheus/registry.h"
#include "service/telemetry/metrics.h"

namespace sluice {

class MetricsServer::Impl {
 public:
  explicit Impl(const std::string& address) : exposer(address, /*num_threads=*/2) {}

  prometheus::Exposer exposer;
};

absl::StatusOr<std::unique_ptr<MetricsServer>> MetricsServer::Start(
    const std::string& address, std::shared_ptr<prometheus::Registry> registry) {
  try {
    auto impl = std::make_unique<Impl>(address);
    impl->exposer.RegisterCollectable(registry, "/metrics");
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
