#include "tests/property/link_world.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <tuple>

#include "absl/strings/str_cat.h"

namespace sluice::testing {
namespace {

constexpr absl::Duration kRounding = absl::Microseconds(1);

double Since0(absl::Time t) { return absl::ToDoubleSeconds(t - absl::UnixEpoch()); }

}  // namespace

LinkWorldOptions RandomLinkWorldOptions(uint64_t seed) {
  std::mt19937_64 random(seed * 7919 + 1);
  const auto below = [&](uint64_t n) { return static_cast<int>(random() % n); };
  LinkWorldOptions options;
  options.undisturbed = below(3) == 0;
  options.copies = 10 + below(60);
  // Around 10 ms per copy: from an idle link to one with all copies queued at once.
  options.gap = absl::Microseconds(100 + below(20'000));
  LinkSchedulerOptions& link = options.link;
  link.layers = 1 + below(6);
  link.layer_bytes = Bytes(50'000 + below(300'000));
  link.promote_after = absl::Milliseconds(1 + below(200));
  if (below(4) == 0) link.promote_after = absl::InfiniteDuration();
  link.slice_time = absl::Microseconds(500 + below(2000));
  link.coalesce = below(2) == 0;
  for (LineOptions& line : link.lines) {
    if (below(8) == 0) continue;
    line.rate = ByteRate(1e8 * (1 + below(20)));
    if (below(3) == 0) line.per_run = Seconds(1e-5 * below(100));
    if (below(3) == 0) line.latency = Seconds(1e-5 * below(100));
  }
  if (options.undisturbed) {
    link.write_back_share = 1;
    return options;
  }
  link.duplex_share = 0.5 + 0.1 * below(6);
  link.write_back_share = 0.1 * (1 + below(10));
  options.revoke_share = 0.1 * below(5);
  if (below(2) == 0) options.fails_every = 5 + below(20);
  return options;
}

LinkWorld::LinkWorld(const LinkWorldOptions& options, uint64_t seed)
    : options_(options), random_(seed), link_(options.link) {}

std::string LinkWorld::Run() {
  while (pushed_ < options_.copies && error_.empty()) {
    const double gap = -std::log(1 - std::uniform_real_distribution<>()(random_));
    AdvanceTo(now_ + options_.gap * gap);
    if (std::uniform_real_distribution<>()(random_) < options_.revoke_share) {
      RevokeOne();
    } else {
      Push();
    }
  }
  AdvanceTo(absl::InfiniteFuture());
  if (!live_.empty()) Complain(absl::StrCat(live_.size(), " copies never ended"));
  if (link_.size() != 0) Complain(absl::StrCat("the link still has ", link_.size(), " copies"));
  return error_;
}

void LinkWorld::Push() {
  Live live;
  Copy& copy = live.copy;
  copy.id = CopyId(pushed_++);
  copy.direction = static_cast<LinkDirection>(random_() % kLinkDirectionCount);
  copy.copy_class = static_cast<CopyClass>(random_() % kCopyClassCount);
  copy.rank = static_cast<int64_t>(random_() % 5) - 2;
  const int blocks = 1 + static_cast<int>(random_() % 40);
  int32_t next = 0;
  for (int b = 0; b < blocks; ++b) {
    next += random_() % 3 == 0 ? 2 : 1;
    copy.blocks.push_back({BlockId(next), BlockId(b)});
  }
  live.pushed = now_;
  live.overdue = now_ + static_cast<int64_t>(copy.copy_class) * options_.link.promote_after;
  if (copy.copy_class == CopyClass::kControl) {
    live.overdue = absl::InfiniteFuture();
    for (auto& [id, other] : live_) {
      if (!other.bounded || other.copy.direction != copy.direction) continue;
      other.bound += absl::Seconds(Work(copy) / options_.link.duplex_share);
    }
  }
  absl::Time& busy_until = busy_until_[static_cast<size_t>(copy.direction)];
  busy_until = std::max(busy_until, now_) + absl::Seconds(Work(copy));
  link_.Push(copy, now_);
  live_.emplace(copy.id.value(), std::move(live));
}

void LinkWorld::RevokeOne() {
  if (pushed_ == 0) return;
  const auto id =
      static_cast<int64_t>(random_() % static_cast<uint64_t>(pushed_));  // or an old one
  link_.Revoke(CopyId(id), now_);
  if (const auto it = live_.find(id); it != live_.end()) it->second.revoked = true;
}

void LinkWorld::AdvanceTo(absl::Time until) {
  while (error_.empty()) {
    Turn();
    SetBounds();
    const absl::Time next = std::min(link_.next_layer_event(), NextOverdue());
    if (next == absl::InfiniteFuture() && link_.size() != 0) {
      Complain("nothing to expect, but copies are queued");
    }
    if (next > until || next == absl::InfiniteFuture()) break;
    now_ = std::max(now_, next);
  }
  if (until != absl::InfiniteFuture()) now_ = until;
}

void LinkWorld::Turn() {
  for (const LinkArrival& arrival : link_.Arrive(now_)) OnArrival(arrival);
  while (const std::optional<LinkSlice> slice = link_.Start(now_)) {
    OnSlice(*slice);
    const bool fails = slice->first && Fails(slice->id.value());
    link_.Moved(*slice, fails ? absl::DataLossError("injected") : absl::OkStatus(), now_);
  }
}

// From when a copy is overdue, its end is bounded by what is queued then.
void LinkWorld::SetBounds() {
  for (auto& [id, live] : live_) {
    if (live.bounded || live.overdue > now_ || !Paced(live.copy.direction)) continue;
    live.bounded = true;
    live.bound =
        live.overdue + absl::Seconds(link_.Backlog(live.copy.direction, live.overdue).value() /
                                     options_.link.duplex_share);
  }
}

absl::Time LinkWorld::NextOverdue() const {
  absl::Time next = absl::InfiniteFuture();
  for (const auto& [id, live] : live_) {
    if (live.overdue > now_) next = std::min(next, live.overdue);
  }
  return next;
}

bool LinkWorld::GoesBefore(const Live& a, const Live& b) const {
  const auto key = [&](const Live& live) {
    const auto copy_class = static_cast<int64_t>(live.copy.copy_class);
    const bool overdue = live.overdue <= now_;
    // Group: control 0, overdue 1, then the classes.
    const int64_t group = copy_class == 0 ? 0 : (overdue ? 1 : 1 + copy_class);
    return std::tuple(group, overdue ? live.overdue : absl::InfinitePast(),
                      overdue ? 0 : live.copy.rank, live.copy.id.value());
  };
  return key(a) < key(b);
}

int64_t LinkWorld::Expected(LinkDirection direction) const {
  const Live* first = nullptr;
  for (const auto& [id, live] : live_) {
    if (live.copy.direction != direction) continue;
    if (first == nullptr || GoesBefore(live, *first)) first = &live;
  }
  return first == nullptr ? -1 : first->copy.id.value();
}

void LinkWorld::OnSlice(const LinkSlice& slice) {
  ++slices_;
  absl::StrAppend(&trace_, "s", slice.id.value(), "@", absl::FormatTime(now_), "\n");
  const int64_t id = slice.id.value();
  const int64_t expected = Expected(slice.direction);
  if (id != expected) Complain(absl::StrCat("slice of copy ", id, ", expected ", expected));
  const auto it = live_.find(id);
  if (it == live_.end()) return Complain(absl::StrCat("slice of copy ", id, ", which has ended"));
  Live& live = it->second;
  if (slice.first == live.started) Complain(absl::StrCat("copy ", id, " begins twice or never"));
  if (live.revoked) Complain(absl::StrCat("copy ", id, " was revoked and goes on"));
  if (live.overdue <= now_) ++served_overdue_;
  live.started = true;
  if (!slice.first || live.copy.copy_class != CopyClass::kControl || !Paced(slice.direction)) {
    return;
  }
  for (const auto& [other_id, other] : live_) {
    const bool control = other.copy.copy_class == CopyClass::kControl;
    if (control && other_id != id && other.copy.direction == slice.direction) return;
  }
  for (const auto& [ended_id, end] : ends_) {  // one that ended meanwhile counts too
    if (end.at > Since0(live.pushed)) return;
  }
  const double waited = absl::ToDoubleSeconds(now_ - live.pushed);
  if (waited > LongestSlice(slice.direction) / options_.link.duplex_share + 1e-6) {
    Complain(absl::StrCat("control copy ", id, " waited ", waited, " s"));
  }
}

void LinkWorld::OnArrival(const LinkArrival& arrival) {
  const int64_t id = arrival.id.value();
  const auto it = live_.find(id);
  if (it == live_.end()) return Complain(absl::StrCat("copy ", id, " arrives after its end"));
  Live& live = it->second;
  if (arrival.layers < live.layers || arrival.started != live.started) {
    Complain(absl::StrCat("copy ", id, ": ", arrival.layers, " layers after ", live.layers));
  }
  for (; live.layers < arrival.layers; ++live.layers) {
    layer_times_[{id, live.layers}] = Since0(now_);
  }
  if (!arrival.result.has_value()) return;
  OnEnd(live, arrival);
  live_.erase(it);
}

void LinkWorld::OnEnd(const Live& live, const LinkArrival& arrival) {
  const int64_t id = live.copy.id.value();
  const absl::StatusCode code = arrival.result->status.code();
  absl::StrAppend(&trace_, "e", id, "@", absl::FormatTime(now_), " ", static_cast<int>(code), "\n");
  if (!ends_.try_emplace(id, End{Since0(now_), code, live.layers}).second) {
    Complain(absl::StrCat("copy ", id, " ends twice"));
  }
  const bool complete = live.layers == options_.link.layers;
  const bool right = code == absl::StatusCode::kOk          ? complete
                     : code == absl::StatusCode::kCancelled ? live.revoked && !complete
                     : code == absl::StatusCode::kDataLoss  ? Fails(id)
                                                            : false;
  if (!right) Complain(absl::StrCat("copy ", id, " ends with ", arrival.result->status.ToString()));
  if (live.bounded && now_ > live.bound + kRounding) {
    Complain(absl::StrCat("copy ", id, " is ", absl::FormatDuration(now_ - live.bound),
                          " past its bound"));
  }
  const auto of_line = [&](const auto& entry) {
    return entry.second.copy.direction == live.copy.direction;
  };
  const bool last = std::count_if(live_.begin(), live_.end(), of_line) == 1;
  const absl::Time want = busy_until_[static_cast<size_t>(live.copy.direction)];
  if (options_.undisturbed && last && absl::AbsDuration(now_ - want) > kRounding) {
    Complain(absl::StrCat("a line is busy until ", Since0(now_), " s, expected ", Since0(want)));
  }
}

double LinkWorld::Work(const Copy& copy) const {
  const LineOptions& line = options_.link.lines[static_cast<size_t>(copy.direction)];
  if (!Paced(copy.direction)) return 0;
  int runs = 0;
  for (size_t i = 0; i < copy.blocks.size(); ++i) {
    if (i == 0 || copy.blocks[i].source.value() != copy.blocks[i - 1].source.value() + 1) ++runs;
  }
  const auto blocks = static_cast<double>(copy.blocks.size());
  const double bytes = blocks * static_cast<double>(options_.link.layer_bytes.value());
  return line.latency.value() +
         options_.link.layers * std::max(bytes / line.rate.value(), runs * line.per_run.value());
}

double LinkWorld::LongestSlice(LinkDirection direction) const {
  const LineOptions& line = options_.link.lines[static_cast<size_t>(direction)];
  const double unit =
      std::max((options_.link.layer_bytes / line.rate).value(), line.per_run.value());
  return line.latency.value() + std::max(absl::ToDoubleSeconds(options_.link.slice_time), unit);
}

bool LinkWorld::Paced(LinkDirection direction) const {
  return options_.link.lines[static_cast<size_t>(direction)].rate > ByteRate(0);
}

bool LinkWorld::Fails(int64_t id) const {
  return options_.fails_every > 0 && id % options_.fails_every == 0;
}

void LinkWorld::Complain(const std::string& text) {
  if (error_.empty()) error_ = absl::StrCat("at ", Since0(now_), " s: ", text);
}

}  // namespace sluice::testing
