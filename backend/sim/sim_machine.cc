#include "backend/sim/sim_machine.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <utility>

#include "absl/strings/str_cat.h"
#include "backend/sim/mix.h"
#include "scheduler/base/check.h"
#include "scheduler/cost/measure.h"

namespace sluice {
namespace {

constexpr uint64_t kNoiseStream = 4;
constexpr uint64_t kStepFailureStream = 5;

// A standard normal draw (Box and Muller 1958).
double NormalOf(uint64_t seed, uint64_t index) {
  const double u = 1 - UniformOf(Mix(seed, kNoiseStream, 2 * index));  // in (0, 1]
  const double v = UniformOf(Mix(seed, kNoiseStream, 2 * index + 1));
  return std::sqrt(-2 * std::log(u)) * std::cos(2 * std::numbers::pi * v);
}

Tokens TokensInPlace(const SequenceWork& work, const KvGeometry& geometry) {
  const auto blocks = std::count_if(work.host_blocks.begin(), work.host_blocks.end(),
                                    [](BlockId id) { return id.valid(); });
  return std::min(work.first, geometry.TokensIn(Blocks(blocks)));
}

}  // namespace

SimMachine::SimMachine(const SimOptions& options, absl::Time start)
    : options_(options),
      oracle_(options.seed, options.vocab_size, options.mean_output),
      activity_(start),
      link_(options, activity_) {
  SLUICE_CHECK(options.Validate().ok());
  FillInfo();
}

void SimMachine::FillInfo() {
  info_.name = "sim";
  info_.device = options_.device;
  info_.dtype = "none";
  info_.geometry = options_.geometry;
  info_.device_blocks = options_.device_blocks;
  info_.host_blocks = options_.host_blocks;
  info_.layers = options_.cost.layers;
  info_.vocab_size = options_.vocab_size;
  const double per_byte = options_.cost.links[0].per_byte.value();
  info_.link_bytes_per_second = per_byte > 0 ? 1 / per_byte : 0;
  info_.link_emulated = true;
  info_.attends_in_place = options_.attends_in_place;
}

void SimMachine::CheckPlan(const StepPlan& plan) const {
  for (const SequenceWork& work : plan.sequences) {
    SLUICE_CHECK(work.count > Tokens(0) && work.first >= Tokens(0));
    const Tokens end = work.first + work.count;
    SLUICE_CHECK(work.tokens.size() >= end.size());
    SLUICE_CHECK(work.blocks.size() >= options_.geometry.BlocksFor(end).size());
    SLUICE_CHECK(work.sample == (work.sampling != nullptr));
    SLUICE_CHECK(work.host_blocks.empty() || options_.attends_in_place);
  }
}

absl::Duration SimMachine::ComputeTime(const StepPlan& plan) const {
  StepEstimate estimate(options_.cost);
  for (const SequenceWork& work : plan.sequences) {
    estimate.Add({work.first, work.count, TokensInPlace(work, options_.geometry)});
  }
  double factor = 1;
  if (options_.noise > 0) {
    factor =
        std::exp(options_.noise * NormalOf(options_.seed, static_cast<uint64_t>(plan.id.value())));
  }
  return ToDuration(estimate.time() * factor);
}

StepResult SimMachine::Run(const StepPlan& plan, absl::Time start) {
  CheckPlan(plan);
  StepResult result;
  result.id = plan.id;
  result.started = start;
  result.sequences.resize(plan.sequences.size());
  const absl::Duration compute = ComputeTime(plan);
  link_.AdvanceTo(start);
  activity_.BeginStep();
  result.finished = WaitForLoads(plan, compute, &result);
  result.load_stall = result.finished - start - compute;
  link_.AdvanceTo(result.finished);
  activity_.EndStep(result.load_stall);

  const uint64_t digest =
      Mix(options_.seed, kStepFailureStream, static_cast<uint64_t>(plan.id.value()));
  if (UniformOf(digest) < options_.step_failure_rate) {
    result.status =
        absl::InternalError(absl::StrCat("step ", plan.id.value(), ": injected failure"));
    result.sequences.clear();
  }
  Tokens tokens;
  for (size_t i = 0; i < plan.sequences.size(); ++i) {
    const SequenceWork& work = plan.sequences[i];
    tokens += work.count;
    if (!result.status.ok() || !work.sample || !result.sequences[i].status.ok()) continue;
    result.sequences[i].sampled = Draw(work);
  }
  if (options_.observer != nullptr) {
    options_.observer->OnStep(result.started, result.finished, result.load_stall, tokens);
  }
  return result;
}

absl::Time SimMachine::WaitForLoads(const StepPlan& plan, absl::Duration compute,
                                    StepResult* result) {
  absl::Time end = result->started + compute;
  loads_.clear();
  for (const SequenceWork& work : plan.sequences) {
    loads_.insert(loads_.end(), work.loads.begin(), work.loads.end());
  }
  if (loads_.empty()) return end;
  const std::vector<SimLink::Meeting> meetings = link_.Meet(loads_, compute, result->started);
  size_t next = 0;
  for (size_t i = 0; i < plan.sequences.size(); ++i) {
    SequenceResult& sequence = result->sequences[i];
    for (size_t load = 0; load < plan.sequences[i].loads.size(); ++load) {
      const SimLink::Meeting& meeting = meetings[next++];
      if (sequence.status.ok()) sequence.status = meeting.status;
      if (meeting.earliest_end <= end) continue;
      sequence.load_stall += meeting.earliest_end - end;
      end = meeting.earliest_end;
    }
  }
  return end;
}

SampledToken SimMachine::Draw(const SequenceWork& work) const {
  SampledToken sampled;
  sampled.token = oracle_.Draw(work.request, work.output_index, *work.sampling);
  // As many alternatives as were asked for, each half as likely as the one before.
  constexpr float kHalf = -0.6931472F;
  sampled.logprob = kHalf;
  for (int32_t i = 0; i < work.sampling->logprobs; ++i) {
    sampled.top.push_back({static_cast<TokenId>((sampled.token + i) % options_.vocab_size),
                           kHalf * static_cast<float>(i + 1)});
  }
  return sampled;
}

}  // namespace sluice
