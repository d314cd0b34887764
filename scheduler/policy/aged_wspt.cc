// Aged weighted shortest processing time, PREFLOW (vllm-project/vllm-ascend #16360): the largest
// 2^(age/D) / (P R) first, among waiting prompts and among those under way. Work is W(n) =
// n (n + 1) / 2; P is what the prompt had to compute at first, beyond its cached part, R what is
// left of it. The weight 1/P makes it least slowdown; each D of age counts as half the work.
// Deviation: D is the source's setting; 5 s here. The order of loads is that of admission.
#include <algorithm>
#include <cmath>
#include <utility>

#include "scheduler/policy/baselines.h"
#include "scheduler/policy/engine_style.h"
#include "scheduler/policy/selection.h"
#include "scheduler/policy/step_forming.h"

namespace sluice {
namespace {

constexpr Seconds kDoubling{5};

// W(total) - W(cached).
double Work(Tokens cached, Tokens total) {
  const double a = AsDouble(cached);
  const double b = AsDouble(total);
  return std::max(1.0, (b * (b + 1) - a * (a + 1)) / 2);
}

double WorkOf(const WaitingView& w) { return Work(w.on_device + w.on_host, w.tokens); }

// log2 of the priority, negated: lower goes first.
double Key(Seconds age, double initial, double left) {
  return std::log2(initial * left) - age / kDoubling;
}

class AgedWsptPolicy final : public ParkingPolicy {
 public:
  const char* name() const override { return "aged-wspt"; }

  Verdict Pick(const MachineView& machine, std::span<const WaitingView> waiting) override {
    if (BudgetSpent(machine)) return Pass(Decision::kWaitCompute);
    const auto key = [&machine](const WaitingView& w) {
      const double work = WorkOf(w);
      return Key(Waited(machine, w), work, work);
    };
    return Load(FirstBy(machine, waiting, Misfit::kHoldsBack, key), Decision::kWaitBlocks);
  }

  void OnAdmitted(const MachineView& machine, const WaitingView& request,
                  const Choice& choice) override {
    ParkingPolicy::OnAdmitted(machine, request, choice);
    initial_.emplace_back(request.request, WorkOf(request));
  }

  void FormStep(const MachineView& machine, std::span<const RunningView> running,
                std::vector<StepShare>* shares) override {
    RankPrompts(machine, running);
    StepFormer step(running, machine.step_token_limit, shares);
    step.AddDecodes();
    for (const auto& [key, index] : order_) step.AddReady(index);
    if (step.empty()) step.JoinOldest();
    NoteStep(running, *shares);
  }

 private:
  // Both lists are in order of admission, so one pass over each finds every prompt's first work
  // and forgets those that run no more.
  void RankPrompts(const MachineView& machine, std::span<const RunningView> running) {
    order_.clear();
    size_t from = 0;
    size_t kept = 0;
    for (size_t i = 0; i < running.size(); ++i) {
      const RunningView& r = running[i];
      const double left = Work(r.first, r.first + r.remaining);
      double initial = left;
      const size_t at = Find(r.request, from);
      if (at < initial_.size()) {
        initial = initial_[at].second;
        initial_[kept++] = {r.request, initial};
        from = at + 1;
      }
      if (IsDecode(r)) continue;
      order_.emplace_back(Key(machine.now - r.arrived, initial, left), i);
    }
    initial_.resize(kept);
    std::sort(order_.begin(), order_.end());
  }

  size_t Find(RequestId request, size_t from) const {
    while (from < initial_.size() && initial_[from].first != request) ++from;
    return from;
  }

  std::vector<std::pair<RequestId, double>> initial_;  // P of admitted requests, as admitted
  std::vector<std::pair<double, size_t>> order_;       // scratch: key, index into running
};

}  // namespace

std::unique_ptr<Policy> MakeAgedWsptPolicy(const PolicyOptions&) {
  return std::make_unique<AgedWsptPolicy>();
}

}  // namespace sluice
