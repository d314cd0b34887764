// What a store that other servers write to holds of a prompt, beyond what this process knows.
#include <utility>

#include "scheduler/base/check.h"
#include "scheduler/impl.h"

namespace sluice {

PromptBlocks Scheduler::Impl::FindMissing(const RequestSpec& spec) {
  PromptBlocks result;
  if (!options_.prefix_caching || options_.disk_blocks == Blocks(0)) return result;
  const Tokens tokens(static_cast<int64_t>(spec.prompt.size()));
  if (tokens == Tokens(0) || tokens > options_.max_model_len) return result;
  const Blocks limit = options_.geometry.FullBlocks(tokens - Tokens(1));
  const std::vector<Hash128> hashes = HashesOf(spec.prompt, spec.cache_salt);
  for (size_t i = 0; i < limit.size(); ++i) {
    const Hash128 parent = i == 0 ? Hash128() : hashes[i - 1];
    result.blocks.push_back({hashes[i], parent, spec.cache_salt, i == 0});
  }
  kv_.Match({spec.prompt, hashes, spec.cache_salt}, limit, &match_);
  result.known = match_.nodes.size();
  return result;
}

std::vector<StoredBlock> Scheduler::Impl::AdoptFound(const RequestSpec& spec,
                                                     const PromptBlocks& prompt, size_t found) {
  SLUICE_CHECK(prompt.known + found <= prompt.blocks.size());
  std::vector<Hash128> hashes;
  for (size_t i = 0; i < prompt.known + found; ++i) hashes.push_back(prompt.blocks[i].hash);
  const TokenPath path{spec.prompt, hashes, spec.cache_salt};
  const size_t width = options_.geometry.tokens_per_block.size();
  std::vector<StoredBlock> result;
  for (const KvCache::FoundBlock& at : kv_.AdoptFound(path, prompt.known)) {
    result.push_back(
        {at.slot, prompt.blocks[at.block], path.tokens.subspan(at.block * width, width)});
  }
  return result;
}

}  // namespace sluice
