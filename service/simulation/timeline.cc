#include "service/simulation/timeline.h"

namespace sluice {

void UsageSampler::Add(const UsageSample& sample) {
  samples_.push_back(sample);
  if (samples_.size() == kMost) {
    for (size_t i = 0; i < kMost / 2; ++i) samples_[i] = samples_[2 * i];
    samples_.resize(kMost / 2);
    interval_ *= 2;
  }
  next_ = samples_.back().at + interval_;
}

void WindowRecorder::OnStep(absl::Time started, absl::Time finished, absl::Duration stall,
                            Tokens tokens) {
  if (!open_ || steps_.size() == kMost) return;
  steps_.push_back({absl::ToDoubleSeconds(started - start_),
                    absl::ToDoubleSeconds(finished - start_), absl::ToDoubleSeconds(stall),
                    tokens});
}

void WindowRecorder::OnCopy(LinkDirection direction, RequestId request, const CopyResult& result) {
  if (!open_ || moves_.size() == kMost) return;
  moves_.push_back({direction, request, absl::ToDoubleSeconds(result.started - start_),
                    absl::ToDoubleSeconds(result.finished - start_), result.bytes,
                    result.status.ok()});
}

}  // namespace sluice
