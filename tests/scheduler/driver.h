// SchedulerDriver: a scheduler with a clock and a backend that always works, stepped by hand.
// Copies stay under way until the test ends them.
#pragma once

#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "scheduler/scheduler.h"
#include "tests/support/status_matchers.h"

namespace sluice::testing {

// `count` tokens, different for every `document`.
inline std::vector<TokenId> Document(int document, int count) {
  std::vector<TokenId> tokens;
  for (int i = 0; i < count; ++i) tokens.push_back(1000 * document + i);
  return tokens;
}

// Blocks of 4 tokens and 64 bytes.
inline SchedulerOptions SmallOptions(int64_t device_blocks, int64_t host_blocks = 0) {
  SchedulerOptions options;
  options.policy = "fcfs";
  options.max_model_len = Tokens(1000);
  options.geometry = {Tokens(4), Bytes(64)};
  options.device_blocks = Blocks(device_blocks);
  options.host_blocks = Blocks(host_blocks);
  return options;
}

class SchedulerDriver {
 public:
  explicit SchedulerDriver(const SchedulerOptions& options, BlockHashFunction hash = &BlockHash)
      : scheduler(options, hash), options_(options) {}

  RequestSpec Spec(int64_t id, std::vector<TokenId> prompt, int64_t max_new = 1,
                   int32_t priority = 0) {
    RequestSpec spec;
    spec.id = RequestId(id);
    spec.prompt = std::move(prompt);
    spec.max_new = Tokens(max_new);
    spec.sampling = std::make_shared<const SamplingParams>();
    spec.priority = priority;
    return spec;
  }

  void Submit(int64_t id, std::vector<TokenId> prompt, int64_t max_new = 1, int32_t priority = 0) {
    EXPECT_THAT(scheduler.Submit(Spec(id, std::move(prompt), max_new, priority), now), IsOk());
  }

  const StepPlan& Plan() {
    plan = scheduler.PlanStep(now);
    for (const Copy& copy : plan.copies) copies.emplace(copy.id, copy);
    Check();
    return plan;
  }

  // The result of a step in which all went well. The token of output i is 500 + i.
  StepResult GoodResult() const {
    StepResult result;
    result.id = plan.id;
    result.started = now;
    result.finished = now + absl::Milliseconds(10);
    for (const SequenceWork& work : plan.sequences) {
      SequenceResult& r = result.sequences.emplace_back();
      if (work.sample) {
        r.sampled = SampledToken{500 + static_cast<TokenId>(work.output_index), 0.0F, {}};
      }
    }
    return result;
  }

  void Commit(const StepResult& result) {
    now += absl::Milliseconds(10);
    scheduler.CommitStep(result, now);
    Hear();
  }
  void Commit() { Commit(GoodResult()); }

  // Plans, and commits if there is anything to run.
  void Step() {
    if (!Plan().sequences.empty()) Commit();
  }

  void EndCopy(CopyId id, absl::Status status = absl::OkStatus(),
               absl::Duration took = absl::Milliseconds(1)) {
    const Copy copy = copies.at(id);
    copies.erase(id);
    const Blocks blocks(static_cast<int64_t>(copy.blocks.size()));
    scheduler.OnCopyDone(
        {id, std::move(status), options_.geometry.BytesFor(blocks), now - took, now}, now);
    Hear();
  }
  // All copies end and have taken this long.
  void EndSlowCopies(absl::Duration took) {
    while (!copies.empty()) EndCopy(copies.begin()->first, absl::OkStatus(), took);
  }
  void EndCopies() {
    while (!copies.empty()) EndCopy(copies.begin()->first);
  }

  // Runs until all requests have ended and all copies too.
  void Drain() {
    for (int i = 0; i < 1000; ++i) {
      Step();
      if (scheduler.idle() && plan.sequences.empty() && plan.copies.empty()) return;
      EndCopies();
    }
    ADD_FAILURE() << "does not drain";
  }

  const Event::Finish* FinishOf(int64_t id) const {
    for (const Event& event : events) {
      if (event.request == RequestId(id) && event.finish.has_value()) return &*event.finish;
    }
    return nullptr;
  }
  std::vector<TokenId> TokensOf(int64_t id) const {
    std::vector<TokenId> tokens;
    for (const Event& event : events) {
      if (event.request == RequestId(id) && event.token.has_value()) {
        tokens.push_back(event.token->token);
      }
    }
    return tokens;
  }
  bool InPlan(int64_t id) const {
    for (const SequenceWork& work : plan.sequences) {
      if (work.request == RequestId(id)) return true;
    }
    return false;
  }
  int64_t Count(Decision decision) const {
    return scheduler.stats().decisions[static_cast<size_t>(decision)];
  }

  Scheduler scheduler;
  absl::Time now = absl::UnixEpoch();
  StepPlan plan;
  std::map<CopyId, Copy> copies;  // under way
  std::vector<Event> events;      // all so far, but that requests were queued

 private:
  void Check() { EXPECT_THAT(scheduler.CheckInvariants(), IsOk()); }
  void Hear() {
    for (Event& event : scheduler.TakeEvents()) {
      if (!event.predicted_ttft.has_value()) events.push_back(std::move(event));
    }
    Check();
  }

  const SchedulerOptions options_;
};

inline Tokens CachedOn(const Event::Finish& finish, Tier tier) {
  return finish.stats.cached[static_cast<size_t>(tier)];
}

}  // namespace sluice::testing
