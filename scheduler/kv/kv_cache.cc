#include "scheduler/kv/kv_cache.h"

#include "scheduler/base/check.h"

namespace sluice {

KvCache::KvCache(const KvCacheOptions& options)
    : options_(options),
      device_(options.device_blocks),
      host_(options.host_blocks),
      disk_(options.disk_blocks),
      index_(options.tokens_per_block,
             options.device_blocks + options.host_blocks + options.disk_blocks),
      sightings_(options.device_blocks + options.host_blocks + options.disk_blocks),
      events_(options.tokens_per_block),
      dropped_(options.device_blocks.size(), 0),
      wanted_(options.device_blocks.size(), 0) {
  SLUICE_CHECK(options.disk_blocks == Blocks(0) || options.host_blocks > Blocks(0));
}

}  // namespace sluice
