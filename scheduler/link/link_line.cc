#include "scheduler/link/link_line.h"

#include <algorithm>
#include <cmath>

#include "scheduler/base/check.h"

namespace sluice {
namespace {

// A caller that comes late to the next slice of a busy line may make up this much.
constexpr absl::Duration kCatchUp = absl::Milliseconds(2);

}  // namespace

void LinkLine::Configure(LinkDirection direction, const LineOptions& options) {
  direction_ = direction;
  options_ = options;
}

void LinkLine::Push(LinkJob* job) {
  queue_.Push(job);
  backlog_ += job->WorkLeft();
}

void LinkLine::Erase(LinkJob* job) {
  SLUICE_CHECK(job != moving_);
  queue_.Erase(job);
  backlog_ -= job->WorkLeft();
  if (!queue_.empty()) return;
  backlog_ = 0;  // sheds what rounding has left
  ready_ = absl::InfiniteFuture();
}

double LinkLine::WorkAt(int64_t unit) const {
  return (begin_ == 0 ? moving_->latency : 0) +
         static_cast<double>(unit - begin_) * moving_->unit_work;
}

double LinkLine::work() const { return WorkAt(end_); }

double LinkLine::Backlog(absl::Time now) const {
  double left = backlog_;
  if (moving_ != nullptr && paced()) {
    const double done = done_ + absl::ToDoubleSeconds(std::max(now, since_) - since_) * speed_;
    left -= std::min(done, work());
  }
  return std::max(left, 0.0);
}

absl::Time LinkLine::TimeAt(int64_t unit) const {
  return since_ + absl::Seconds((WorkAt(unit) - done_) / speed_);
}

// The end of the slice that is under way at `until`; one that ends at `until` counts.
int64_t LinkLine::RunEnd(absl::Time until) const {
  if (until == absl::InfinitePast()) return moving_->SliceEnd(begin_ + 1);
  if (!paced() || until >= TimeAt(moving_->units)) return moving_->units;
  // One unit less than the arithmetic says, against rounding; the loop makes up for it.
  const double work = done_ + absl::ToDoubleSeconds(until - since_) * speed_ - WorkAt(begin_);
  const double units = std::floor(work / moving_->unit_work) - 1;
  int64_t end = moving_->SliceEnd(begin_ + std::max<int64_t>(1, static_cast<int64_t>(units)));
  while (end < moving_->units && TimeAt(end) < until) end = moving_->SliceEnd(end + 1);
  return end;
}

void LinkLine::SetEnd(int64_t end) {
  end_ = end;
  arrives_ = TimeAt(end);
}

void LinkLine::Begin(LinkJob& job, absl::Time until, absl::Time now) {
  SLUICE_CHECK(moving_ == nullptr && job.position < job.units);
  moving_ = &job;
  moved_ = false;
  begin_ = job.position;
  begun_ = !paced() || ready_ > now ? now : std::max({free_from_, ready_, now - kCatchUp});
  ready_ = absl::InfinitePast();
  until_ = until;
  done_ = 0;
  since_ = begun_;
  speed_ = 1;
  SetEnd(RunEnd(until));
}

void LinkLine::SetSpeed(double speed, absl::Time when) {
  if (moving_ == nullptr || !paced()) return;
  when = std::clamp(when, since_, std::max(since_, arrives_));
  done_ += absl::ToDoubleSeconds(when - since_) * speed_;
  since_ = when;
  speed_ = speed;
  SetEnd(until_ > when ? RunEnd(until_) : end_);
}

void LinkLine::Cut(absl::Time when) {
  if (moving_ == nullptr || !paced() || until_ <= when) return;
  until_ = std::max(when, since_);
  SetEnd(RunEnd(until_));
}

void LinkLine::CutToOneSlice() {
  until_ = absl::InfinitePast();
  SetEnd(RunEnd(until_));
}

void LinkLine::SetMoved(absl::Time now) {
  moved_ = true;
  // Where memory is slower than the line, memory counts. A late caller does not make the line late.
  if (!paced()) arrives_ = now;
}

int LinkLine::LayersBy(absl::Time now) const {
  int layers = moving_->layers;
  while ((layers + 1) * moving_->blocks <= end_ && TimeAt((layers + 1) * moving_->blocks) <= now) {
    ++layers;
  }
  return layers;
}

absl::Time LinkLine::NextLayer() const {
  const int64_t layer_end = (moving_->layers + 1) * moving_->blocks;
  return layer_end <= end_ ? TimeAt(layer_end) : absl::InfiniteFuture();
}

void LinkLine::Finish() {
  free_from_ = arrives_;
  backlog_ -= work();
  moving_->position = end_;
  moving_ = nullptr;
}

}  // namespace sluice
