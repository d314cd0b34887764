// BlockFinder: a store of KV blocks that other servers write to as well, as the engine sees it: it
// can be asked what it has of a prompt that is about to be queued.
#pragma once

#include <cstddef>
#include <functional>
#include <span>
#include <vector>

#include "scheduler/step.h"

namespace sluice {

class BlockFinder {
 public:
  virtual ~BlockFinder() = default;

  // Asks how many of `blocks`, counted from the front, are there. After true, `answer` is called
  // once, soon (the wait is bounded, and part of a request's time to first token), on another
  // thread; never once this object is gone. False: there is no use in asking now.
  virtual bool Find(std::vector<BlockIdentity> blocks, std::function<void(size_t)> answer) = 0;

  // From now on these slots hold these blocks. Engine thread, before any copy names the slots.
  virtual void Bind(std::span<const StoredBlock> blocks) = 0;
};

}  // namespace sluice
