// StepFormer: the parts that policies form steps from, so that they differ only where they mean to.
//
// The rule for loads, in one place: a sequence whose loads are under way takes part in a step only
// for its `before_loads` tokens. Once it has none left it may join layer by layer, that is, the
// step waits for each layer of its loads; whether that pays is the policy's decision.
//
//   StepFormer step(running, machine.step_token_limit, shares);
//   step.AddDecodes();
//   step.AddPrefills();
//   if (step.empty()) step.JoinOldest();
//
// Thread-compatible.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <vector>

#include "scheduler/base/units.h"
#include "scheduler/policy/policy.h"

namespace sluice {

inline constexpr Tokens kAllTokens{std::numeric_limits<int64_t>::max()};

// One known token without KV, and no loads: every decode, and a prompt that is cached but for its
// last token, which costs as little.
bool IsDecode(const RunningView& r);

// Tokens of `r` that can be computed without waiting for a load.
Tokens ReadyTokens(const RunningView& r);

// Whether `r` has nothing ready but can take part by waiting for its loads layer by layer.
bool CanJoin(const RunningView& r);

// Collects the shares of one step. No sequence is added twice, whatever is called in which order.
class StepFormer {
 public:
  // REQUIRES: `shares` is empty and, with what `running` views, outlives this.
  StepFormer(std::span<const RunningView> running, Tokens limit, std::vector<StepShare>* shares)
      : running_(running), left_(limit), shares_(shares) {}

  bool empty() const { return shares_->empty(); }
  Tokens left() const { return left_; }  // of the limit

  // Lowers what is left to `most`, for a policy with a narrower limit than the machine's.
  void Limit(Tokens most);

  // Add the tokens of one sequence that are ready, or that it can compute by joining; at most
  // `most` and what is left. Return how many; 0 if it has none of the kind.
  // REQUIRES: the sequence was not added before.
  Tokens AddReady(size_t index, Tokens most = kAllTokens);
  Tokens AddJoining(size_t index, Tokens most = kAllTokens);

  void AddDecodes();   // in order of admission
  void AddPrefills();  // what is ready and no decode, in order of admission
  // The same in the order given: indices into `running`, each at most once. Decodes and sequences
  // with nothing ready are passed over.
  void AddPrefills(std::span<const size_t> order);
  // All but the decodes that have their first token, ready or joining, in order of admission.
  void AddBatch();
  // The longest admitted sequence that can join, and those that wait for no other load than it
  // does: what to do rather than idle. REQUIRES: no sequence with loads was added by AddJoining.
  void JoinOldest();

 private:
  Tokens Add(size_t index, Tokens count);

  std::span<const RunningView> running_;
  Tokens left_;
  std::vector<StepShare>* shares_;
};

// The step of an engine that parks loads: decodes, then what is ready in order of admission, so
// that loads run ahead of compute; joins layer by layer only when nothing else can run.
void FormParkingStep(const MachineView& machine, std::span<const RunningView> running,
                     std::vector<StepShare>* shares);

// The step of an engine that runs prompts in batches of their own: prefills and those that can
// join layer by layer, in order of admission; decodes only when there is none of either.
void FormBatchStep(const MachineView& machine, std::span<const RunningView> running,
                   std::vector<StepShare>* shares);

}  // namespace sluice
