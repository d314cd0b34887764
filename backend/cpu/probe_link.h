// LinkProbe: copies between the device pool and the host pool as the server makes them: through a
// Link, from one layout to the other. For `sluice calibrate`.
//
// Times are from queueing the copies to the last byte in place.
//
// Thread-compatible.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>

#include "absl/status/statusor.h"
#include "backend/activity.h"
#include "backend/cpu/kv_layout.h"
#include "backend/cpu/link.h"
#include "backend/probe_timer.h"
#include "scheduler/base/units.h"
#include "scheduler/step.h"

namespace sluice {

class LinkProbe {
 public:
  // Pools of `blocks` blocks each, all of them written once.
  static absl::StatusOr<std::unique_ptr<LinkProbe>> Create(const KvLayout& layout, Blocks blocks,
                                                           const ProbeControl& control,
                                                           const KvCodecOptions& codec = {});

  // One copy of `count` blocks. REQUIRES: kHostToDevice or kDeviceToHost; count in [1, blocks].
  absl::StatusOr<RunTimes> Time(LinkDirection direction, Blocks count);

  // A load and a store of `count` blocks each, at the same time, until both are done.
  // REQUIRES: 2 count <= blocks.
  absl::StatusOr<RunTimes> TimeDuplex(Blocks count);

  // What moves: encoded, if there is a codec.
  Bytes BytesOf(Blocks count) const {
    return Bytes(count.value() * pools_.host_block_bytes().value());
  }
  // Runs of contiguous bytes in a copy: one per layer of a block.
  int64_t RunsOf(Blocks count) const { return count.value() * layout_.layers; }

 private:
  LinkProbe(const KvLayout& layout, const ProbeControl& control)
      : layout_(layout), control_(control), meter_(control.clock()) {}

  Copy MakeCopy(LinkDirection direction, Blocks first, Blocks count);
  // Starts the copies and returns when all have ended.
  absl::Status Finish(std::span<const Copy> copies);

  const KvLayout layout_;
  const ProbeControl control_;
  ActivityMeter meter_;
  KvPools pools_;
  int64_t next_id_ = 0;

  std::mutex mu_;
  std::condition_variable done_;
  bool news_ = false;  // guarded by mu_

  std::unique_ptr<Link> link_;  // last: its thread uses the above
};

}  // namespace sluice
