// What attending to KV in the host pool where it lies costs on top of the same attention to KV on
// the device: bringing it into the layout, and out of the codec, that the kernels want.
#pragma once

#include <vector>

#include "absl/status/statusor.h"
#include "backend/cpu/probe_compute.h"
#include "backend/probe_timer.h"
#include "scheduler/cost/measure.h"
#include "service/calibration/measured.h"

namespace sluice {

struct InPlaceRead {
  // Plain KV per second of added time: for the first kAttentionTileRows query rows, from memory,
  // and for every further ones, from a cache.
  ByteRate first;
  ByteRate again;
  std::vector<Measured> figures;  // what they are made from
};

// Times decodes and chunks of prompts over the same context on the device and on the host. Each
// takes what it takes at best, as their difference is small beside what others' work on the machine
// adds.
// Returns CANCELLED if control.cancelled said so.
absl::StatusOr<InPlaceRead> MeasureInPlaceRead(AttentionProbe& probe, const ProbeControl& control);

}  // namespace sluice
