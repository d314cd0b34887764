// VirtualLink: a LinkScheduler served in virtual time by a caller for whom moving bytes takes no
// time, and what happened on it.
#pragma once

#include <algorithm>
#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "scheduler/link/link_scheduler.h"

namespace sluice::testing {

inline constexpr auto kLoad = LinkDirection::kHostToDevice;
inline constexpr auto kStore = LinkDirection::kDeviceToHost;
inline constexpr auto kFromDisk = LinkDirection::kDiskToHost;
inline constexpr auto kToDisk = LinkDirection::kHostToDisk;

inline absl::Time At(double seconds) { return absl::UnixEpoch() + absl::Seconds(seconds); }
inline double Since0(absl::Time t) { return absl::ToDoubleSeconds(t - absl::UnixEpoch()); }

// Its blocks are neighbours.
inline Copy MakeCopy(int64_t id, LinkDirection direction, CopyClass copy_class, int blocks,
                     int64_t rank = 0) {
  Copy copy;
  copy.id = CopyId(id);
  copy.direction = direction;
  copy.copy_class = copy_class;
  copy.rank = rank;
  for (int32_t b = 0; b < blocks; ++b) copy.blocks.push_back({BlockId(b), BlockId(b)});
  return copy;
}

class VirtualLink {
 public:
  struct Served {
    absl::Time at;
    LinkSlice slice;  // its blocks are gone
    int64_t blocks;
  };
  struct Ended {
    absl::Time at;
    int times = 0;
    absl::Status status;
    LinkArrival arrival;
  };

  explicit VirtualLink(const LinkSchedulerOptions& options) : link(options) {}

  void Push(Copy copy) { link.Push(std::move(copy), now); }
  void Revoke(int64_t id) { link.Revoke(CopyId(id), now); }

  // Serves the link up to `until`, everything due then included, and stays there.
  void RunTo(absl::Time until) {
    for (;;) {
      Turn();
      const absl::Time next = stop_at_layers ? link.next_layer_event() : link.next_event();
      if (next > until) break;
      now = std::max(now, next);
    }
    now = until;
  }
  // Serves it until nothing is left to expect. Returns when the last slice arrived.
  absl::Time Drain() {
    for (;;) {
      Turn();
      const absl::Time next = stop_at_layers ? link.next_layer_event() : link.next_event();
      if (next == absl::InfiniteFuture()) return now;
      now = std::max(now, next);
    }
  }

  bool HasEnded(int64_t id) const { return ended.count(id) > 0; }
  // Seconds since the epoch.
  double EndOf(int64_t id) const { return Since0(ended.at(id).at); }
  double LayerTime(int64_t id, int layer) const { return Since0(layers.at({id, layer})); }

  LinkScheduler link;
  absl::Time now = At(0);
  bool stop_at_layers = false;
  std::vector<Served> served;                            // in the order they began
  std::map<int64_t, Ended> ended;                        // by id
  std::map<std::pair<int64_t, int>, absl::Time> layers;  // (id, layer) -> told complete

 private:
  void Turn() {
    for (LinkArrival& arrival : link.Arrive(now)) {
      const int64_t id = arrival.id.value();
      for (int layer = arrival.layers - 1; layer >= 0; --layer) {
        if (!layers.try_emplace({id, layer}, now).second) break;
      }
      if (!arrival.result.has_value()) continue;
      Ended& end = ended[id];
      ++end.times;
      end.at = now;
      end.status = arrival.result->status;
      end.arrival = std::move(arrival);
    }
    while (std::optional<LinkSlice> slice = link.Start(now)) {
      served.push_back({now, *slice, static_cast<int64_t>(slice->blocks.size())});
      link.Moved(*slice, absl::OkStatus(), now);
    }
  }
};

}  // namespace sluice::testing
