// CheckInvariants(): see README.md for the registry.
#include "absl/strings/str_cat.h"
#include "scheduler/base/status_macros.h"
#include "scheduler/impl.h"

namespace sluice {
namespace {

absl::Status Broken(const Sequence& sequence, absl::string_view what) {
  return absl::InternalError(absl::StrCat("request ", sequence.spec.id.value(), ": ", what));
}

absl::Status CheckSequence(const Sequence& s, const KvGeometry& geometry) {
  const bool running = s.state == Sequence::State::kRunning;
  if (s.known() != s.stats.prompt + s.stats.output) return Broken(s, "tokens are miscounted");
  if (s.stats.output >= s.spec.max_new) return Broken(s, "has all its tokens but did not end");
  if (!running) {
    const bool empty = s.lease.blocks.empty() && s.lease.reserved == Blocks(0) &&
                       s.lease.loads.empty() && s.computed == Tokens(0) && s.in_flight == 0;
    return empty ? absl::OkStatus() : Broken(s, "waits but holds KV");
  }
  if (s.computed >= s.known()) return Broken(s, "runs but has nothing to compute");
  const Blocks held(static_cast<int64_t>(s.lease.blocks.size()));
  if (held < geometry.BlocksFor(s.computed)) return Broken(s, "has fewer blocks than its KV fills");
  if (held + s.lease.reserved != geometry.BlocksFor(s.max_length())) {
    return Broken(s, "blocks and reservation are not its whole need");
  }
  if (s.load_failed && s.in_flight == 0) return Broken(s, "has a failed load but was not requeued");
  if (!s.joinable && s.lease.loads.empty()) return Broken(s, "waits for no load");
  return absl::OkStatus();
}

}  // namespace

absl::Status Scheduler::Impl::CheckFlights() const {
  absl::flat_hash_map<const Sequence*, int> newer;  // steps seen that compute it
  for (auto flight = flights_.rbegin(); flight != flights_.rend(); ++flight) {
    for (const InFlight& entry : flight->entries) {
      const Sequence& s = *entry.sequence;
      const bool newest = newer[&s]++ == 0;
      const bool ended = s.state == Sequence::State::kEnded;
      if ((ended && newest) != (entry.ended != nullptr) || s.state == Sequence::State::kWaiting) {
        return Broken(s, "is in a step but not kept for it");
      }
      if (newest && !flight->Computes(s)) return Broken(s, "is not where it is in its step");
      if (Blocks(static_cast<int64_t>(s.lease.blocks.size())) <
          options_.geometry.BlocksFor(entry.end())) {
        return Broken(s, "has fewer blocks than a step under way fills");
      }
    }
  }
  int64_t entries = 0;
  for (const Flight& flight : flights_) entries += static_cast<int64_t>(flight.entries.size());
  for (const auto& [s, count] : newer) {
    if (s->in_flight != count) return Broken(*s, "miscounts the steps that compute it");
    entries -= count;
  }
  return entries == 0 ? absl::OkStatus() : absl::InternalError("steps under way are miscounted");
}

absl::Status Scheduler::Impl::CheckInvariants() const {
  std::vector<const KvLease*> leases;
  for (const Sequence* s : waiting_.sequences()) {
    if (s->state != Sequence::State::kWaiting) return Broken(*s, "is queued but does not wait");
    SLUICE_RETURN_IF_ERROR(CheckSequence(*s, options_.geometry));
  }
  for (const Sequence* s : running_) {
    if (s->state != Sequence::State::kRunning) return Broken(*s, "is listed but does not run");
    SLUICE_RETURN_IF_ERROR(CheckSequence(*s, options_.geometry));
    leases.push_back(&s->lease);
    for (const CopyId load : s->lease.loads) {
      if (s->in_flight == 0 && !kv_.InFlight(load))
        return Broken(*s, "waits for a load that ended");
    }
  }
  SLUICE_RETURN_IF_ERROR(CheckFlights());
  for (const Flight& flight : flights_) {
    for (const InFlight& entry : flight.entries) {
      if (entry.ended != nullptr) leases.push_back(&entry.sequence->lease);
    }
  }
  if (live_.size() != running_.size() + waiting_.size()) {
    return absl::InternalError(absl::StrCat(live_.size(), " requests are live, but ",
                                            running_.size(), " run and ", waiting_.size(),
                                            " wait"));
  }
  if (static_cast<int64_t>(running_.size()) > options_.max_running) {
    return absl::InternalError(
        absl::StrCat(running_.size(), " requests run, limit ", options_.max_running));
  }
  return kv_.CheckInvariants(leases);
}

}  // namespace sluice
