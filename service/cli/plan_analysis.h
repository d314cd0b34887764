// PlanAnalysis: what the cost model says about a deployment and its requests, as numbers. Text,
// JSON and the report show the same ones.
//
// Pure functions of their arguments.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <vector>

#include "scheduler/cost/cost_model.h"

namespace sluice {

// Ways to a first token that are compared.
enum class TtftKind : uint8_t {
  kResident,    // nothing to move: what an endless device memory would give
  kSerial,      // load, then compute: the paper's model
  kOverlapped,  // layer by layer
  kSplit,       // the front computed again while the back loads
  kInPlace,     // attended to in host memory
  kRecompute,   // offloading off
  kBest,        // per request the best of those that can be had: BestPlan()
};
inline constexpr int kTtftKindCount = 7;

// "overlapped": the key in JSON.
const char* TtftKindKey(TtftKind kind);
// "overlapped load": for people.
const char* TtftKindText(TtftKind kind);
TtftKind KindOf(RequestPlan plan);
Seconds TtftOf(const TtftByPlan& ttft, TtftKind kind);

struct Percentiles {
  double p10 = 0;
  double p50 = 0;
  double p90 = 0;
};

struct PlanAnalysis {
  // --- The deployment alone ---
  double kappa_model = 0;     // FLOP per byte
  double kappa_hardware = 0;  // bytes per FLOP
  double kappa_crit = 0;      // the paper's formula
  double kv_bytes_per_token = 0;
  Flop prefill_flop_per_token;  // without attention
  Tokens hiding_tokens;         // P*
  Bytes kv_capacity;            // device memory beside the weights

  // --- The requests ---
  RequestShape typical;
  double kappa_crit_typical = 0;        // attention and step floor counted, for typical.fresh
  Flop prefill_flop_per_token_typical;  // with attention
  Percentiles kappa, cached, fresh;
  double link_bound_by_slack = 0;  // share of requests that load longer than they compute
  double link_bound_by_kappa = 0;  // share above kappa_crit: what the paper's test says
  double cold_share = 0;           // share of requests with nothing cached
  Seconds load;                    // mean per request
  Seconds prefill;                 // mean per request, of the new tokens
  double transfer_share = 0;       // of both together, not overlapped
  std::array<Seconds, kTtftKindCount> ttft{};       // mean per request; infinite where impossible
  std::array<Seconds, kTtftKindCount> compute{};    // part of it that is computing
  std::array<double, kTtftKindCount> best_share{};  // share of requests it is the best for
  TtftKind best_plan = TtftKind::kOverlapped;       // by the means: BestPlan()
  Energy energy;                                    // mean to the first token, overlapped load
  Energy energy_recompute;                          // mean to the first token, offloading off

  // --- The typical request ---
  int64_t batch = 0;  // of them fit on the device
  IterationTokens iteration;
  Seconds decode_step;  // with that batch (at least one)
  ByteRate break_even_link;
  std::optional<Tokens> break_even_disk;
  std::optional<Tokens> break_even_remote;
};

// Token budget per step that IterationTokens is about; vLLM's and the paper's order of magnitude.
inline constexpr Tokens kPlanTokenBudget{4000};

// REQUIRES: d.Validate() is OK and there is at least one shape.
PlanAnalysis Analyze(const Deployment& d, const std::vector<RequestShape>& shapes);

// The plane of κ and new tokens, and which plan wins where.
struct PlanRegions {
  std::vector<double> kappas;                 // ascending
  std::vector<Tokens> fresh;                  // ascending
  std::vector<std::optional<TtftKind>> best;  // by fresh, then κ; nullopt: longer than the context
};

// The winner at every pair of the two lists; contexts of more than `limit` tokens are left out.
PlanRegions MapRegions(const Deployment& d, const std::vector<double>& kappas,
                       const std::vector<Tokens>& fresh, Tokens limit);

}  // namespace sluice
