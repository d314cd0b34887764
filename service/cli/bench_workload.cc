#include "service/cli/bench_workload.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "scheduler/base/status_macros.h"

namespace sluice {
namespace {

// Streams of random ids: prefixes count down from the top, suffixes up from 0.
uint64_t StreamSeed(uint64_t seed, uint64_t stream) {
  uint64_t x = seed * 0x9E3779B97F4A7C15U + stream;  // splitmix64 (Steele et al. 2014)
  x = (x ^ (x >> 30U)) * 0xBF58476D1CE4E5B9U;
  x = (x ^ (x >> 27U)) * 0x94D049BB133111EBU;
  return x ^ (x >> 31U);
}

double UnitInterval(std::mt19937_64& rng) { return static_cast<double>(rng() >> 11U) * 0x1.0p-53; }

}  // namespace

absl::StatusOr<std::vector<uint32_t>> PromptVocabulary(const v1::ServerInfo& info) {
  std::vector<uint32_t> special(info.eos_token_ids().begin(), info.eos_token_ids().end());
  if (info.has_bos_token_id()) special.push_back(info.bos_token_id());
  std::vector<uint32_t> vocabulary;
  for (uint32_t id = 0; id < info.vocab_size(); ++id) {
    if (std::find(special.begin(), special.end(), id) == special.end()) vocabulary.push_back(id);
  }
  if (vocabulary.empty()) {
    return absl::InvalidArgumentError("the server states an empty vocabulary; nothing can be sent");
  }
  return vocabulary;
}

absl::StatusOr<Workload> Workload::Create(const WorkloadOptions& options,
                                          const v1::ServerInfo& info) {
  const int64_t total = options.prompt_tokens + options.output_tokens;
  if (options.prompts.empty() && total > info.max_model_len()) {
    return absl::InvalidArgumentError(
        absl::StrCat("--prompt-tokens ", options.prompt_tokens, " + --output-tokens ",
                     options.output_tokens, " = ", total, " is more than the server's context of ",
                     info.max_model_len(), " tokens; lower one"));
  }
  SLUICE_ASSIGN_OR_RETURN(std::vector<uint32_t> vocabulary, PromptVocabulary(info));
  return Workload(options, std::move(vocabulary));
}

void Workload::AppendRandom(uint64_t stream, int64_t count, v1::TokenIds* ids) const {
  std::mt19937_64 rng(StreamSeed(options_.seed, stream));
  for (int64_t i = 0; i < count; ++i) ids->add_ids(vocabulary_[rng() % vocabulary_.size()]);
}

v1::GenerateRequest Workload::Request(int64_t index) const {
  const uint64_t number = static_cast<uint64_t>(index);
  v1::GenerateRequest request;
  request.set_request_id(absl::StrCat("bench-", index));
  if (!options_.prompts.empty()) {
    request.set_text(options_.prompts[number % options_.prompts.size()]);
  } else {
    v1::TokenIds* ids = request.mutable_token_ids();
    const uint64_t prefix = number % static_cast<uint64_t>(options_.num_prefixes);
    AppendRandom(~prefix, options_.shared_prefix_tokens, ids);
    AppendRandom(number, options_.prompt_tokens - options_.shared_prefix_tokens, ids);
  }
  request.mutable_sampling()->set_temperature(static_cast<float>(options_.temperature));
  request.mutable_sampling()->set_seed(options_.seed + number);
  request.mutable_stopping()->set_max_tokens(static_cast<uint32_t>(options_.output_tokens));
  request.mutable_stopping()->set_ignore_eos(options_.ignore_eos);
  return request;
}

absl::Duration PoissonArrivals::Next() {
  const double now = at_s_;
  at_s_ += -std::log1p(-UnitInterval(rng_)) / per_second_;
  return absl::Seconds(now);
}

}  // namespace sluice
