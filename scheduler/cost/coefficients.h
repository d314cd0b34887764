// CostCoefficients: what steps and copies cost on one deployment (model, device, formats, tensor
// parallelism), as plain numbers. The scheduler, the simulator and the admission prices use nothing
// else of the cost model, so that all of them agree.
//
// A step:  t = launch + max(floor, linear + attention)
//   linear     max(weight_read, tokens x per_token)                        GEMMs of all sequences
//   attention  Σ over sequences max(pairs x per_pair, context x per_context_token)
// The phases follow each other on the device, so they add up; within a phase the slower of compute
// and memory counts (roofline). `floor` is what no step goes below (paper.md: 10-18 ms on 8 H100).
//
// A copy:  t = latency + max(runs x per_run, bytes x per_byte)       one direction of one link
//
// Values; thread-compatible.
#pragma once

#include <array>
#include <cstdint>

#include "absl/status/status.h"
#include "scheduler/base/units.h"
#include "scheduler/cost/measure.h"
#include "scheduler/step.h"

namespace sluice {

struct LinkCoefficients {
  Seconds per_byte{1.0 / 8e9};  // at the sustained rate, the other direction idle
  Seconds per_run{1e-6};        // per descriptor: a run of bytes contiguous on both sides
  Seconds latency;              // per copy, before the first byte
};

// The defaults are of a small model on two CPU cores: cautious, valid, right for nobody.
struct CostCoefficients {
  // --- Steps ---
  Seconds launch{1e-4};             // per step, never hidden
  Seconds floor;                    // least time of linear + attention
  Seconds weight_read{1e-2};        // all weights once from device memory
  Seconds per_token{1e-3};          // 2 N_active FLOP at the sustained rate
  Seconds per_pair{1e-7};           // one new token attending to one context token, all layers
  Seconds per_context_token{1e-6};  // one context token's KV read from device memory, all layers
  // Layers with a sliding window: their share of all layers, and the window. 0: none.
  double window_share = 0;
  Tokens window;
  int32_t layers = 1;

  // --- Copies, by direction ---
  std::array<LinkCoefficients, kLinkDirectionCount> links{};
  // Rate of each direction of the host link while both are busy, as a share of its rate alone.
  double duplex_share = 1;
  Bytes kv_bytes_per_token{1 << 15};

  // --- Attend in place ---
  // False: by the host's cores, beside the device. True: by the device's own kernels (a CPU is host
  // and device), as to tokens on the device, and on top of it something for bringing what is in
  // host memory into the layout (and out of the codec) they want.
  bool in_place_on_device = false;
  // By the host: one query token against one context token in host memory, all layers. 0: not
  // possible here.
  Seconds per_in_place_token;
  // By the device: that on top, of one context token, all layers, for the first `in_place_tile`
  // query tokens of a step, when it comes from memory (0: not possible here), and again for every
  // further tile, when it comes from a cache.
  Seconds per_in_place_read;
  Seconds per_in_place_reread;
  Tokens in_place_tile{1};

  // --- Energy ---
  Watts idle_power;
  Watts compute_power;   // while a step runs
  Watts transfer_power;  // added while a link is busy

  bool attends_in_place() const {
    return (in_place_on_device ? per_in_place_read : per_in_place_token) > Seconds(0);
  }

  // Returns INVALID_ARGUMENT naming the first number that is negative, not finite or absent.
  absl::Status Validate() const;
};

// One sequence's share of a step: `count` new tokens after `first` tokens of context.
struct StepPart {
  Tokens first;
  Tokens count;
  Tokens in_place;  // of `first`, read in host memory
};

// Pairs of (new token, token it attends to) of one layer without a window:
// count x first + count (count + 1) / 2.
double AttentionPairs(Tokens first, Tokens count);

// The same where a token sees at most the last `window` tokens, itself included.
double WindowedAttentionPairs(Tokens first, Tokens count, Tokens window);

// Attention time of one part; windows and in-place context taken into account.
Seconds AttentionTime(const CostCoefficients& cost, const StepPart& part);

// What leaving `in_place` tokens of context on the host adds to a request that computes `fresh`
// tokens in a row and then `decodes` tokens one by one; what it does not add is what loads cost.
Seconds InPlaceTime(const CostCoefficients& cost, Tokens in_place, Tokens fresh, double decodes);

// Adds up a step part by part, so that a policy can ask "and with this one?" in O(1).
class StepEstimate {
 public:
  explicit StepEstimate(const CostCoefficients& cost) : cost_(&cost) {}

  void Add(const StepPart& part) {
    tokens_ += part.count;
    attention_ += AttentionTime(*cost_, part);
  }
  // Seconds of the step so far; zero if nothing was added.
  Seconds time() const;
  Tokens tokens() const { return tokens_; }
  Seconds attention() const { return attention_; }

 private:
  const CostCoefficients* cost_;
  Tokens tokens_;
  Seconds attention_;
};

// Compute a prefill of tokens [first, first + count) adds to the device when it shares its steps
// with others: per-token and attention time, without launch, floor and weight read.
Seconds PrefillTime(const CostCoefficients& cost, Tokens first, Tokens count);

// The same for a request alone on the device, in steps of at most `chunk` tokens.
Seconds PrefillTimeAlone(const CostCoefficients& cost, Tokens first, Tokens count, Tokens chunk);

// Time of one copy on an idle link. `runs` >= 1.
Seconds CopyTime(const LinkCoefficients& link, Bytes bytes, int64_t runs);

}  // namespace sluice
