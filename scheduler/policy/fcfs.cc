// First come first served with a token budget per step, as vLLM v1 orders work: decodes first, then
// prompt chunks. A request whose loads are under way waits aside while others have work, so loads
// run ahead of compute; only when nothing else can run does it join layer by layer.
#include <algorithm>

#include "scheduler/policy/policy.h"

namespace sluice {
namespace {

bool SubsetOf(std::span<const CopyId> some, std::span<const CopyId> all) {
  return std::all_of(some.begin(), some.end(),
                     [&](CopyId id) { return std::find(all.begin(), all.end(), id) != all.end(); });
}

class FcfsPolicy final : public Policy {
 public:
  bool AdmitsBefore(const WaitingView& a, const WaitingView& b) const override {
    if (a.priority != b.priority) return a.priority > b.priority;
    if (a.resumed != b.resumed) return a.resumed;
    return a.arrival < b.arrival;
  }

  bool MayPreempt(const WaitingView& head, const RunningView& victim) const override {
    return victim.priority < head.priority;
  }

  bool PreemptsOlder(const RunningView& a, const RunningView& b) const override {
    return a.priority < b.priority;
  }

  void FormStep(std::span<const RunningView> running, Tokens limit,
                std::vector<StepShare>* shares) const override {
    Tokens left = limit;
    const auto add = [&](size_t index) {
      const Tokens count = std::min(left, running[index].remaining);
      if (count == Tokens(0)) return;
      shares->push_back({index, count});
      left -= count;
    };
    for (size_t i = 0; i < running.size(); ++i) {
      if (running[i].loads.empty() && running[i].remaining == Tokens(1)) add(i);
    }
    for (size_t i = 0; i < running.size(); ++i) {
      if (running[i].loads.empty() && running[i].remaining > Tokens(1)) add(i);
    }
    if (shares->empty()) JoinLoads(running, add);
  }

 private:
  // The oldest request with loads, and those that wait for no other load than it does.
  template <class Add>
  static void JoinLoads(std::span<const RunningView> running, const Add& add) {
    const auto first = std::find_if(running.begin(), running.end(),
                                    [](const RunningView& r) { return r.joinable; });
    for (auto it = first; it != running.end(); ++it) {
      if (it->joinable && SubsetOf(it->loads, first->loads)) {
        add(static_cast<size_t>(it - running.begin()));
      }
    }
  }
};

}  // namespace

std::unique_ptr<const Policy> MakeFcfsPolicy() { return std::make_unique<FcfsPolicy>(); }

}  // namespace sluice
