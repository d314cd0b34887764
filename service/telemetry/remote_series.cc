#include "service/telemetry/remote_series.h"

#include <cstddef>
#include <utility>

#include "service/telemetry/family.h"
#include "service/telemetry/series.h"

namespace sluice {

using prometheus::MetricType;

RemoteSeries::RemoteSeries(std::string model, std::function<RemoteStats()> read)
    : model_(std::move(model)), read_(std::move(read)) {}

std::vector<prometheus::MetricFamily> RemoteSeries::Collect() const {
  const RemoteStats stats = read_();
  const Labels model = {{"model", model_}};
  std::vector<prometheus::MetricFamily> families;
  const auto one = [&](MetricType type, const char* name, const char* help, int64_t value) {
    families.push_back(
        FamilyBuilder(type, name, help, model).Add(static_cast<double>(value)).Build());
  };
  one(MetricType::Gauge, "sluice_kv_remote_breaker_state",
      "Whether the remote store is asked: 0 closed (it is), 1 half open (one trial), 2 open (not).",
      stats.breaker_state);
  one(MetricType::Counter, "sluice_kv_remote_breaker_opened_total", "How often it was found away.",
      stats.breaker_opened);
  one(MetricType::Counter, "sluice_kv_remote_breaker_trials_total",
      "How often it was tried whether it is back.", stats.breaker_trials);
  one(MetricType::Counter, "sluice_kv_remote_connections_total", "Connections made.",
      stats.connections_made);
  one(MetricType::Counter, "sluice_kv_remote_lookups_total",
      "Prompts that the remote store was asked about when they arrived.", stats.lookups);
  one(MetricType::Counter, "sluice_kv_remote_found_blocks_total",
      "Blocks of these prompts that were there.", stats.blocks_found);
  FamilyBuilder blocks(MetricType::Counter, "sluice_kv_remote_blocks_total",
                       "Blocks read, missed (gone there), written, and shared (not written, since "
                       "another server had).",
                       model);
  blocks.Add(static_cast<double>(stats.blocks_read), {{"result", "read"}});
  blocks.Add(static_cast<double>(stats.blocks_missed), {{"result", "missed"}});
  blocks.Add(static_cast<double>(stats.blocks_written), {{"result", "written"}});
  blocks.Add(static_cast<double>(stats.blocks_shared), {{"result", "shared"}});
  families.push_back(blocks.Build());
  FamilyBuilder errors(MetricType::Counter, "sluice_kv_remote_errors_total",
                       "What was asked and did not come about, by why.", model);
  for (size_t i = 0; i < stats.errors.size(); ++i) {
    errors.Add(static_cast<double>(stats.errors[i]),
               {{"kind", RemoteErrorName(static_cast<RemoteError>(i))}});
  }
  families.push_back(errors.Build());
  return families;
}

}  // namespace sluice
