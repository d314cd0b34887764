#include "backend/sim/sim_link.h"

#include <algorithm>
#include <array>
#include <utility>

#include "absl/strings/str_cat.h"
#include "backend/sim/mix.h"
#include "scheduler/base/check.h"

namespace sluice {
namespace {

constexpr uint64_t kCopyStream = 3;

LinkSchedulerOptions LinkOptionsOf(const SimOptions& options) {
  LinkSchedulerOptions link;
  link.layers = options.cost.layers;
  const int64_t layers = options.cost.layers;
  link.layer_bytes = Bytes((options.geometry.bytes_per_block.value() + layers - 1) / layers);
  for (size_t d = 0; d < kLinkDirectionCount; ++d) {
    const LinkCoefficients& cost = options.cost.links[d];
    const double per_byte = cost.per_byte.value();
    link.lines[d].rate = ByteRate(per_byte > 0 ? 1 / per_byte : 0);
    link.lines[d].per_run = cost.per_run;
    link.lines[d].latency = cost.latency;
  }
  link.duplex_share = options.cost.duplex_share;
  // Slices bounded by time only: there is nothing here that large ones could hold up.
  link.slice_bytes = MiB(1 << 20);
  link.coalesce = true;
  return link;
}

Blocks PoolOf(const SimOptions& options, Tier tier) {
  switch (tier) {
    case Tier::kDevice:
      return options.device_blocks;
    case Tier::kHost:
      return options.host_blocks;
    case Tier::kDisk:
      return options.disk_blocks;
    case Tier::kRemote:
      break;
  }
  return Blocks(0);
}

struct Ends {
  Tier from;
  Tier to;
};

Ends EndsOf(LinkDirection direction) {
  switch (direction) {
    case LinkDirection::kHostToDevice:
      return {Tier::kHost, Tier::kDevice};
    case LinkDirection::kDeviceToHost:
      return {Tier::kDevice, Tier::kHost};
    case LinkDirection::kDiskToHost:
      return {Tier::kDisk, Tier::kHost};
    case LinkDirection::kHostToDisk:
      break;
  }
  return {Tier::kHost, Tier::kDisk};
}

}  // namespace

SimLink::SimLink(const SimOptions& options, SimActivity& activity)
    : options_(options), activity_(activity), queue_(LinkOptionsOf(options)) {}

void SimLink::CheckBlocks(const Copy& copy) const {
  const Ends ends = EndsOf(copy.direction);
  const int64_t sources = PoolOf(options_, ends.from).value();
  const int64_t targets = PoolOf(options_, ends.to).value();
  for (const Copy::Pair& pair : copy.blocks) {
    SLUICE_CHECK(pair.source.valid() && pair.source.value() < sources);
    SLUICE_CHECK(pair.target.valid() && pair.target.value() < targets);
  }
}

void SimLink::Start(std::span<const Copy> copies, absl::Time now) {
  AdvanceTo(now);
  for (const Copy& copy : copies) {
    CheckBlocks(copy);
    State state;
    state.direction = copy.direction;
    state.request = copy.request;
    state.awaited = copy.copy_class == CopyClass::kDemand && copy.request.valid();
    state.bytes = options_.geometry.BytesFor(Blocks(static_cast<int64_t>(copy.blocks.size())));
    const uint64_t digest = Mix(options_.seed, kCopyStream, static_cast<uint64_t>(copy.id.value()));
    state.fails = UniformOf(digest) < options_.copy_failure_rate;
    activity_.QueueTransfer(copy.direction, state.bytes);
    const bool added = copies_.try_emplace(copy.id, state).second;
    SLUICE_CHECK(added);
    newest_ = std::max(newest_, copy.id);
    queue_.Push(copy, now);
  }
  Process(now);
}

void SimLink::Revoke(std::span<const CopyId> copies, absl::Time now) {
  AdvanceTo(now);
  for (const CopyId id : copies) queue_.Revoke(id, now);
  Process(now);
}

void SimLink::AdvanceTo(absl::Time now) {
  for (absl::Time next = next_event(); next <= now; next = next_event()) Process(next);
  activity_.AdvanceTo(now);
}

void SimLink::Process(absl::Time now) {
  activity_.AdvanceTo(now);
  for (const LinkArrival& arrival : queue_.Arrive(now)) Book(arrival, now);
  while (const std::optional<LinkSlice> slice = queue_.Start(now)) {
    const State& state = copies_.find(slice->id)->second;
    if (slice->first) activity_.BeginTransfer(slice->direction, state.awaited);
    absl::Status status;
    if (state.fails) {
      status = absl::DataLossError(absl::StrCat("copy ", slice->id.value(), ": injected failure"));
    }
    queue_.Moved(*slice, status, now);
  }
}

void SimLink::Book(const LinkArrival& arrival, absl::Time now) {
  const auto it = copies_.find(arrival.id);
  SLUICE_CHECK(it != copies_.end());
  State& state = it->second;
  if (state.watched && arrival.layers > state.layers) {
    // Of the layers that come in together, the first has the most compute behind it.
    const absl::Duration behind =
        step_compute_ * (options_.cost.layers - state.layers) / options_.cost.layers;
    state.earliest_end = std::max(state.earliest_end, now + behind);
  }
  state.layers = std::max(state.layers, arrival.layers);
  if (!arrival.result.has_value()) return;
  const CopyResult& result = *arrival.result;
  activity_.EndTransfer(state.direction, state.awaited, state.bytes, arrival.started,
                        result.status.ok());
  if (!result.status.ok()) failed_.try_emplace(arrival.id, result.status);
  if (options_.observer != nullptr) {
    options_.observer->OnCopy(state.direction, state.request, result);
  }
  finished_.push_back(result);
  if (!state.watched) copies_.erase(it);
}

std::vector<CopyResult> SimLink::TakeFinished() { return std::exchange(finished_, {}); }

std::vector<SimLink::Meeting> SimLink::Meet(std::span<const CopyId> loads, absl::Duration compute,
                                            absl::Time now) {
  AdvanceTo(now);
  Process(now);  // layers that are in place by now
  step_compute_ = compute;
  std::vector<CopyId> waited;
  for (const CopyId id : loads) {
    const auto it = copies_.find(id);
    if (it == copies_.end() || it->second.watched) continue;
    it->second.watched = true;
    waited.push_back(id);
  }
  const size_t ended_before = finished_.size();
  size_t seen = ended_before;
  size_t open = waited.size();
  while (open > 0) {
    const absl::Time next = queue_.next_layer_event();
    SLUICE_CHECK(next < absl::InfiniteFuture());
    Process(next);
    for (; seen < finished_.size(); ++seen) {
      const auto it = copies_.find(finished_[seen].id);
      if (it != copies_.end() && it->second.watched) --open;
    }
  }
  std::vector<Meeting> meetings(loads.size());
  for (size_t i = 0; i < loads.size(); ++i) {
    Meeting& meeting = meetings[i];
    if (!loads[i].valid() || loads[i] > newest_) {
      meeting.status = absl::InternalError(
          absl::StrCat("a step waits for copy ", loads[i].value(), ", which was never started"));
    } else if (const auto failed = failed_.find(loads[i]); failed != failed_.end()) {
      meeting.status = failed->second;
    }
    if (const auto it = copies_.find(loads[i]); it != copies_.end()) {
      meeting.earliest_end = it->second.earliest_end;
    }
  }
  for (const CopyId id : waited) copies_.erase(id);
  return meetings;
}

}  // namespace sluice
