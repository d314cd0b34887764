// Choosing among waiting requests, in one pass and without allocation: what the baselines share.
//
// All of them respect priorities first and requests that were admitted before second (preempted,
// revoked, load failed), then their own key, then arrival. Their sources order by their own key
// alone; but the scheduler preempts for a higher priority, and a preempted request must come after
// the one it made room for.
#pragma once

#include <cstddef>
#include <limits>
#include <optional>
#include <span>
#include <tuple>

#include "scheduler/policy/policy.h"

namespace sluice {

// As a key: this request is not to be admitted now.
inline constexpr double kNotNow = std::numeric_limits<double>::infinity();

inline Seconds Waited(const MachineView& machine, const WaitingView& w) {
  return machine.now - w.arrived;
}

// What is computed if it is admitted now: new tokens, and those whose KV is still on the disk.
inline Tokens Uncached(const WaitingView& w) { return w.tokens - w.on_device - w.on_host; }

inline Seconds ComputeOf(const MachineView& machine, const WaitingView& w) {
  if (w.on_disk == Tokens(0)) return w.compute;
  return PrefillTime(*machine.cost, w.on_device + w.on_host, Uncached(w));
}

inline bool Fits(const MachineView& machine, const WaitingView& w) {
  return w.need <= machine.available && machine.running < machine.max_running;
}

inline Seconds Backlog(const MachineView& machine, LinkDirection direction) {
  return machine.link_backlog[static_cast<size_t>(direction)];
}

// Nothing runs and nothing moves towards the device: no event will come that changes anything, so
// whoever fits must be admitted.
inline bool Idle(const MachineView& machine) {
  return machine.running == 0 && Backlog(machine, LinkDirection::kHostToDevice) == Seconds(0) &&
         Backlog(machine, LinkDirection::kDiskToHost) == Seconds(0);
}

// What becomes of the first in the order if it does not fit: it holds back all others, or the
// first of its priority that fits overtakes it.
enum class Misfit { kHoldsBack, kIsOvertaken };

// The waiting request with the lowest key(view); none if all keys are kNotNow. On an idle machine
// it chooses among those that fit as long as there are any, and kNotNow only means last.
// REQUIRES: no key is NaN.
template <class Key>
std::optional<size_t> FirstBy(const MachineView& machine, std::span<const WaitingView> waiting,
                              Misfit misfit, const Key& key) {
  using Rank = std::tuple<int32_t, bool, double, int64_t>;
  const bool idle = Idle(machine);
  std::optional<size_t> first, fitting;
  Rank first_rank, fitting_rank;
  for (size_t i = 0; i < waiting.size(); ++i) {
    const WaitingView& w = waiting[i];
    const double k = key(w);
    if (k == kNotNow && !idle) continue;
    const Rank rank{-w.priority, !w.resumed, k, w.arrival};
    if (!first.has_value() || rank < first_rank) {
      first = i;
      first_rank = rank;
    }
    if (!Fits(machine, w)) continue;
    if (!fitting.has_value() || rank < fitting_rank) {
      fitting = i;
      fitting_rank = rank;
    }
  }
  if (!fitting.has_value()) return first;
  const bool overtakes =
      misfit == Misfit::kIsOvertaken && std::get<0>(fitting_rank) == std::get<0>(first_rank);
  return idle || overtakes ? fitting : first;
}

inline Verdict Pass(Decision why) { return Verdict{std::nullopt, why, std::nullopt}; }

// The request at `index` with its cached KV loaded; if there is none, a pass.
inline Verdict Load(std::optional<size_t> index, Decision otherwise) {
  if (!index.has_value()) return Pass(otherwise);
  Choice choice;
  choice.index = *index;
  return Verdict{choice, otherwise, std::nullopt};
}

}  // namespace sluice
