#include "scheduler/link/link_scheduler.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "scheduler/base/check.h"

namespace sluice {
namespace {

// Descriptors per layer: stretches of blocks that are neighbours in both pools.
int64_t CountRuns(const std::vector<Copy::Pair>& blocks) {
  int64_t runs = 1;
  for (size_t i = 1; i < blocks.size(); ++i) {
    const bool joined = blocks[i].source.value() == blocks[i - 1].source.value() + 1 &&
                        blocks[i].target.value() == blocks[i - 1].target.value() + 1;
    if (!joined) ++runs;
  }
  return runs;
}

// Seconds per unit, and units per slice.
void Price(const LinkSchedulerOptions& options, const LineOptions& line, LinkJob* job) {
  job->slice = std::max<int64_t>(1, options.slice_bytes.value() / options.layer_bytes.value());
  if (line.rate == ByteRate(0)) return;
  job->unit_work = (options.layer_bytes / line.rate).value();
  job->latency = line.latency.value();
  if (line.per_run > Seconds(0)) {
    const auto runs = static_cast<double>(CountRuns(job->copy.blocks));
    job->unit_work =
        std::max(job->unit_work, line.per_run.value() * runs / static_cast<double>(job->blocks));
  }
  // A hair above, so that a slice of exactly slice_time is not cut short by rounding.
  const double fits = absl::ToDoubleSeconds(options.slice_time) / job->unit_work * (1 + 1e-9);
  if (fits < static_cast<double>(job->slice)) {
    job->slice = std::max<int64_t>(1, static_cast<int64_t>(fits));
  }
}

// Among directions: control, then demand loads and whatever is overdue, then by class.
size_t Urgency(const LinkJob& job, absl::Time now) {
  const auto copy_class = static_cast<size_t>(job.copy.copy_class);
  const auto demand = static_cast<size_t>(CopyClass::kDemand);
  return job.overdue <= now ? std::min(copy_class, demand) : copy_class;
}

bool IsDemandLoad(const Copy& copy) {
  return copy.direction == LinkDirection::kHostToDevice && copy.copy_class == CopyClass::kDemand;
}

}  // namespace

LinkScheduler::LinkScheduler(const LinkSchedulerOptions& options) : options_(options) {
  SLUICE_CHECK(options.Validate().ok());
  for (size_t i = 0; i < lines_.size(); ++i) {
    lines_[i].Configure(static_cast<LinkDirection>(i), options.lines[i]);
  }
}

LinkLine* LinkScheduler::HostPeer(LinkDirection direction) {
  switch (direction) {
    case LinkDirection::kHostToDevice:
      return &line(LinkDirection::kDeviceToHost);
    case LinkDirection::kDeviceToHost:
      return &line(LinkDirection::kHostToDevice);
    default:
      return nullptr;
  }
}

void LinkScheduler::Push(Copy copy, absl::Time now) {
  SLUICE_CHECK(!copy.blocks.empty());
  auto job = std::make_unique<LinkJob>();
  job->copy = std::move(copy);
  job->order = pushed_++;
  job->overdue = now + static_cast<int64_t>(job->copy.copy_class) * options_.promote_after;
  job->blocks = static_cast<int64_t>(job->copy.blocks.size());
  job->units = job->blocks * options_.layers;
  Line& on = line(job->copy.direction);
  Price(options_, on.options(), job.get());
  on.Push(job.get());
  on.Cut(now);
  if (IsDemandLoad(job->copy)) {
    ++demand_loads_;
    line(LinkDirection::kDeviceToHost).Cut(now);
  }
  const CopyId id = job->copy.id;
  const bool added = jobs_.try_emplace(id, std::move(job)).second;
  SLUICE_CHECK(added);
}

void LinkScheduler::Revoke(CopyId id, absl::Time now) {
  const auto it = jobs_.find(id);
  if (it == jobs_.end()) return;
  LinkJob& job = *it->second;
  job.revoked = true;
  Line& on = line(job.copy.direction);
  if (on.moving() == &job) {
    on.Cut(now);
    return;
  }
  if (revoked_.empty()) revoked_at_ = now;
  revoked_.push_back(End(on, job, now));
}

// Whether the token bucket has no slice for a write-back now.
bool LinkScheduler::HoldsBack(const Line& on, absl::Time now) const {
  return on.direction() == LinkDirection::kDeviceToHost && demand_loads_ > 0 && bucket_full_ > now;
}

LinkJob* LinkScheduler::Head(const Line& on, absl::Time now) const {
  return on.queue().First(now, HoldsBack(on, now));
}

// When a free line that may move nothing now may do so without another Push().
absl::Time LinkScheduler::NextMove(const Line& on) const {
  if (!on.queue().HasWriteBack()) return absl::InfiniteFuture();
  return std::min(bucket_full_, on.queue().WriteBackOverdue());
}

std::optional<LinkSlice> LinkScheduler::Start(absl::Time now) {
  Line* chosen = nullptr;
  LinkJob* job = nullptr;
  size_t urgency = std::numeric_limits<size_t>::max();
  for (size_t i = 0; i < lines_.size(); ++i) {
    Line& candidate = lines_[(turn_ + i) % lines_.size()];
    if (candidate.moving() != nullptr) continue;
    LinkJob* head = Head(candidate, now);
    if (head == nullptr) {
      candidate.StandIdle(NextMove(candidate));
    } else if (const size_t its = Urgency(*head, now); its < urgency) {
      chosen = &candidate;
      job = head;
      urgency = its;
    }
  }
  if (job == nullptr) return std::nullopt;
  turn_ = static_cast<size_t>(chosen->direction()) + 1;

  const bool first = !job->has_started();
  if (first) job->started = now;
  const auto within = static_cast<size_t>(job->position % job->blocks);
  LinkSlice slice{
      job->copy.id, chosen->direction(), static_cast<int>(job->position / job->blocks), {}, first};
  if (!options_.coalesce) {
    slice.blocks =
        std::span<const Copy::Pair>(job->copy.blocks)
            .subspan(within, static_cast<size_t>(job->SliceEnd(job->position + 1) - job->position));
  }
  Begin(*chosen, *job, now);
  return slice;
}

void LinkScheduler::Begin(Line& on, LinkJob& job, absl::Time now) {
  const bool write_back = job.copy.copy_class == CopyClass::kWriteBack;
  const bool draws = write_back && on.direction() == LinkDirection::kDeviceToHost &&
                     demand_loads_ > 0 && job.overdue > now;
  const bool run = options_.coalesce && !draws;
  on.Begin(job, run ? on.queue().Overtaken(job, now) : absl::InfinitePast(), now);
  if (draws) {
    bucket_drawn_ = true;
    bucket_full_ = on.begun() + absl::Seconds(on.work() / options_.write_back_share);
  }
  Line* peer = HostPeer(on.direction());
  if (peer == nullptr || !peer->BusyAt(on.begun())) return;
  on.SetSpeed(options_.duplex_share, on.begun());
  peer->SetSpeed(options_.duplex_share, on.begun());
}

void LinkScheduler::Moved(const LinkSlice& slice, const absl::Status& status, absl::Time now) {
  Line& on = line(slice.direction);
  SLUICE_CHECK(on.moving() != nullptr && on.moving()->copy.id == slice.id && !on.moved());
  on.SetMoved(now);
  if (slice.direction == LinkDirection::kDeviceToHost && std::exchange(bucket_drawn_, false) &&
      !on.paced()) {
    bucket_full_ = on.begun() + (now - on.begun()) / options_.write_back_share;
  }
  if (status.ok()) return;
  on.moving()->status = status;
  on.CutToOneSlice();
}

std::vector<LinkArrival> LinkScheduler::Arrive(absl::Time now) {
  std::vector<LinkArrival> arrivals = std::exchange(revoked_, {});
  revoked_at_ = absl::InfiniteFuture();
  for (Line& on : lines_) {
    if (on.moving() == nullptr || !on.moved()) continue;
    if (on.arrives() <= now) {
      Finish(on, now, &arrivals);
    } else if (options_.coalesce) {
      LinkJob& job = *on.moving();
      const int layers = on.LayersBy(now);
      if (layers > job.layers) {
        job.layers = layers;
        arrivals.push_back({job.copy.id, on.direction(), layers, true, std::nullopt});
      }
    }
  }
  return arrivals;
}

// Books the slice that has arrived and tells what that completes: layers or the whole copy.
void LinkScheduler::Finish(Line& on, absl::Time now, std::vector<LinkArrival>* arrivals) {
  LinkJob& job = *on.moving();
  if (Line* peer = HostPeer(on.direction())) peer->SetSpeed(1, on.arrives());
  on.Finish();
  const auto layers = static_cast<int>(job.position / job.blocks);
  const bool news = layers > job.layers;
  job.layers = layers;
  if (!job.status.ok() || job.position == job.units || job.revoked) {
    arrivals->push_back(End(on, job, now));
  } else if (news) {
    arrivals->push_back({job.copy.id, on.direction(), layers, true, std::nullopt});
  }
}

LinkArrival LinkScheduler::End(Line& on, LinkJob& job, absl::Time now) {
  const bool started = job.has_started();
  if (job.status.ok() && job.position < job.units) {
    job.status =
        absl::CancelledError(absl::StrCat("copy ", job.copy.id.value(), " was revoked after ",
                                          job.layers, " of ", options_.layers, " layers"));
  }
  LinkArrival arrival{job.copy.id, on.direction(), job.layers, started, std::nullopt};
  arrival.result =
      CopyResult{job.copy.id, job.status, Bytes(job.units * options_.layer_bytes.value()),
                 started ? job.started : now, now};
  if (IsDemandLoad(job.copy)) --demand_loads_;
  on.Erase(&job);
  jobs_.erase(arrival.id);
  return arrival;
}

absl::Time LinkScheduler::next_event() const {
  absl::Time next = revoked_at_;
  for (const Line& on : lines_) {
    if (on.moving() == nullptr) {
      if (!on.queue().empty()) next = std::min(next, NextMove(on));
    } else if (on.moved()) {
      next = std::min(next, on.arrives());
    }
  }
  return next;
}

absl::Time LinkScheduler::next_layer_event() const {
  absl::Time next = next_event();
  if (!options_.coalesce) return next;
  for (const Line& on : lines_) {
    if (on.moving() != nullptr && on.moved()) next = std::min(next, on.NextLayer());
  }
  return next;
}

Seconds LinkScheduler::Backlog(LinkDirection direction, absl::Time now) const {
  return Seconds(line(direction).Backlog(now));
}

}  // namespace sluice
