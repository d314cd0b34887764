// VllmAliases: the same numbers under the names that vLLM's dashboards, autoscalers (KEDA triggers)
// and gateways (the inference extension's endpoint picker) look for. A view: nothing is counted
// twice. Labels are vLLM's: model_name and engine ("0").
//
// Thread-safe.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "backend/backend.h"
#include "prometheus/collectable.h"

namespace sluice {

class VllmAliases final : public prometheus::Collectable {
 public:
  // `native`: where the sluice_ series are.
  VllmAliases(const BackendInfo& info, std::string model,
              std::shared_ptr<const prometheus::Collectable> native);

  std::vector<prometheus::MetricFamily> Collect() const override;

 private:
  const std::string block_size_;
  const std::string device_blocks_;
  const std::string dtype_;
  const std::string model_;
  const std::shared_ptr<const prometheus::Collectable> native_;
};

}  // namespace sluice
