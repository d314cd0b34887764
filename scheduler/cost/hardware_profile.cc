#include "scheduler/cost/hardware_profile.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "scheduler/base/status_macros.h"

namespace sluice {
namespace {

// What a number may be. The upper ends are absurd on purpose: ten years ahead of anything sold.
struct Range {
  double min;
  double max;
  const char* text;
};
constexpr Range kFlops{1e6, 1e18, "[1 MFLOP/s, 1 EFLOP/s]"};
constexpr Range kBandwidth{1e3, 1e15, "[1 kB/s, 1 PB/s]"};
constexpr Range kTime{0, 10, "[0 s, 10 s]"};
constexpr Range kSize{1e6, 1e15, "[1 MB, 1 PB]"};
constexpr Range kDescriptor{0, 1e9, "[0 B, 1 GB]"};
constexpr Range kPower{0, 1e6, "[0 W, 1 MW]"};

class Checker {
 public:
  explicit Checker(std::string name) : name_(std::move(name)) {}

  void Number(absl::string_view key, double value, const Range& range) {
    if (value >= range.min && value <= range.max) return;
    if (value == 0) {
      Fail(key, absl::StrCat("is missing; want a value in ", range.text));
    } else {
      Fail(key, absl::StrCat(value, " is not in ", range.text));
    }
  }
  void Optional(absl::string_view key, double value, const Range& range) {
    if (value != 0) Number(key, value, range);
  }
  void NotAbove(absl::string_view key, double value, absl::string_view other, double limit) {
    if (value > limit) Fail(key, absl::StrCat(value, " is above ", other, ", ", limit));
  }
  void Fail(absl::string_view key, absl::string_view message) {
    if (!status_.ok()) return;
    status_ =
        absl::InvalidArgumentError(absl::StrCat("hardware ", name_, ": ", key, ": ", message));
  }
  const absl::Status& status() const { return status_; }

 private:
  const std::string name_;
  absl::Status status_;
};

// Measured rates may exceed a data sheet a little (boost clocks, rounding).
constexpr double kTolerance = 1.05;

void CheckRate(Checker& check, const std::string& key, const ComputeRate& rate) {
  check.Number(key + ".peak_dense", rate.peak_dense.value(), kFlops);
  check.Number(key + ".sustained", rate.sustained.value(), kFlops);
  check.Optional(key + ".peak_sparse", rate.peak_sparse.value(), kFlops);
  check.NotAbove(key + ".sustained", rate.sustained.value(), "peak_dense",
                 rate.peak_dense.value() * kTolerance);
  if (rate.peak_sparse > FlopRate(0)) {
    check.NotAbove(key + ".peak_dense", rate.peak_dense.value(), "peak_sparse",
                   rate.peak_sparse.value());
  }
}

void CheckCompute(Checker& check, const HardwareProfile& h) {
  bool any = false;
  for (size_t i = 0; i < h.compute.size(); ++i) {
    if (h.compute[i].peak_dense == FlopRate(0) && h.compute[i].sustained == FlopRate(0)) continue;
    any = true;
    CheckRate(check, absl::StrCat("compute.", NumberFormatName(static_cast<NumberFormat>(i))),
              h.compute[i]);
  }
  if (!any) check.Fail("compute", "no number format has a rate");
  if (h.RateFor(NumberFormat::kBf16).sustained == FlopRate(0)) {
    check.Fail("compute", "has neither bf16 nor f32, which every other format falls back to");
  }
  check.Number("attention.sustained", h.attention_sustained.value(), kFlops);
  check.Optional("paper.compute", h.paper_compute.value(), kFlops);
  check.Optional("paper.link", h.paper_link.value(), kBandwidth);
}

void CheckLink(Checker& check, const std::string& key, const LinkRate& rate) {
  check.Number(key + ".peak", rate.peak.value(), kBandwidth);
  check.Number(key + ".sustained", rate.sustained.value(), kBandwidth);
  check.NotAbove(key + ".sustained", rate.sustained.value(), "peak",
                 rate.peak.value() * kTolerance);
}

void CheckLinks(Checker& check, const HardwareProfile& h) {
  CheckLink(check, "link.to_device", h.to_device);
  CheckLink(check, "link.to_host", h.to_host);
  check.Number("link.duplex_total", h.duplex_sustained.value(), kBandwidth);
  check.NotAbove("link.duplex_total", h.duplex_sustained.value(), "to_device + to_host",
                 (h.to_device.sustained + h.to_host.sustained).value() * kTolerance);
  check.Number("link.per_run", h.copy_overhead.value(), kTime);
  check.Number("link.latency", h.copy_latency.value(), kTime);
  if (h.kernel_below.has_value()) {
    check.Number("link.kernel_below", static_cast<double>(h.kernel_below->value()), kDescriptor);
  }
}

void CheckStorage(Checker& check, const std::string& key, const StorageRate& rate) {
  if (rate.read == ByteRate(0) && rate.write == ByteRate(0)) return;
  check.Number(key + ".read", rate.read.value(), kBandwidth);
  check.Number(key + ".write", rate.write.value(), kBandwidth);
  check.Number(key + ".latency", rate.latency.value(), kTime);
}

void CheckMemory(Checker& check, const HardwareProfile& h) {
  check.Number("memory.size", static_cast<double>(h.memory.value()), kSize);
  check.Number("memory_bandwidth.peak", h.memory_bandwidth_peak.value(), kBandwidth);
  check.Number("memory_bandwidth.sustained", h.memory_bandwidth_sustained.value(), kBandwidth);
  check.NotAbove("memory_bandwidth.sustained", h.memory_bandwidth_sustained.value(), "peak",
                 h.memory_bandwidth_peak.value() * kTolerance);
  check.Number("host.memory", static_cast<double>(h.host_memory.value()), kSize);
  check.Number("host.memory_bandwidth", h.host_memory_bandwidth.value(), kBandwidth);
  check.Optional("host.attention", h.host_attention.value(), kFlops);
  check.Optional("in_place.read", h.in_place_read.value(), kBandwidth);
  if (h.in_place_read > ByteRate(0)) {
    check.Number("in_place.reread", h.in_place_reread.value(), kBandwidth);
  }
  if (h.in_place_read > ByteRate(0) && (h.in_place_rows < 1 || h.in_place_rows > 1 << 16)) {
    check.Fail("in_place.rows", absl::StrCat(h.in_place_rows, " is not in [1, 65536]"));
  }
}

void CheckPower(Checker& check, const HardwareProfile& h) {
  check.Number("power.tdp", h.tdp.value(), {0.1, 1e6, "[0.1 W, 1 MW]"});
  check.Number("power.idle", h.idle.value(), kPower);
  check.Number("power.transfer", h.transfer.value(), kPower);
  if (h.idle >= h.tdp) {
    check.Fail("power.idle",
               absl::StrCat(h.idle.value(), " W is not below tdp, ", h.tdp.value(), " W"));
  }
}

}  // namespace

const ComputeRate& HardwareProfile::RateFor(NumberFormat format) const {
  for (const NumberFormat f : {format, NumberFormat::kBf16}) {
    const ComputeRate& rate = compute[static_cast<size_t>(f)];
    if (rate.sustained > FlopRate(0)) return rate;
  }
  return compute[static_cast<size_t>(NumberFormat::kF32)];
}

absl::Status HardwareProfile::Validate() const {
  if (name.empty()) return absl::InvalidArgumentError("hardware: name: is missing");
  Checker check(name);
  CheckCompute(check, *this);
  CheckMemory(check, *this);
  CheckLinks(check, *this);
  check.Number("step.floor", step_floor.value(), kTime);
  check.Number("step.floor_per_layer", layer_floor.value(), kTime);
  check.Number("step.launch", step_launch.value(), kTime);
  check.Number("step.collective", collective.value(), kTime);
  CheckStorage(check, "disk", disk);
  CheckStorage(check, "remote", remote);
  CheckPower(check, *this);
  return check.status();
}

}  // namespace sluice
