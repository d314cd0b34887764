// Blocks that other servers have written to a shared store.
#include "tests/property/kv_world.h"

namespace sluice::testing {

void KvWorld::Found() {
  const Prompt prompt = RandomPrompt();
  CheckMatch(prompt, prompt.blocks());
  size_t known = match_.nodes.size();
  if (Chance(0.2)) known = static_cast<size_t>(Pick(0, static_cast<int64_t>(prompt.blocks())));
  const bool stale = known > match_.nodes.size();  // what was known has gone meanwhile
  const std::vector<KvCache::FoundBlock> placed = cache_.AdoptFound(prompt.path(), known);
  if (stale && !placed.empty()) Fail("blocks are adopted without what comes before them");
  for (const KvCache::FoundBlock& at : placed) {
    if (at.block < known) Fail("a block that was known is adopted");
    disk_[at.slot.index()] = prompt.content[at.block];
    Note(static_cast<int64_t>(at.block) * 4096 + at.slot.value());
    ++coverage_.found;
  }
  AfterCall();
}

}  // namespace sluice::testing
