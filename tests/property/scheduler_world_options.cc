#include <array>

#include "scheduler/policy/registry.h"
#include "tests/property/content.h"
#include "tests/property/scheduler_world.h"

namespace sluice::testing {
WorldOptions RandomWorldOptions(uint64_t seed) {
  std::mt19937_64 rng(seed * 7919 + 13);
  const auto pick = [&rng](auto... choices) {
    const std::array values{choices...};
    return values[rng() % values.size()];
  };
  WorldOptions w;
  w.actions = pick(60, 150, 400);
  SchedulerOptions& o = w.scheduler;
  const int64_t width = pick(1, 2, 3, 4, 8);
  o.geometry = {Tokens(width), Bytes(64)};
  o.max_model_len = Tokens(pick(30, 48, 64));
  o.device_blocks = Blocks(pick(6, 10, 16, 24, 40));
  o.host_blocks = Blocks(pick(0, 3, 12, 40, 200, 200));
  o.disk_blocks = o.host_blocks > Blocks(0) ? Blocks(pick(0, 0, 20, 100, 300)) : Blocks(0);
  o.attend_in_place = pick(1, 0, 0) != 0;
  o.max_store_blocks = Blocks(pick(0, 1, 4, 64, 64, 64));
  o.step_token_limit = Tokens(pick(1, 3, 8, 64, 64));
  o.max_running = pick(1, 2, 4, 16, 16);
  o.queue_limit = pick(1, 4, 100, 100, 100);
  o.prefix_caching = pick(1, 1, 1, 1, 1, 0) != 0;
  o.preemption = pick(1, 1, 0) != 0;
  const std::vector<std::string> policies = PolicyNames();
  o.policy = rng() % 2 == 0 ? "slack" : policies[rng() % policies.size()];
  o.min_hits_to_store = pick(0, 0, 0, 2);
  o.refuse_late = pick(0, 1) != 0;
  o.policy_options.patience = Seconds(pick(0.001, 0.05, 10.0));
  o.policy_options.lookahead = Seconds(pick(0.0, 0.001, 0.25));
  o.tpot_target = Seconds(pick(0.001, 0.1, 1000.0));
  // Link and compute are the bottleneck in turn.
  o.cost.per_token = Seconds(pick(1e-5, 1e-3, 1e-2));
  o.cost.kv_bytes_per_token = Bytes(64 / width);
  o.cost.links[0].per_byte = Seconds(pick(1e-9, 1e-5, 1e-3, 1e-2));
  o.cost.links[2].per_byte = Seconds(pick(1e-9, 1e-5, 1e-3));
  if (o.attend_in_place) o.cost.per_in_place_token = Seconds(pick(1e-9, 1e-6, 1e-3));
  w.block_hash = pick(&BlockHash, &BlockHash, &BlockHash, &WeakHash<31>, &WeakHash<0>);
  w.vocabulary = pick(1, 2, 3, 50, 1000);
  w.families = pick(1, 2, 5, 20);
  w.max_prompt = pick(8, 20, 40);
  w.max_new = pick(1, 4, 12);
  w.priorities = pick(1, 1, 2, 4);
  w.salts = pick(1, 1, 2);
  w.copy_failures = pick(0.0, 0.0, 0.1, 0.6);
  w.sequence_failures = pick(0.0, 0.0, 0.0, 0.03);
  w.step_failures = pick(0.0, 0.0, 0.0, 0.03);
  w.cancels = pick(0.0, 0.02, 0.1);
  w.deadlines = pick(0.0, 0.0, 0.3);
  w.control = pick(0.0, 0.03, 0.15);
  o.max_pinned_share = pick(0.5, 0.5, 1.0, 0.1);
  return w;
}

}  // namespace sluice::testing
