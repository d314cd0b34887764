// Shortest prefill first, SGLang's experimental order (managers/schedule_policy.py
// _sort_by_shortest_prefill, shortest_prefill_chunk_limit; vLLM #20962 proposed the same): fewest
// uncached tokens first, be the cached ones on device or host. A long prompt under way gives up
// tokens of the step to shorter ones that fit whole, but keeps a page. No aging.
#include <algorithm>

#include "scheduler/policy/baselines.h"
#include "scheduler/policy/engine_style.h"
#include "scheduler/policy/selection.h"
#include "scheduler/policy/step_forming.h"

namespace sluice {
namespace {

constexpr Tokens kPage{64};

class ShortestPrefillPolicy final : public LayerwisePolicy {
 public:
  const char* name() const override { return "shortest-prefill"; }

  Verdict Pick(const MachineView& machine, std::span<const WaitingView> waiting) override {
    const auto key = [](const WaitingView& w) {
      return AsDouble(Uncached(w)) + (BetterLater(w) ? kLast : 0);
    };
    const std::optional<size_t> first = FirstBy(machine, waiting, Misfit::kHoldsBack, key);
    if (first.has_value() && !HasRoom(machine, Uncached(waiting[*first]))) {
      return Pass(Decision::kWaitCompute);
    }
    return Load(first, Decision::kWaitBlocks);
  }

  void OnAdmitted(const MachineView&, const WaitingView& request, const Choice&) override {
    due_.push_back(Uncached(request));
  }

  void FormStep(const MachineView& machine, std::span<const RunningView> running,
                std::vector<StepShare>* shares) override {
    SortPrompts(running);
    StepFormer step(running, machine.step_token_limit, shares);
    for (const size_t i : order_) {
      // What is left behind a prompt that takes the rest: the long one's page.
      const bool last = i == order_.back();
      const Tokens most = last || step.left() <= kPage ? kAllTokens : step.left() - kPage;
      if (step.AddReady(i, most) == Tokens(0)) step.AddJoining(i, most);
    }
    if (step.empty()) step.AddDecodes();
    NoteDue(running, *shares);
  }

 private:
  static constexpr double kLast = 1e12;  // more tokens than any request has

  // Whether a prompt of `work` uncached tokens gets into the next step, beside what is due.
  bool HasRoom(const MachineView& machine, Tokens work) const {
    if (machine.running == 0) return true;
    Tokens shorter;
    bool overtakes = false;
    for (const Tokens due : due_) {
      if (due > work) {
        overtakes = true;
      } else {
        shorter += due;
      }
    }
    const Tokens limit = machine.step_token_limit;
    return overtakes ? shorter + work + kPage <= limit : shorter < limit;
  }

  void SortPrompts(std::span<const RunningView> running) {
    order_.clear();
    for (size_t i = 0; i < running.size(); ++i) {
      if (!(running[i].decoding && IsDecode(running[i]))) order_.push_back(i);
    }
    std::sort(order_.begin(), order_.end(), [running](size_t a, size_t b) {
      if (running[a].remaining != running[b].remaining) {
        return running[a].remaining < running[b].remaining;
      }
      return a < b;
    });
  }

  void NoteDue(std::span<const RunningView> running, std::span<const StepShare> shares) {
    due_.clear();
    for (const size_t i : order_) {
      const auto share = std::find_if(shares.begin(), shares.end(),
                                      [i](const StepShare& s) { return s.index == i; });
      const Tokens left = running[i].remaining - (share == shares.end() ? Tokens(0) : share->count);
      if (left > Tokens(0)) due_.push_back(left);
    }
  }

  std::vector<Tokens> due_;    // prefill tokens of admitted requests beyond the last step, each
  std::vector<size_t> order_;  // scratch
};

}  // namespace

std::unique_ptr<Policy> MakeShortestPrefillPolicy(const PolicyOptions&) {
  return std::make_unique<ShortestPrefillPolicy>();
}

}  // namespace sluice
