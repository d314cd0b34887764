// What the links and the device did when, for plots: their use over the whole run, and every step
// and copy of a short window.
//
// Thread-compatible.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "absl/time/time.h"
#include "backend/sim/sim_options.h"
#include "scheduler/step.h"

namespace sluice {

// Totals since the start, at one moment.
struct UsageSample {
  double at = 0;
  double compute_s = 0;
  std::array<double, kLinkDirectionCount> link_s{};
  int64_t waiting = 0;
  int64_t running = 0;
};

// A bounded number of samples over a run of unknown length: when it is full, every other one goes
// and the interval doubles.
class UsageSampler {
 public:
  bool Due(double now) const { return now >= next_; }
  // REQUIRES: later than the sample before.
  void Add(const UsageSample& sample);

  const std::vector<UsageSample>& samples() const { return samples_; }

 private:
  static constexpr size_t kMost = 512;
  double interval_ = 0.05;
  double next_ = 0;
  std::vector<UsageSample> samples_;
};

// Steps and copies that end while it is open. The first kMost of each.
class WindowRecorder final : public SimObserver {
 public:
  struct Step {
    double from = 0;
    double to = 0;
    double stall = 0;
    Tokens tokens;
  };
  struct Move {
    LinkDirection direction = LinkDirection::kHostToDevice;
    RequestId request;
    double from = 0;
    double to = 0;
    Bytes bytes;
    bool ok = true;
  };

  explicit WindowRecorder(absl::Time start) : start_(start) {}

  void Open() { open_ = true; }
  void Close() { open_ = false; }
  bool open() const { return open_; }

  void OnStep(absl::Time started, absl::Time finished, absl::Duration stall,
              Tokens tokens) override;
  void OnCopy(LinkDirection direction, RequestId request, const CopyResult& result) override;

  const std::vector<Step>& steps() const { return steps_; }
  const std::vector<Move>& moves() const { return moves_; }

 private:
  static constexpr size_t kMost = 4000;

  const absl::Time start_;
  bool open_ = false;
  std::vector<Step> steps_;
  std::vector<Move> moves_;
};

}  // namespace sluice
