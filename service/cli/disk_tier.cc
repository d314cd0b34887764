#include "service/cli/disk_tier.h"

#include <spdlog/spdlog.h>

#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "backend/disk_probe.h"
#include "backend/kv/disk_audit.h"
#include "scheduler/base/status_macros.h"
#include "service/config/flag_values.h"

namespace sluice {
namespace {

constexpr absl::Duration kProbeTime = absl::Milliseconds(150);
constexpr Bytes kProbeBytes = MiB(32);

LinkCoefficients CostOf(const RunTimes& piece, Bytes bytes, const RunTimes& latency) {
  LinkCoefficients cost;
  cost.per_byte = Seconds(absl::ToDoubleSeconds(piece.quarter) / AsDouble(bytes));
  // Scattered blocks are read as if one after the other; what they gain side by side is learned.
  cost.per_run = Seconds(absl::ToDoubleSeconds(latency.quarter));
  cost.latency = cost.per_run;
  return cost;
}

std::string RateText(const LinkCoefficients& cost) {
  return absl::StrFormat("%.2f GB/s", 1e-9 / cost.per_byte.value());
}

}  // namespace

absl::StatusOr<std::unique_ptr<DiskTier>> DiskTier::Open(const DiskTierOptions& options) {
  std::unique_ptr<DiskTier> tier(new DiskTier(options));
  DiskStoreOptions store;
  store.directory = options.directory;
  store.space = options.space;
  store.limit = options.limit;
  absl::StatusOr<std::unique_ptr<DiskStore>> opened = DiskStore::Open(store);
  if (!opened.ok()) {
    const char* flag = absl::IsInvalidArgument(opened.status()) ? "--kv-disk-gib" : "--kv-disk-dir";
    return absl::Status(opened.status().code(),
                        absl::StrCat(flag, ": ", opened.status().message()));
  }
  tier->store_ = *std::move(opened);
  const StoreShape& shape = tier->store_->shape();
  const KvGeometry geometry{shape.tokens_per_block, shape.payload};
  spdlog::info("disk KV tier: {}: {} blocks = {} tokens = {}; {}", tier->store_->directory(),
               shape.slots.value(), geometry.TokensIn(shape.slots).value(),
               FormatBytes(geometry.BytesFor(shape.slots)), tier->store_->description());
  SLUICE_RETURN_IF_ERROR(tier->Scan());
  tier->Measure();
  tier->LogOthers();
  return tier;
}

absl::Status DiskTier::Scan() {
  const absl::Time start = options_.clock();
  SLUICE_ASSIGN_OR_RETURN(content_, store_->Scan());
  scan_time_ = options_.clock() - start;
  if (content_.broken + content_.orphans == 0) return absl::OkStatus();
  spdlog::warn("disk KV tier: {} broken records and {} blocks without their prefix dropped",
               content_.broken, content_.orphans);
  return absl::OkStatus();
}

// Every disk is another, and what is on it is only worth reading where that beats computing it.
void DiskTier::Measure() {
  ProbeControl control;
  control.clock = options_.clock;
  control.time = kProbeTime;
  const absl::StatusOr<DiskRates> rates = ProbeDisk(options_.directory, kProbeBytes, control);
  if (!rates.ok()) {
    spdlog::warn("disk KV tier: not measured ({}); its cost starts from a guess",
                 std::string(rates.status().message()));
    return;
  }
  read_ = CostOf(rates->read, rates->piece, rates->latency);
  write_ = CostOf(rates->write, rates->piece, rates->latency);
  measured_ = true;
  spdlog::info("disk KV tier: reads {}, writes {}, {:.2f} ms per access", RateText(read_),
               RateText(write_), read_.latency.value() * 1e3);
}

void DiskTier::LogOthers() const {
  int64_t count = 0;
  Bytes size;
  for (const std::string& id : ListNamespaces(options_.directory)) {
    if (id == options_.space.Id()) continue;
    ++count;
    size += Summarize(options_.directory, id).size;
  }
  if (count == 0) return;
  spdlog::info("disk KV tier: {} of {} other models or layouts there, too (sluice cache gc)",
               FormatBytes(size), count);
}

void DiskTier::Price(const KvGeometry& host, CostCoefficients& cost) const {
  LinkCoefficients& read = cost.links[static_cast<size_t>(LinkDirection::kDiskToHost)];
  LinkCoefficients& write = cost.links[static_cast<size_t>(LinkDirection::kHostToDisk)];
  if (measured_) {
    read = read_;
    write = write_;
  }
  const double share = AsDouble(store_->shape().payload) / AsDouble(host.bytes_per_block);
  read.per_byte = read.per_byte * share;
  write.per_byte = write.per_byte * share;
}

absl::Status DiskTier::Adopt(Scheduler& scheduler, BlockStore& through) {
  const absl::Time start = options_.clock();
  const std::vector<BlockId> unused = scheduler.Adopt(content_.blocks);
  for (const BlockId slot : unused) SLUICE_RETURN_IF_ERROR(through.Drop(slot));
  const absl::Duration took = options_.clock() - start + scan_time_;
  spdlog::info("disk KV tier: adopted {} blocks in {:.3f} s{}",
               content_.blocks.size() - unused.size(), absl::ToDoubleSeconds(took),
               unused.empty() ? "" : absl::StrCat(", dropped ", unused.size(), " of no use"));
  content_ = StoreContent();
  return absl::OkStatus();
}

}  // namespace sluice
