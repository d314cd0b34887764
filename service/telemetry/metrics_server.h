// MetricsServer: serves pages of metrics over HTTP, on a port of its own.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace prometheus {
class Collectable;
}

namespace sluice {

struct MetricsPage {
  std::string path;  // "/metrics"
  std::shared_ptr<prometheus::Collectable> content;
};

class MetricsServer {
 public:
  // `address` is host:port; port 0 picks a free one.
  // Returns UNAVAILABLE naming the address if it cannot be bound.
  static absl::StatusOr<std::unique_ptr<MetricsServer>> Start(const std::string& address,
                                                              std::vector<MetricsPage> pages);
  ~MetricsServer();

  int port() const;

 private:
  class Impl;
  explicit MetricsServer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace sluice
