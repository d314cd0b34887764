// The requests of `sluice bench`: which prompts, and when. A function of the options and the seed
// only, so two runs with equal options send equal requests.
#pragma once

#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "sluice/v1/control.pb.h"
#include "sluice/v1/inference.pb.h"

namespace sluice {

struct WorkloadOptions {
  uint64_t seed = 1;
  int64_t prompt_tokens = 256;       // of every prompt, shared prefix included
  int64_t shared_prefix_tokens = 0;  // less than prompt_tokens
  int64_t num_prefixes = 1;          // different shared prefixes, used in turn
  int64_t output_tokens = 64;
  bool ignore_eos = true;
  double temperature = 0;
  std::vector<std::string> prompts;  // not empty: these texts, used in turn, instead
};

// The ids that prompts for this server may hold: its vocabulary without special tokens.
// Returns INVALID_ARGUMENT if none is left.
absl::StatusOr<std::vector<uint32_t>> PromptVocabulary(const v1::ServerInfo& info);

// Makes requests by number. Implementations: Workload (all alike), TraceWorkload (bench_trace.h).
class RequestSource {
 public:
  virtual ~RequestSource() = default;

  // Request number `index` >= 0. Thread-safe.
  virtual v1::GenerateRequest Request(int64_t index) const = 0;
};

class Workload : public RequestSource {
 public:
  // Random prompts use the vocabulary of `info`, without its special tokens.
  // Returns INVALID_ARGUMENT if a prompt and its output cannot fit into the server's context.
  static absl::StatusOr<Workload> Create(const WorkloadOptions& options,
                                         const v1::ServerInfo& info);

  v1::GenerateRequest Request(int64_t index) const override;

 private:
  Workload(const WorkloadOptions& options, std::vector<uint32_t> vocabulary)
      : options_(options), vocabulary_(std::move(vocabulary)) {}
  void AppendRandom(uint64_t stream, int64_t count, v1::TokenIds* ids) const;

  WorkloadOptions options_;
  std::vector<uint32_t> vocabulary_;  // ids that prompts may hold
};

// Arrival times of a Poisson process: independent exponential gaps with mean 1 / rate.
class PoissonArrivals {
 public:
  // REQUIRES: per_second > 0.
  PoissonArrivals(double per_second, uint64_t seed) : per_second_(per_second), rng_(seed) {}
  // Time of the next arrival since the start; the first is at 0.
  absl::Duration Next();

 private:
  const double per_second_;
  std::mt19937_64 rng_;
  double at_s_ = 0;
};

}  // namespace sluice
