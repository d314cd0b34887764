// A machine with round numbers, so that tests can work out by hand what it does.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "backend/sim/sim_options.h"
#include "scheduler/step.h"

namespace sluice::testing {

// Steps: 1 ms launch, weights 3 ms, 10 µs per token, 1 µs per pair, no floor that counts; 4 layers.
// Host link: 1 byte per µs each way, 1 ms latency. Blocks of 16 tokens and 4,000 bytes: 1 ms per
// block and layer.
inline SimOptions SmallMachine() {
  SimOptions options;
  CostCoefficients& cost = options.cost;
  cost.launch = Seconds(1e-3);
  cost.floor = Seconds(2e-3);
  cost.weight_read = Seconds(3e-3);
  cost.per_token = Seconds(10e-6);
  cost.per_pair = Seconds(1e-6);
  cost.per_context_token = Seconds(1e-6);
  cost.layers = 4;
  cost.duplex_share = 1;
  cost.per_in_place_token = Seconds(0);
  for (LinkCoefficients& link : cost.links) link = {Seconds(1e-6), Seconds(0), Seconds(1e-3)};
  cost.kv_bytes_per_token = Bytes(250);
  cost.idle_power = Watts(100);
  cost.compute_power = Watts(500);
  cost.transfer_power = Watts(50);
  options.geometry = {Tokens(16), Bytes(4000)};
  options.device_blocks = Blocks(64);
  options.host_blocks = Blocks(64);
  options.vocab_size = 100;
  return options;
}

inline Copy MakeCopy(int64_t id, LinkDirection direction, int32_t blocks, int64_t request = -1) {
  Copy copy;
  copy.id = CopyId(id);
  copy.direction = direction;
  copy.copy_class =
      direction == LinkDirection::kHostToDevice ? CopyClass::kDemand : CopyClass::kWriteBack;
  copy.request = RequestId(request);
  for (int32_t b = 0; b < blocks; ++b) copy.blocks.push_back({BlockId(b), BlockId(b)});
  return copy;
}

// A step, with the memory its spans view.
class StepOf {
 public:
  explicit StepOf(int64_t id) { plan_.id = StepId(id); }

  StepOf& Add(int64_t request, int64_t first, int64_t count, std::vector<CopyId> loads = {},
              int32_t in_place_blocks = 0) {
    auto memory = std::make_unique<Memory>();
    const int64_t end = first + count;
    memory->tokens.resize(static_cast<size_t>(end));
    memory->blocks.resize(static_cast<size_t>((end + 15) / 16), BlockId(0));
    for (int32_t b = 0; b < in_place_blocks; ++b) memory->host_blocks.emplace_back(b);
    memory->loads = std::move(loads);
    SequenceWork work;
    work.request = RequestId(request);
    work.first = Tokens(first);
    work.count = Tokens(count);
    work.tokens = memory->tokens;
    work.blocks = memory->blocks;
    work.host_blocks = memory->host_blocks;
    work.loads = memory->loads;
    work.sample = true;
    work.sampling = &sampling_;
    plan_.sequences.push_back(work);
    memory_.push_back(std::move(memory));
    return *this;
  }

  const StepPlan& plan() const { return plan_; }

 private:
  struct Memory {
    std::vector<TokenId> tokens;
    std::vector<BlockId> blocks;
    std::vector<BlockId> host_blocks;
    std::vector<CopyId> loads;
  };

  SamplingParams sampling_;
  StepPlan plan_;
  std::vector<std::unique_ptr<Memory>> memory_;
};

inline double Ms(absl::Duration d) { return absl::ToDoubleMilliseconds(d); }

}  // namespace sluice::testing
