// What a scheduling decision costs.
//
//   PlanStep  1,000 requests wait, 256 decode; median and p99 over single calls.
//             Target: p99 <= 50 us.
//   Commit    the matching CommitStep with 256 tokens.
//   Lookup    a 64K-token prompt (2,048 blocks) in the prefix index, after hashing.
//             Target: <= 30 us.
//   Hash      hashing that prompt.
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <memory>
#include <vector>

#include "benchmark/benchmark.h"
#include "scheduler/base/check.h"
#include "scheduler/kv/kv_cache.h"
#include "scheduler/scheduler.h"

namespace sluice {
namespace {

using SteadyClock = std::chrono::steady_clock;

double MicrosSince(SteadyClock::time_point start) {
  return std::chrono::duration<double, std::micro>(SteadyClock::now() - start).count();
}

void ReportPercentiles(benchmark::State& state, const char* name, std::vector<double>* micros) {
  std::sort(micros->begin(), micros->end());
  const auto at = [&](double share) {
    return (*micros)[static_cast<size_t>(share * static_cast<double>(micros->size() - 1))];
  };
  state.counters[std::string(name) + "_p50_us"] = at(0.5);
  state.counters[std::string(name) + "_p99_us"] = at(0.99);
  state.counters[std::string(name) + "_max_us"] = at(1.0);
}

std::vector<TokenId> Prompt(int64_t length, int64_t seed) {
  std::vector<TokenId> tokens(static_cast<size_t>(length));
  uint64_t x = static_cast<uint64_t>(seed) * 2654435761U + 1;
  for (TokenId& token : tokens) {
    x = x * 6364136223846793005ULL + 1442695040888963407ULL;
    token = static_cast<TokenId>(x >> 40);
  }
  return tokens;
}

RequestSpec Spec(int64_t id, int64_t prompt, int64_t max_new,
                 const std::shared_ptr<const SamplingParams>& sampling) {
  RequestSpec spec;
  spec.id = RequestId(id);
  spec.prompt = Prompt(prompt, id);
  spec.max_new = Tokens(max_new);
  spec.sampling = sampling;
  return spec;
}

StepResult Succeed(const StepPlan& plan, absl::Time now) {
  StepResult result;
  result.id = plan.id;
  result.started = now;
  result.finished = now;
  for (const SequenceWork& work : plan.sequences) {
    SequenceResult& r = result.sequences.emplace_back();
    if (work.sample) r.sampled = SampledToken{7, 0.0F, {}};
  }
  return result;
}

// Decode steps; requests end now and then and waiting ones take their place, so admission, prompt
// chunks, stores and evictions are in the figures.
void BM_PlanStep(benchmark::State& state) {
  SchedulerOptions options;
  options.max_model_len = Tokens(4096);
  options.device_blocks = Blocks(256 * 48);
  options.host_blocks = Blocks(20000);
  options.queue_limit = 2000;
  // An 8 B model on a large GPU: steps as they are answered below, so that 256 requests run.
  options.cost.per_token = Seconds(2e-5);
  options.cost.weight_read = Seconds(5e-3);
  options.refine_cost = false;
  const auto sampling = std::make_shared<const SamplingParams>();
  Scheduler scheduler(options);
  absl::Time now = absl::UnixEpoch();
  int64_t next_id = 0;
  const auto refill = [&] {
    while (scheduler.stats().waiting < 1000) {
      SLUICE_CHECK(scheduler.Submit(Spec(next_id, 1000, 200 + next_id % 300, sampling), now).ok());
      ++next_id;
    }
  };
  std::vector<double> plan_us;
  std::vector<double> commit_us;
  const auto step = [&](bool measure) {
    now += absl::Milliseconds(10);
    refill();
    auto start = SteadyClock::now();
    const StepPlan plan = scheduler.PlanStep(now);
    if (measure) plan_us.push_back(MicrosSince(start));
    const StepResult result = Succeed(plan, now);
    start = SteadyClock::now();
    scheduler.CommitStep(result, now);
    if (measure) commit_us.push_back(MicrosSince(start));
    for (const Copy& copy : plan.copies) {
      scheduler.OnCopyDone({copy.id, absl::OkStatus(), MiB(1), now, now}, now);
    }
    benchmark::DoNotOptimize(scheduler.TakeEvents());
  };
  while (scheduler.stats().running < 256) step(false);
  for (int i = 0; i < 500; ++i) step(false);
  for (auto _ : state) step(true);
  ReportPercentiles(state, "plan", &plan_us);
  ReportPercentiles(state, "commit", &commit_us);
  SLUICE_CHECK(scheduler.CheckInvariants().ok());
}
BENCHMARK(BM_PlanStep)->Iterations(20000)->Unit(benchmark::kMicrosecond);

struct LongPrompt {
  std::vector<TokenId> tokens = Prompt(1 << 16, 1);
  std::vector<Hash128> hashes;

  LongPrompt() { Rehash(); }
  void Rehash() {
    hashes.clear();
    Hash128 hash = RootHash(0, 0);
    for (size_t i = 0; i + 32 <= tokens.size(); i += 32) {
      hash = BlockHash(hash, std::span<const TokenId>(tokens).subspan(i, 32));
      hashes.push_back(hash);
    }
  }
};

void BM_Hash64K(benchmark::State& state) {
  LongPrompt prompt;
  for (auto _ : state) {
    prompt.Rehash();
    benchmark::DoNotOptimize(prompt.hashes.data());
  }
}
BENCHMARK(BM_Hash64K)->Unit(benchmark::kMicrosecond);

void BM_Lookup64K(benchmark::State& state) {
  const LongPrompt prompt;
  const TokenPath path{prompt.tokens, prompt.hashes, 0};
  const Blocks blocks(2048);
  KvCache cache({Tokens(32), Blocks(4096), Blocks(0), Blocks(0), true});
  KvMatch match;
  KvLease lease;
  cache.Match(path, blocks, &match);
  cache.Admit(match, blocks, RequestId(0), &lease);
  cache.Grow(blocks, &lease);
  cache.Publish(path, blocks, &lease);
  cache.Release(blocks, &lease);
  std::vector<double> micros;
  for (auto _ : state) {
    const auto start = SteadyClock::now();
    cache.Match(path, blocks, &match);
    micros.push_back(MicrosSince(start));
    SLUICE_CHECK(match.nodes.size() == blocks.size());
  }
  ReportPercentiles(state, "match", &micros);
}
BENCHMARK(BM_Lookup64K)->Unit(benchmark::kMicrosecond);

}  // namespace
}  // namespace sluice

BENCHMARK_MAIN();
