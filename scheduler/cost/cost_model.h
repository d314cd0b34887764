// The cost model: what KV offloading costs and gains, for one model on one machine. The functions
// answer people (`sluice plan`) and, as CostCoefficients, the scheduler and the simulator.
//
// Formulas: paper.md of arXiv 2601.19910 (κ, P_OH, TTFT), and the roofline of coefficients.h.
//
// Pure; values.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "scheduler/base/units.h"
#include "scheduler/cost/coefficients.h"
#include "scheduler/cost/hardware_profile.h"
#include "scheduler/cost/measure.h"
#include "scheduler/cost/model_profile.h"
#include "scheduler/stats.h"

namespace sluice {

// Which of a profile's rates count.
enum class RateBasis : uint8_t {
  kSustained,  // what programs get; the default everywhere
  kPeakDense,  // the data sheet: no launches, floors or latencies
  // The paper's own: PaperFlopRate(), its links, and nothing it leaves out (attention, floors,
  // weight reads, copy latency).
  kPaper,
};

// A model on machines: everything that turns profiles into seconds.
struct Deployment {
  ModelProfile model;
  HardwareProfile hardware;
  // Devices that share the model; compute, memory and links add up. (The paper's 15 GB/s is
  // probably the sum over eight devices: give it as `link`.)
  int64_t tensor_parallel = 1;
  NumberFormat weights = NumberFormat::kBf16;
  NumberFormat kv = NumberFormat::kBf16;          // on the device
  NumberFormat kv_offload = NumberFormat::kBf16;  // on the link and beyond it
  RateBasis basis = RateBasis::kSustained;
  // Overrides the link's rate towards the device (and back), over all devices together.
  std::optional<ByteRate> link;
  std::optional<Watts> power_cap;  // per device; slows compute, not the link
  // Share of device memory for weights and KV; the rest is activations and the runtime. 0.9 is what
  // vLLM takes.
  double memory_share = 0.9;

  // Returns INVALID_ARGUMENT naming the first value out of range, weights that do not fit the
  // devices' memory included (except at kPaper: the paper's figures do not look at memory).
  absl::Status Validate() const;
};

// C the paper divides by: about 95 % of the sparse 16-bit peak, although its runs are dense
// (implied by its κ_HW). 0 if the profile has no sparse peak: then the caller says so.
FlopRate PaperFlopRate(const HardwareProfile& hardware);

// Smallest power of two of devices whose memory holds the weights; 0 if 1,024 do not.
int64_t SmallestTensorParallel(const Deployment& d);

// Share of its compute rate a device keeps under `cap`: power above idle grows with the cube of the
// clock (f V², V ~ f), so ((cap - idle) / (tdp - idle))^(1/3), at most 1.
double PowerCapFactor(const HardwareProfile& hardware, Watts cap);

// Of all devices together, at the deployment's basis, format and power cap.
FlopRate EffectiveFlopRate(const Deployment& d);
FlopRate AttentionFlopRate(const Deployment& d);
ByteRate EffectiveMemoryRate(const Deployment& d);
ByteRate EffectiveLinkRate(const Deployment& d);  // towards the device

double KappaHardware(const Deployment& d);  // κ_HW = BW / C, bytes per FLOP
double KappaCritical(const Deployment& d);  // κ_crit = κ_M κ_HW, in the format on the link

// The same with everything the paper leaves out: attention at this context, the step floor. The κ
// at which load time equals compute time for `fresh` new tokens; infinite if load never reaches it.
double KappaCriticalAt(const Deployment& d, Tokens fresh);

// Coefficients at the deployment's basis. kv_bytes_per_token is in the format on the link; of
// models with windows it is the mean at their longest context. A tier the hardware lacks costs a
// second per byte, so that no plan over it pays and no sum overflows. REQUIRES: d.Validate() is OK.
CostCoefficients MakeCoefficients(const Deployment& d);

// One request: `cached` tokens off the device, `fresh` new ones.
struct RequestShape {
  Tokens cached;
  Tokens fresh;
  Tokens output;
};

// Most new tokens of one step, where a request is alone on the machine.
inline constexpr Tokens kPrefillChunk{8192};

Seconds LoadTime(const Deployment& d, Tokens cached);
Seconds PrefillTime(const Deployment& d, const RequestShape& r);

// P_OH = t_link / t_gpu, and the share of time in transfers P_OH / (1 + P_OH) (no overlap).
double OverheadRatio(const Deployment& d, const RequestShape& r);
double TransferShare(const Deployment& d, const RequestShape& r);

// TTFT on an idle machine by how the cached part is used. With load time L and compute time P of
// the new tokens over n layers:
struct TtftByPlan {
  Seconds resident;    // P: the cached part is already on the device
  Seconds serial;      // L + P: the paper's model
  Seconds overlapped;  // layer by layer: max(L, P) + min(L, P) / n
  // The first x cached tokens are computed (R) while the others load (L'), then the new ones layer
  // by layer: max(R + P, L' + P / n, L' / n + P) at the best x. Never above overlapped or
  // recompute.
  Seconds split;
  double split_share = 0;  // of the cached tokens, recomputed
  Seconds in_place;        // attended to in host memory; infinite where impossible
  Seconds recompute;
};
TtftByPlan Ttft(const Deployment& d, const RequestShape& r);

// The fastest of overlapped, split (if 5 % faster than the others), in place, recompute; resident
// if nothing is cached off the device.
RequestPlan BestPlan(const TtftByPlan& ttft);

// P*: new tokens that hide the load of any context, because attention over C tokens grows with C as
// the load does: P* = (B_kv / BW) / (attention seconds per pair), in layers without a window. For
// GQA that is (n_kv / n_h) x F / BW at 16 bits. 0 if every layer has a window.
Tokens HidingTokens(const Deployment& d);

// A decode step of `batch` sequences of `context` tokens each, one new token per sequence.
Seconds DecodeStepTime(const Deployment& d, int64_t batch, Tokens context);

// Device memory left for KV beside the weights, all devices; 0 if the weights do not fit.
Bytes KvCapacity(const Deployment& d);

// Sequences of `context` tokens (cached + new + output) that fit beside the weights.
// REQUIRES: context > 0.
int64_t LargestBatch(const Deployment& d, Tokens context);

// Tokens computed per scheduler iteration when memory and a token budget both limit it, for
// requests of this shape (the paper's figure: 1.8 requests, 57 tokens, 1.4 % of 4,000 on a B200).
struct IterationTokens {
  double requests = 0;
  double tokens = 0;
  double budget_share = 0;
};
IterationTokens TokensPerIteration(const Deployment& d, const RequestShape& r, Tokens budget);

// Link rate at which loading takes as long as computing (κ_crit = κ); faster does not help.
ByteRate BreakEvenLink(const Deployment& d, const RequestShape& r);

// Shortest cached prefix worth reading from a storage tier instead of computing it again:
// the disk or remote read and the link overlap, and the slower counts. nullopt if it never pays
// within the model's context, or the tier does not exist.
std::optional<Tokens> BreakEvenCached(const Deployment& d, const StorageRate& storage);

// Energy and mean power of one request on an idle machine under the serial or overlapped plan:
// idle power all the time, the rest of TDP (or of the cap) while steps run, transfer power while
// the link is busy.
struct Energy {
  Joules total;
  Watts mean;
  double tdp_share = 0;  // mean / (devices x TDP)
};
Energy RequestEnergy(const Deployment& d, const RequestShape& r, bool overlapped);

}  // namespace sluice
