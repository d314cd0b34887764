// From profiles to the plain numbers that the scheduler and the simulator use.
#include <algorithm>
#include <cmath>

#include "scheduler/base/check.h"
#include "scheduler/cost/cost_model.h"

namespace sluice {
namespace {

// Of a tier that is not there: finite, and dearer than anything else.
constexpr Seconds kAbsentPerByte{1};

Seconds PerByte(ByteRate rate) {
  return rate > ByteRate(0) ? Seconds(1 / rate.value()) : kAbsentPerByte;
}

size_t Index(LinkDirection direction) { return static_cast<size_t>(direction); }

// Steps and copies that take no time: the defaults are those of an unmeasured machine.
CostCoefficients Free() {
  CostCoefficients cost;
  cost.launch = cost.floor = cost.weight_read = Seconds(0);
  cost.per_token = cost.per_pair = cost.per_context_token = Seconds(0);
  cost.per_in_place_token = Seconds(0);
  return cost;
}

void FillSteps(const Deployment& d, CostCoefficients& cost) {
  const ModelProfile& m = d.model;
  const auto layers = static_cast<double>(m.layers);
  const double flop_per_token = 2 * m.PrefillParameters();
  cost.per_token = Flop(flop_per_token) / EffectiveFlopRate(d);
  cost.weight_read =
      Seconds(m.StreamedParameters() * BytesOf(d.weights) / EffectiveMemoryRate(d).value());
  cost.per_pair = AttentionFlopPerPair(m) * layers / AttentionFlopRate(d);
  cost.per_context_token =
      Seconds(KvBytesPerTokenAndLayer(m, d.kv) * layers / EffectiveMemoryRate(d).value());
  if (d.basis != RateBasis::kSustained) return;
  cost.launch = d.hardware.step_launch;
  if (d.tensor_parallel > 1) cost.launch += d.hardware.collective * (2 * layers);
  cost.floor = d.hardware.step_floor + d.hardware.layer_floor * layers;
}

// What the paper looks at: 2 N FLOP per token and the link, nothing else.
void FillPaperSteps(const Deployment& d, CostCoefficients& cost) {
  cost.per_token = LinearFlopPerToken(d.model) / EffectiveFlopRate(d);
}

void FillLinks(const Deployment& d, CostCoefficients& cost) {
  const HardwareProfile& h = d.hardware;
  const bool sustained = d.basis == RateBasis::kSustained;
  // Each device copies its share of every block, all at once: bytes are divided, runs are not.
  const auto devices = static_cast<double>(d.tensor_parallel);
  const ByteRate to_host =
      d.link.value_or((sustained ? h.to_host.sustained : h.to_host.peak) * devices);
  const Seconds per_run = sustained ? h.copy_overhead : Seconds(0);
  const Seconds latency = sustained ? h.copy_latency : Seconds(0);
  auto& links = cost.links;
  links[Index(LinkDirection::kHostToDevice)] = {PerByte(EffectiveLinkRate(d)), per_run, latency};
  links[Index(LinkDirection::kDeviceToHost)] = {PerByte(to_host), per_run, latency};
  links[Index(LinkDirection::kDiskToHost)] = {PerByte(h.disk.read), Seconds(0), h.disk.latency};
  links[Index(LinkDirection::kHostToDisk)] = {PerByte(h.disk.write), Seconds(0), h.disk.latency};
  // Slower links than the machine's own leave room for each other, as far as it can carry both.
  const ByteRate both_ways = sustained ? EffectiveLinkRate(d) + to_host
                                       : (h.to_device.sustained + h.to_host.sustained) * devices;
  cost.duplex_share = std::min(1.0, h.duplex_sustained * devices / both_ways);
}

// A CPU's kernels read a context token's KV on the host once for every tile of query rows. Else
// host cores read it once per query token; their memory or their arithmetic is what limits them
// (much of the latter with MLA). Layers with windows have their few tokens nearby.
void FillInPlace(const Deployment& d, CostCoefficients& cost) {
  const ModelProfile& m = d.model;
  const auto devices = static_cast<double>(d.tensor_parallel);
  if (d.hardware.in_place_read > ByteRate(0)) {
    cost.in_place_on_device = true;
    const double bytes = KvBytesPerToken(m, d.kv_offload) / devices;
    cost.per_in_place_read = Seconds(bytes / d.hardware.in_place_read.value());
    cost.per_in_place_reread = Seconds(bytes / d.hardware.in_place_reread.value());
    cost.in_place_tile =
        Tokens(std::max<int64_t>(1, d.hardware.in_place_rows * m.kv_heads / m.heads));
    return;
  }
  if (d.hardware.host_attention == FlopRate(0)) return;
  const auto full_layers = static_cast<double>(m.layers - m.windowed_layers);
  const ByteRate memory = d.hardware.host_memory_bandwidth * devices;
  const Seconds read(KvBytesPerToken(m, d.kv_offload) / memory.value());
  const Seconds compute =
      AttentionFlopPerPair(m) * full_layers / (d.hardware.host_attention * devices);
  cost.per_in_place_token = std::max(read, compute);
}

void FillPower(const Deployment& d, CostCoefficients& cost) {
  const auto devices = static_cast<double>(d.tensor_parallel);
  cost.idle_power = d.hardware.idle * devices;
  cost.compute_power = std::min(d.hardware.tdp, d.power_cap.value_or(d.hardware.tdp)) * devices;
  cost.transfer_power = d.hardware.transfer * devices;
}

}  // namespace

CostCoefficients MakeCoefficients(const Deployment& d) {
  const ModelProfile& m = d.model;
  CostCoefficients cost = Free();
  if (d.basis == RateBasis::kPaper) {
    FillPaperSteps(d, cost);
  } else {
    FillSteps(d, cost);
  }
  cost.window_share = static_cast<double>(m.windowed_layers) / static_cast<double>(m.layers);
  cost.window = Tokens(m.window);
  cost.layers = static_cast<int32_t>(m.layers);
  FillLinks(d, cost);
  // What a context leaves per token; without windows the same at every length.
  const double longest =
      static_cast<double>(KvBytes(m, d.kv_offload, Tokens(m.max_context)).value());
  cost.kv_bytes_per_token =
      Bytes(std::max<int64_t>(1, std::llround(longest / static_cast<double>(m.max_context))));
  if (d.basis != RateBasis::kPaper) FillInPlace(d, cost);
  FillPower(d, cost);
  const absl::Status valid = cost.Validate();
  SLUICE_CHECK(valid.ok());
  return cost;
}

}  // namespace sluice
