#include "service/telemetry/tiered_series.h"

#include <utility>

#include "service/telemetry/family.h"
#include "service/telemetry/series.h"

namespace sluice {
namespace {

using prometheus::MetricType;

// One label value of a family, and its number.
struct Part {
  const char* value;
  int64_t count;
};

class Families {
 public:
  explicit Families(const std::string& model) : model_({{"model", model}}) {}

  void One(MetricType type, const char* name, const char* help, int64_t value) {
    families_.push_back(
        FamilyBuilder(type, name, help, model_).Add(static_cast<double>(value)).Build());
  }
  void Counters(const char* name, const char* help, const char* label,
                const std::vector<Part>& parts) {
    FamilyBuilder builder(MetricType::Counter, name, help, model_);
    for (const Part& part : parts) {
      builder.Add(static_cast<double>(part.count), {{label, part.value}});
    }
    families_.push_back(builder.Build());
  }
  std::vector<prometheus::MetricFamily> Take() && { return std::move(families_); }

 private:
  const Labels model_;
  std::vector<prometheus::MetricFamily> families_;
};

}  // namespace

TieredSeries::TieredSeries(std::string model, std::function<TieredStats()> read)
    : model_(std::move(model)), read_(std::move(read)) {}

std::vector<prometheus::MetricFamily> TieredSeries::Collect() const {
  const TieredStats s = read_();
  Families families(model_);
  families.Counters("sluice_kv_storage_blocks_read_total",
                    "Blocks read behind the host and found right, by where they were.", "place",
                    {{"disk", s.disk_blocks}, {"remote", s.remote_blocks}});
  families.Counters("sluice_kv_storage_bytes_read_total", "Bytes of these blocks.", "place",
                    {{"disk", s.disk_bytes.value()}, {"remote", s.remote_bytes.value()}});
  families.Counters("sluice_kv_storage_wrong_blocks_total",
                    "Blocks whose bytes were not what was written; none of them was used.", "place",
                    {{"disk", s.disk_corrupt}, {"remote", s.remote_corrupt}});
  families.One(MetricType::Counter, "sluice_kv_storage_rescued_blocks_total",
               "Blocks that the disk should have had and did not give, read from the remote store.",
               s.rescued);
  families.One(MetricType::Counter, "sluice_kv_storage_lost_blocks_total",
               "Blocks that neither place gave; they are computed.", s.lost);
  families.Counters("sluice_kv_storage_copies_total",
                    "Blocks for the remote store, beside the disk: written (or there already), not "
                    "taken (too many wait; nobody answers there), failed.",
                    "result",
                    {{"written", s.copied},
                     {"full", s.copies_full},
                     {"away", s.copies_away},
                     {"failed", s.copies_failed}});
  families.Counters("sluice_kv_storage_fills_total",
                    "Blocks read from the remote store, for the disk: written, not taken (too many "
                    "wait), failed.",
                    "result",
                    {{"written", s.filled}, {"full", s.fills_full}, {"failed", s.fills_failed}});
  families.One(MetricType::Gauge, "sluice_kv_storage_waiting_bytes",
               "Bytes of copies and fills that wait.", s.waiting.value());
  families.One(MetricType::Counter, "sluice_kv_storage_remote_only_blocks_total",
               "Blocks that the disk did not take and the queue for the remote store did.",
               s.remote_only);
  return std::move(families).Take();
}

}  // namespace sluice
