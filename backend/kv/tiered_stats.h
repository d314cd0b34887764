// TieredStats: what a store over two places has done since the start. A plain value, for metrics.
#pragma once

#include <cstdint>

#include "scheduler/base/units.h"

namespace sluice {

struct TieredStats {
  // Blocks read and found to be right, by where their bytes came from.
  int64_t disk_blocks = 0;
  int64_t remote_blocks = 0;
  Bytes disk_bytes;
  Bytes remote_bytes;
  // Of blocks the disk was believed to hold: it did not give them, or what it gave was wrong. Of
  // these, read from the remote store instead.
  int64_t disk_failed = 0;
  int64_t disk_corrupt = 0;
  int64_t rescued = 0;
  // Values of the remote store that were wrong; removed there.
  int64_t remote_corrupt = 0;
  // Asked for and had from neither.
  int64_t lost = 0;

  // Blocks on their way to the remote store, beside the disk: written (or there already), not
  // taken since too many wait, not taken since nobody answers there, given up.
  int64_t copied = 0;
  int64_t copies_full = 0;
  int64_t copies_away = 0;
  int64_t copies_failed = 0;
  // Blocks read from the remote store, on their way to the disk.
  int64_t filled = 0;
  int64_t fills_full = 0;
  int64_t fills_failed = 0;
  // Waiting now, of both.
  Bytes waiting;
  // Blocks the disk did not take and the remote store was given.
  int64_t remote_only = 0;
};

}  // namespace sluice
