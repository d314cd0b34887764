// A backend without a model: steps take no time, tokens are a pure function of seed and position,
// and a test can hold steps and copies back, let them through one by one, or make them fail.
//
// Thread-safe.
#pragma once

#include <algorithm>
#include <array>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <utility>
#include <vector>

#include "absl/time/clock.h"
#include "backend/backend.h"

namespace sluice::testing {

class FakeBackend : public Backend {
 public:
  // The next token of a sequence. Called without a lock, by the engine thread.
  using TokenFunction = std::function<TokenId(const SequenceWork&)>;

  explicit FakeBackend(BackendInfo info, std::function<absl::Time()> clock)
      : info_(std::move(info)), clock_(std::move(clock)), meter_(clock_()) {}

  // ---- For the test ----

  // Letters, different for every seed.
  static TokenId LetterOf(const SequenceWork& work) {
    uint64_t x =
        work.sampling->seed * 0x9E3779B97F4A7C15U + static_cast<uint64_t>(work.output_index);
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9U;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBU;
    return static_cast<TokenId>('a' + (x >> 33) % 26);
  }

  void set_token_function(TokenFunction function) {
    std::lock_guard<std::mutex> lock(mu_);
    next_token_ = std::move(function);
  }

  // Steps wait from now on, until allowed.
  void HoldSteps() {
    std::lock_guard<std::mutex> lock(mu_);
    allowed_ = 0;
  }
  void AllowSteps(int64_t n) {
    std::lock_guard<std::mutex> lock(mu_);
    allowed_ = allowed_ == kUnlimited ? n : allowed_ + n;
    changed_.notify_all();
  }
  void ReleaseSteps() {
    std::lock_guard<std::mutex> lock(mu_);
    allowed_ = kUnlimited;
    changed_.notify_all();
  }

  // Every step takes at least this long.
  void set_step_time(absl::Duration time) {
    std::lock_guard<std::mutex> lock(mu_);
    step_time_ = time;
  }

  // The next step fails as a whole.
  void FailNextStep(absl::Status status) {
    std::lock_guard<std::mutex> lock(mu_);
    fail_next_ = std::move(status);
  }

  // Blocks until a step is waiting to be allowed.
  void WaitUntilHeld() {
    std::unique_lock<std::mutex> lock(mu_);
    changed_.wait(lock, [this] { return held_; });
  }

  int64_t steps() const {
    std::lock_guard<std::mutex> lock(mu_);
    return steps_;
  }

  // ---- Backend ----

  const BackendInfo& info() const override { return info_; }
  void SetCopyListener(std::function<void()> on_done) override { on_done_ = std::move(on_done); }

  void StartCopies(std::span<const Copy> copies) override {
    {
      std::lock_guard<std::mutex> lock(mu_);
      const absl::Time now = clock_();
      for (const Copy& copy : copies) {
        const Bytes bytes =
            info_.geometry.BytesFor(Blocks(static_cast<int64_t>(copy.blocks.size())));
        meter_.QueueTransfer(copy.direction, bytes);
        meter_.BeginTransfer(copy.direction, now);
        meter_.EndTransfer(copy.direction, bytes, true, now);
        finished_.push_back({copy.id, absl::OkStatus(), bytes, now, now});
      }
    }
    if (on_done_) on_done_();
  }

  std::vector<CopyResult> TakeFinishedCopies() override {
    std::lock_guard<std::mutex> lock(mu_);
    return std::exchange(finished_, {});
  }

  StepResult Run(const StepPlan& plan) override {
    StepResult result;
    result.id = plan.id;
    result.started = clock_();
    meter_.BeginCompute(result.started);
    TokenFunction next_token;
    {
      std::unique_lock<std::mutex> lock(mu_);
      held_ = allowed_ == 0;
      changed_.notify_all();
      changed_.wait(lock, [this] { return allowed_ != 0; });
      held_ = false;
      if (allowed_ != kUnlimited) --allowed_;
      // A wait that nothing ends: the step's duration.
      changed_.wait_for(lock, absl::ToChronoNanoseconds(step_time_), [] { return false; });
      ++steps_;
      result.status = std::exchange(fail_next_, absl::OkStatus());
      next_token = next_token_;
    }
    if (result.status.ok()) {
      for (const SequenceWork& work : plan.sequences) {
        result.sequences.push_back(RunSequence(work, next_token));
      }
    }
    result.finished = clock_();
    meter_.EndCompute(result.finished);
    return result;
  }

  ActivitySnapshot activity() override { return meter_.Snapshot(clock_()); }

 private:
  static constexpr int64_t kUnlimited = -1;

  static SequenceResult RunSequence(const SequenceWork& work, const TokenFunction& next_token) {
    SequenceResult result;
    if (!work.sample) return result;
    SampledToken token;
    token.token = next_token(work);
    const auto& stop_ids = work.sampling->stop_ids;
    const bool masked = work.output_index < work.sampling->min_tokens;
    if (masked && std::find(stop_ids.begin(), stop_ids.end(), token.token) != stop_ids.end()) {
      token.token = 'x';
    }
    token.logprob = -0.5F;
    for (int32_t i = 0; i < work.sampling->logprobs; ++i) {
      token.top.push_back({i == 0 ? token.token : TokenId{'A'} + i, -0.5F - static_cast<float>(i)});
    }
    result.sampled = std::move(token);
    return result;
  }

  const BackendInfo info_;
  const std::function<absl::Time()> clock_;
  std::function<void()> on_done_;  // set once, before the first copy
  ActivityMeter meter_;

  mutable std::mutex mu_;
  std::condition_variable changed_;
  TokenFunction next_token_ = LetterOf;  // guarded by mu_
  int64_t allowed_ = kUnlimited;         // guarded by mu_
  bool held_ = false;                    // guarded by mu_
  int64_t steps_ = 0;                    // guarded by mu_
  absl::Duration step_time_;             // guarded by mu_
  absl::Status fail_next_;               // guarded by mu_
  std::vector<CopyResult> finished_;     // guarded by mu_
};

}  // namespace sluice::testing
