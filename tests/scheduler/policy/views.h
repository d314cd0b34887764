// Hand-made views for the tests of policies.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "scheduler/policy/policy.h"
#include "scheduler/policy/registry.h"

namespace sluice::testing {

// A millisecond per token, nothing for attention, no floor: PrefillTime is easy to see.
inline const CostCoefficients& PlainCost() {
  static const CostCoefficients cost = [] {
    CostCoefficients c;
    c.per_token = Seconds(0.001);
    return c;
  }();
  return cost;
}

// Room for all, nothing running.
inline MachineView PlainMachine() {
  MachineView machine;
  machine.now = Seconds(100);
  machine.cost = &PlainCost();
  machine.available = Blocks(1000);
  machine.capacity = Blocks(1000);
  machine.max_running = 64;
  machine.step_token_limit = Tokens(1024);
  machine.tpot_target = Seconds(0.05);
  return machine;
}

// The same, with requests that run: not idle.
inline MachineView BusyMachine(int64_t decoding = 1) {
  MachineView machine = PlainMachine();
  machine.running = decoding;
  machine.decoding = decoding;
  return machine;
}

inline Seconds& BacklogOf(MachineView& machine, LinkDirection direction) {
  return machine.link_backlog[static_cast<size_t>(direction)];
}

// `tokens` new ones, one block, arrived `arrival` milliseconds after the clock's start.
inline WaitingView Request(int64_t arrival, int64_t tokens = 100) {
  WaitingView w;
  w.request = RequestId(arrival);
  w.arrival = arrival;
  w.arrived = Seconds(0.001) * static_cast<double>(arrival);
  w.tokens = Tokens(tokens);
  w.max_new = Tokens(10);
  w.need = Blocks(1);
  w.need_in_place = Blocks(1);
  w.compute = Seconds(0.001) * static_cast<double>(tokens);
  return w;
}

// `cached` further tokens in host memory that take `load` seconds.
inline WaitingView HostHit(int64_t arrival, int64_t cached, double load, int64_t fresh = 100) {
  WaitingView w = Request(arrival, fresh);
  w.tokens += Tokens(cached);
  w.on_host = Tokens(cached);
  w.load = Seconds(load);
  w.recompute = Seconds(0.001) * static_cast<double>(cached);
  return w;
}

// Running views, and the loads they view.
class RunningViews {
 public:
  RunningView& Add(int64_t remaining, std::vector<CopyId> loads = {}) {
    loads_.push_back(std::make_unique<std::vector<CopyId>>(std::move(loads)));
    RunningView r;
    r.request = RequestId(static_cast<int64_t>(views_.size()));
    r.arrival = static_cast<int64_t>(views_.size());
    r.remaining = Tokens(remaining);
    r.loads = *loads_.back();
    views_.push_back(r);
    return views_.back();
  }
  void AddDecode() { Add(1).decoding = true; }

  std::span<const RunningView> views() const { return views_; }

 private:
  std::vector<RunningView> views_;
  std::vector<std::unique_ptr<std::vector<CopyId>>> loads_;
};

using IndexAndCount = std::pair<size_t, int64_t>;

inline std::vector<IndexAndCount> Pairs(const std::vector<StepShare>& shares) {
  std::vector<IndexAndCount> pairs;
  for (const StepShare& share : shares) pairs.emplace_back(share.index, share.count.value());
  return pairs;
}

inline std::vector<IndexAndCount> StepOf(Policy& policy, const MachineView& machine,
                                         const RunningViews& running) {
  std::vector<StepShare> shares;
  policy.FormStep(machine, running.views(), &shares);
  return Pairs(shares);
}

inline std::unique_ptr<Policy> Make(const std::string& name, const PolicyOptions& options = {}) {
  return *MakePolicy(name, options);
}

// Arrival ranks in the order in which `policy` admits, until it passes or `waiting` is empty.
// Nothing about the machine changes meanwhile, save that something runs.
inline std::vector<int64_t> Order(Policy& policy, MachineView machine,
                                  std::vector<WaitingView> waiting) {
  std::vector<int64_t> order;
  while (!waiting.empty()) {
    const Verdict verdict = policy.Pick(machine, waiting);
    if (!verdict.choice.has_value()) break;
    const WaitingView picked = waiting.at(verdict.choice->index);
    order.push_back(picked.arrival);
    policy.OnAdmitted(machine, picked, *verdict.choice);
    waiting.erase(waiting.begin() + static_cast<std::ptrdiff_t>(verdict.choice->index));
    ++machine.running;
  }
  return order;
}

}  // namespace sluice::testing
