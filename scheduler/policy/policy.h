// Policy decides who goes first, and how its cached KV is used. It sees queues, tiers, costs and
// the time as values and answers with values: it knows no blocks, no tokens and no clock, so that
// policies can be compared on equal terms. It never sees output lengths in advance, only their
// bound.
//
// Whether there is room, what is cached where, and what really happens is the scheduler's business:
//
//   PlanStep:  Pick, Pick, … -> admissions     FormStep -> the step
//
// A policy may keep state (credits, virtual time). The same calls give the same answers, bit for
// bit. Thread-compatible; engine thread only.
#pragma once

#include <array>
#include <cstdint>
#include <limits>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "scheduler/base/units.h"
#include "scheduler/cost/coefficients.h"
#include "scheduler/cost/measure.h"
#include "scheduler/stats.h"
#include "scheduler/step.h"

namespace sluice {

inline constexpr Seconds kNever{std::numeric_limits<double>::infinity()};

// A request that waits for admission.
struct WaitingView {
  RequestId request;
  int64_t arrival = 0;        // rank by arrival; unique
  Seconds arrived;            // when, on the scale of MachineView::now
  Seconds deadline = kNever;  // of the first token, same scale
  int32_t priority = 0;
  int32_t tenant = 0;    // dense index
  bool resumed = false;  // was admitted before: preempted, revoked, or a load of its failed

  // From here on it goes before all others of its priority (WaitPromise).
  Seconds overdue_at = kNever;

  Tokens tokens;   // whose KV it needs: prompt, and outputs before it was preempted
  Tokens max_new;  // most outputs still to come

  // Where the KV of its leading tokens is, at the last look (fresh for the request Pick returns and
  // for new arrivals, a few steps old for others). The four follow each other in no fixed order
  // except that `pending` comes last; the rest of `tokens` is new.
  Tokens on_device;
  Tokens on_host;        // on the host only, or on its way from there to the device
  Tokens on_disk;        // on the disk only, or on its way from there to the host
  bool staging = false;  // (some of) on_disk is on its way to the host for this request
  Tokens pending;        // being computed by a running request right now

  // Device blocks it takes from the room: its whole need (tokens and max_new) without what it
  // shares with running requests.
  Blocks need;
  Blocks need_in_place;  // the same if host blocks stay where they are

  // Prices on an idle machine, from the cost model; zero where there is nothing to do.
  Seconds load;       // host part over the host link
  Seconds stage;      // disk part over the disk link
  Seconds compute;    // new tokens, everything cached being used
  Seconds recompute;  // extra compute if host and disk parts are computed instead
  // Guesses that use no output length, only max_new and the share of it that requests gave so far:
  // what its decodes add to steps, and how long it will hold its device blocks.
  Seconds decode;
  Seconds hold;

  Tokens fresh() const { return tokens - on_device - on_host - on_disk; }  // `pending` included
};

// An admitted request.
struct RunningView {
  RequestId request;
  int64_t arrival = 0;
  Seconds arrived;
  int32_t priority = 0;
  int32_t tenant = 0;

  Tokens first;      // tokens whose KV is there (or being loaded)
  Tokens remaining;  // known tokens whose KV is still to be computed; at least 1
  // Of `remaining`, those that can be computed before its loads have arrived (the recomputed front
  // of a split). 0 if there are no loads.
  Tokens before_loads;
  Tokens in_place;                // of `first`, attended to in host memory
  bool decoding = false;          // has its first token
  std::span<const CopyId> loads;  // under way
  bool joinable = true;           // false: its loads must have ended before it takes part in a step
  Seconds load_left;              // estimate until the last of `loads` ends; 0 without loads
};

// The machine now.
struct MachineView {
  Seconds now;  // since the scheduler's first call
  const CostCoefficients* cost = nullptr;

  Blocks available;  // device blocks that can be promised
  Blocks capacity;
  int64_t running = 0;  // admitted
  int64_t max_running = 0;
  int32_t lowest_priority = 0;  // of those admitted; meaningless if none is

  // Work queued or under way, as time on each resource.
  std::array<Seconds, kLinkDirectionCount> link_backlog{};
  // How long what is on its way from the disk to the host has been due, by its price; 0 if nothing
  // is. (link_backlog is 0 then, although it has not ended.)
  Seconds staging_late;
  Seconds compute_backlog;  // prefill of admitted requests
  Seconds decode_backlog;   // what their decodes will probably add to steps
  // Device blocks that admitted requests hold or were promised, times how long each will probably
  // keep its own; block-seconds.
  double held_block_seconds = 0;
  Seconds decode_step;  // a step with the present decodes and nothing else
  // Mean time between two admissions while requests waited, of late.
  Seconds admission_interval;
  // Upper bounds: of any step's time, and of the time until all that is admitted has ended, every
  // request using its whole max_new in such steps.
  Seconds longest_step;
  Seconds drain;
  int64_t decoding = 0;

  Tokens step_token_limit;
  Seconds tpot_target;  // time between tokens that prefill chunks must leave room for
  bool attends_in_place = false;
};

// Who is admitted next, and how.
struct Choice {
  size_t index = 0;                       // into the waiting requests
  RequestPlan plan = RequestPlan::kLoad;  // used as far as the cached state allows
  Tokens recompute;      // kSplit: leading tokens of the host part that are computed, not loaded
  bool overdue = false;  // goes first because it has waited past its bound
};

// A choice, or why there is none.
struct Verdict {
  std::optional<Choice> choice;
  Decision pass = Decision::kWaitBlocks;  // one of kWait…; of use only without a choice
  // Without a choice: who would be next; its KV is brought closer meanwhile.
  std::optional<size_t> next = std::nullopt;
};

// A policy's promise about waiting, among requests of one priority and as long as nothing fails.
struct WaitPromise {
  Seconds overdue_at = kNever;  // when it will go first
  Seconds bound = kNever;       // longest time from arrival to admission, whatever comes after it
};

// A sequence in a step.
struct StepShare {
  size_t index = 0;  // into the running requests
  Tokens count;      // of its remaining tokens, from the first on
};

// What the scheduler does for a policy besides asking it.
struct PolicyTraits {
  bool chooses_plans = false;  // by price (pressure.h); false: cached KV is always loaded
  bool revokes_loads = false;  // an overdue request may take blocks of those still loading
  bool prefetches = false;     // idle links bring KV of waiting requests closer
  bool values_blocks = false;  // evicts by seconds saved per byte; false: least recently used
};

class Policy {
 public:
  virtual ~Policy() = default;

  virtual const char* name() const = 0;
  virtual PolicyTraits traits() const { return {}; }

  // Who is admitted next. `waiting` is in order of arrival and not empty. Called again after every
  // admission, until it passes or its choice does not fit: then lower priorities are preempted for
  // the choice if that helps, and otherwise nobody is admitted before it (so only return what must
  // not be overtaken, or what fits: need <= available and running < max_running).
  // If a choice's cached state was older than it looked, its view is renewed and Pick called again.
  virtual Verdict Pick(const MachineView& machine, std::span<const WaitingView> waiting) = 0;

  // Whether `victim` may lose its device blocks so that `head` can be admitted, and whether `a` is
  // preempted rather than `b` (`a` was admitted before `b`). Default: strictly lower priority.
  virtual bool MayPreempt(const WaitingView& head, const RunningView& victim) const {
    return victim.priority < head.priority;
  }
  virtual bool PreemptsOlder(const RunningView& a, const RunningView& b) const {
    return a.priority < b.priority;
  }

  // Fills `shares` (empty on entry) with at most machine.step_token_limit tokens of work. `running`
  // is in order of admission. Must choose something if any request has no loads under way, has
  // tokens before its loads, or is joinable.
  virtual void FormStep(const MachineView& machine, std::span<const RunningView> running,
                        std::vector<StepShare>* shares) = 0;

  // Position in which a load of this request should be served by the link, lower first.
  virtual int64_t LoadRank(const MachineView& /*machine*/, const WaitingView& /*admitted*/) const {
    return 0;
  }

  // --- What happened; for policies with state ---

  virtual void OnAdmitted(const MachineView& /*machine*/, const WaitingView& /*request*/,
                          const Choice& /*choice*/) {}

  // Whether `a`, which waits, will probably be admitted before `b`, which has just arrived; for
  // predictions.
  virtual bool ServesBefore(const WaitingView& a, const WaitingView& b) const {
    return a.priority >= b.priority;
  }

  // What `request`, which has just arrived, is promised. `ahead`: all that waits, it not included.
  virtual WaitPromise Promise(const MachineView& /*machine*/, const WaitingView& /*request*/,
                              std::span<const WaitingView> /*ahead*/) const {
    return {};
  }
};

}  // namespace sluice
