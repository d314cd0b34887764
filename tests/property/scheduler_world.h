// SchedulerWorld drives a Scheduler with a random schedule and checks what it decides against an
// oracle that models the CONTENT of memory.
//
// Every token slot of every block on device, host and disk holds a value: a hash of the salt and
// all tokens up to that position (what right KV would stand for), or kGarbage. Steps write it,
// copies move it, late and out of order; some fail, some are revoked, in time or too late. A step
// may only attend to slots that hold its own prefix: on the device, arriving by a load it lists, or
// in place on the host. That catches wrong sharing, reuse before a store has been confirmed, loads
// over blocks being read, use of failed or revoked loads, and gaps of a split plan that are read
// before they are computed, without knowing how the scheduler works.
//
// Steps may be planned ahead: then the content of the token that nobody knows yet is the one that
// the step before draws, and results of requests that have ended meanwhile go nowhere.
//
// After every call: Scheduler::CheckInvariants(), tier counts, token order, exactly one end per
// request, no idle step while something could run.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "scheduler/scheduler.h"

namespace sluice::testing {

struct WorldOptions {
  SchedulerOptions scheduler;
  BlockHashFunction block_hash = &BlockHash;
  int actions = 150;   // random calls before draining
  int vocabulary = 3;  // few tokens: many shared prefixes
  int families = 3;    // prompts begin like one of so many documents
  int max_prompt = 40;
  int max_new = 12;
  int priorities = 1;  // 1: all equal
  int salts = 1;
  double copy_failures = 0;  // probability
  double sequence_failures = 0;
  double step_failures = 0;
  double cancels = 0.05;  // probability per action
  double deadlines = 0;   // share of requests that have one
  double control = 0;     // probability per action of a Warm() or an Evict()
  double ahead = 0;       // probability that a step under way is followed by a PlanAhead()
};

// Options drawn from a seed: tiny pools, with and without a host tier, all features mixed.
WorldOptions RandomWorldOptions(uint64_t seed);

class SchedulerWorld {
 public:
  SchedulerWorld(const WorldOptions& options, uint64_t seed);

  // Runs the schedule and drains. Returns an empty string, or the first thing that went wrong.
  std::string Run();

  // A digest of every decision and event so far.
  uint64_t trace() const { return trace_; }
  const SchedulerStats& final_stats() const { return final_stats_; }
  // Sequences of steps planned ahead whose result had nobody left to go to.
  int64_t discarded() const { return discarded_; }

 private:
  using Slots = std::vector<uint64_t>;

  struct Request {
    std::vector<TokenId> tokens;    // prompt and the outputs handed to the scheduler
    std::vector<uint64_t> content;  // right KV per token
    size_t prompt = 0;
    int64_t max_new = 0;
    uint64_t salt = 0;
    std::vector<TokenId> stop_ids;
    uint64_t seed = 0;
    int64_t tokens_heard = 0;  // token events
    bool heard = false;        // that it was queued
    bool cancelled = false;
    bool ended = false;
  };

  struct CopyUnderWay {
    Copy copy;
    std::vector<Slots> sources;  // content when it started
    bool fails = false;
    bool revoked = false;
    absl::Time started;
  };

  void Act();
  void Submit();
  void CancelSome();
  void Warm();
  void Evict();
  void HearWarm(const WarmResult& result);
  // A step under way, and what becomes of it.
  struct Step {
    StepPlan plan;
    std::vector<uint8_t> doomed;  // per sequence
  };

  void Plan();
  void PlanAhead();
  void PlanOrCommit();
  // Takes over what a plan says. `plan` has sequences or copies.
  void Begin(StepPlan plan);
  void Commit();
  void FinishCopy(size_t which);
  void Drain();

  void StartCopy(const Copy& copy);
  void RevokeCopies(const StepPlan& plan);
  void CheckWork(const SequenceWork& work);
  // Of one whose last token the step under way draws.
  void CheckUnknownToken(const SequenceWork& work);
  // That no step under way touches a block that `work` or a copy writes; but for the same request.
  void CheckUntouched(BlockId block, RequestId writer);
  // Whether the step under way writes this token's KV for the same request, in the same place.
  bool WrittenBefore(const SequenceWork& work, size_t token) const;
  void CheckPlaces(const SequenceWork& work);
  void CheckReads(const Request& request, const SequenceWork& work);
  // What slot `slot` of a device block holds, or will once the loads `work` lists have arrived.
  uint64_t ContentFor(const SequenceWork& work, BlockId block, size_t slot);
  void CheckWrites(const SequenceWork& work);
  void CheckNotIdle(const StepPlan& plan);
  SequenceResult ResultOf(const SequenceWork& work, bool doomed, bool step_ok);
  void WriteBack(const SequenceWork& work, bool good);
  void AfterCall();
  void HearEvent(const Event& event);
  void CheckFinish(const Event& event, const Request& request);
  void CheckDrained();

  std::vector<TokenId> RandomPrompt();
  TokenId Draw(const Request& request, int64_t index) const;
  void Append(Request* request, TokenId token) const;
  const CopyUnderWay* FindCopy(CopyId id) const;
  std::vector<Slots>* SourcePool(LinkDirection direction);
  std::vector<Slots>* TargetPool(LinkDirection direction);
  bool Chance(double p) { return std::uniform_real_distribution<double>(0, 1)(rng_) < p; }
  int64_t Pick(int64_t low, int64_t high) {
    return std::uniform_int_distribution<int64_t>(low, high)(rng_);
  }
  void Fail(const std::string& what);
  void Note(uint64_t value);

  const WorldOptions options_;
  const size_t width_;  // tokens per block
  std::mt19937_64 rng_;
  Scheduler scheduler_;
  absl::Time now_;
  std::vector<Slots> device_;
  std::vector<Slots> host_;
  std::vector<Slots> disk_;
  std::vector<CopyUnderWay> copies_;
  std::map<RequestId, Request> requests_;
  std::map<WarmId, Tokens> warms_;  // prompts under way
  int64_t next_warm_ = 0;
  int64_t next_request_ = 0;
  std::deque<Step> steps_;  // under way, oldest first
  CopyId last_copy_;
  int64_t discarded_ = 0;
  std::string failure_;
  uint64_t trace_ = 0;
  SchedulerStats final_stats_;
};

}  // namespace sluice::testing
