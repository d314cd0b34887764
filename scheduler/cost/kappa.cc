// Deployments, their rates, and κ.
#include <algorithm>
#include <cmath>
#include <limits>

#include "absl/strings/str_cat.h"
#include "scheduler/base/status_macros.h"
#include "scheduler/cost/cost_model.h"

namespace sluice {
namespace {

// Share of the sparse 16-bit peak the paper's C comes to for A100 and H100 (0.954 and 0.951).
constexpr double kPaperShareOfSparse = 0.951;
constexpr int64_t kMostDevices = 1024;
// Searches for a context length end here.
constexpr Tokens kLongestContext{int64_t{1} << 32};

absl::Status Bad(absl::string_view field, absl::string_view message) {
  return absl::InvalidArgumentError(absl::StrCat("deployment: ", field, ": ", message));
}

double Devices(const Deployment& d) { return static_cast<double>(d.tensor_parallel); }

double CapFactor(const Deployment& d) {
  return d.power_cap.has_value() ? PowerCapFactor(d.hardware, *d.power_cap) : 1;
}

ByteRate LinkRateOf(const Deployment& d) {
  const HardwareProfile& h = d.hardware;
  if (d.basis == RateBasis::kSustained) return h.to_device.sustained;
  const bool stated = d.basis == RateBasis::kPaper && h.paper_link > ByteRate(0);
  return stated ? h.paper_link : h.to_device.peak;
}

// Bytes of weights that must fit beside the KV, and the room there is.
double Usable(const Deployment& d) {
  return static_cast<double>(d.hardware.memory.value()) * Devices(d) * d.memory_share;
}

absl::Status CheckFits(const Deployment& d) {
  const auto weights = static_cast<double>(WeightBytes(d.model, d.weights).value());
  if (weights <= Usable(d)) return absl::OkStatus();
  const int64_t enough = SmallestTensorParallel(d);
  return Bad("tensor_parallel",
             absl::StrCat(d.model.name, " in ", NumberFormatName(d.weights), " has ", weights / 1e9,
                          " GB of weights; ", d.tensor_parallel, " x ", d.hardware.name, " have ",
                          Usable(d) / 1e9, " GB for weights and KV",
                          enough > 0 ? absl::StrCat("; ", enough, " devices are enough") : ""));
}

absl::Status CheckOverrides(const Deployment& d) {
  if (d.link.has_value() && !(d.link->value() >= 1e3 && d.link->value() <= 1e15)) {
    return Bad("link", absl::StrCat(d.link->value(), " B/s is not in [1 kB/s, 1 PB/s]"));
  }
  if (d.power_cap.has_value() && !(*d.power_cap > d.hardware.idle)) {
    return Bad("power_cap", absl::StrCat(d.power_cap->value(), " W is not above the idle power of ",
                                         d.hardware.name, ", ", d.hardware.idle.value(), " W"));
  }
  if (!(d.memory_share > 0 && d.memory_share <= 1)) {
    return Bad("memory_share", absl::StrCat(d.memory_share, " is not in (0, 1]"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status Deployment::Validate() const {
  SLUICE_RETURN_IF_ERROR(model.Validate());
  SLUICE_RETURN_IF_ERROR(hardware.Validate());
  if (tensor_parallel < 1 || tensor_parallel > kMostDevices) {
    return Bad("tensor_parallel",
               absl::StrCat(tensor_parallel, " is not in [1, ", kMostDevices, "]"));
  }
  SLUICE_RETURN_IF_ERROR(CheckOverrides(*this));
  if (basis != RateBasis::kPaper) return CheckFits(*this);
  if (PaperFlopRate(hardware) > FlopRate(0)) return absl::OkStatus();
  return Bad("basis",
             absl::StrCat(hardware.name, " has no sparse 16-bit peak, which the paper's C ",
                          "is a share of"));
}

FlopRate PaperFlopRate(const HardwareProfile& hardware) {
  if (hardware.paper_compute > FlopRate(0)) return hardware.paper_compute;
  return hardware.compute[static_cast<size_t>(NumberFormat::kBf16)].peak_sparse *
         kPaperShareOfSparse;
}

int64_t SmallestTensorParallel(const Deployment& d) {
  const auto weights = static_cast<double>(WeightBytes(d.model, d.weights).value());
  Deployment trial = d;
  for (trial.tensor_parallel = 1; trial.tensor_parallel <= kMostDevices;
       trial.tensor_parallel *= 2) {
    if (weights <= Usable(trial)) return trial.tensor_parallel;
  }
  return 0;
}

double PowerCapFactor(const HardwareProfile& hardware, Watts cap) {
  const double share = (cap - hardware.idle) / (hardware.tdp - hardware.idle);
  return std::cbrt(std::clamp(share, 0.0, 1.0));
}

FlopRate EffectiveFlopRate(const Deployment& d) {
  const ComputeRate& rate = d.hardware.RateFor(d.weights);
  const double factor = Devices(d) * CapFactor(d);
  switch (d.basis) {
    case RateBasis::kSustained:
      return rate.sustained * factor;
    case RateBasis::kPeakDense:
      return rate.peak_dense * factor;
    case RateBasis::kPaper:
      break;
  }
  return PaperFlopRate(d.hardware) * factor;
}

FlopRate AttentionFlopRate(const Deployment& d) {
  const double factor = Devices(d) * CapFactor(d);
  switch (d.basis) {
    case RateBasis::kSustained:
      return d.hardware.attention_sustained * factor;
    case RateBasis::kPeakDense:
      return d.hardware.RateFor(NumberFormat::kBf16).peak_dense * factor;
    case RateBasis::kPaper:
      break;
  }
  return PaperFlopRate(d.hardware) * factor;
}

ByteRate EffectiveMemoryRate(const Deployment& d) {
  const bool sustained = d.basis == RateBasis::kSustained;
  return (sustained ? d.hardware.memory_bandwidth_sustained : d.hardware.memory_bandwidth_peak) *
         Devices(d);
}

ByteRate EffectiveLinkRate(const Deployment& d) {
  if (d.link.has_value()) return *d.link;
  return LinkRateOf(d) * Devices(d);
}

double KappaHardware(const Deployment& d) {
  return EffectiveLinkRate(d).value() / EffectiveFlopRate(d).value();
}

double KappaCritical(const Deployment& d) {
  return KappaModel(d.model, d.kv_offload) * KappaHardware(d);
}

double KappaCriticalAt(const Deployment& d, Tokens fresh) {
  const auto load_exceeds = [&](Tokens cached) {
    return LoadTime(d, cached) >= PrefillTime(d, {cached, fresh, Tokens(0)});
  };
  Tokens high(1);
  while (!load_exceeds(high)) {
    high += high;
    if (high > kLongestContext) return std::numeric_limits<double>::infinity();
  }
  Tokens low(high.value() / 2);
  while (high - low > Tokens(1)) {
    const Tokens middle(low.value() + (high - low).value() / 2);
    (load_exceeds(middle) ? high : low) = middle;
  }
  return static_cast<double>(high.value()) / static_cast<double>(fresh.value());
}

}  // namespace sluice
