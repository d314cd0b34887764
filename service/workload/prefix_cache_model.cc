#include "service/workload/prefix_cache_model.h"

#include <algorithm>
#include <list>
#include <tuple>

#include "absl/container/flat_hash_map.h"
#include "scheduler/base/check.h"

namespace sluice {
namespace {

// What of a prompt the cache deals in: whole blocks.
struct Blocked {
  Tokens block;
  Tokens reach;  // a multiple of `block`; beyond the prompt's end if its partial block has a name
};

// Prompts as a tree of runs. A run is a stretch of one text, named by the run before it, where it
// begins, and the text; so equal runs mean equal prefixes.
class RunTree {
 public:
  using RunIndex = uint64_t;

  struct Part {
    RunIndex run = 0;
    Tokens end;
  };

  // The runs of a prompt up to `reach`, made where they are missing. `*known` gets how much of it
  // earlier calls have named.
  std::vector<Part> Insert(const PromptShape& prompt, Tokens reach, Tokens* known) {
    std::vector<Part> parts;
    *known = Tokens(0);
    RunIndex before = 0;
    Tokens begin(0);
    bool seen = true;
    const auto segments = prompt.segments();
    for (size_t i = 0; i < segments.size() && begin < reach; ++i) {
      // The partial block of a prompt whose `reach` lies beyond its end is its last text's.
      const bool last = i + 1 == segments.size();
      const Tokens end = last ? reach : std::min(segments[i].end, reach);
      const auto key = std::make_tuple(before, begin.value(), segments[i].owner);
      const RunIndex run = runs_.try_emplace(key, runs_.size() + 1).first->second;
      if (run > reach_.size()) reach_.push_back(begin);
      Tokens& reached = reach_[run - 1];
      if (seen) *known = std::min(end, reached);
      seen = seen && reached >= end;
      reached = std::max(reached, end);
      parts.push_back({run, end});
      before = run;
      begin = end;
    }
    return parts;
  }

 private:
  absl::flat_hash_map<std::tuple<RunIndex, int64_t, uint64_t>, RunIndex> runs_;  // from 1
  std::vector<Tokens> reach_;  // by run - 1: how far any prompt went along it
};

// Least recently used blocks. A block is named by the run of its last token and its index.
class LruBlocks {
 public:
  using Key = std::pair<RunTree::RunIndex, int64_t>;

  bool Has(const Key& key) const { return where_.contains(key); }

  void Touch(const Key& key) {
    const auto [it, added] = where_.try_emplace(key, order_.end());
    if (added) {
      order_.push_back(key);
      it->second = std::prev(order_.end());
    } else {
      order_.splice(order_.end(), order_, it->second);
    }
  }

  void ShrinkTo(int64_t blocks) {
    while (static_cast<int64_t>(where_.size()) > blocks) {
      where_.erase(order_.front());
      order_.pop_front();
    }
  }

 private:
  std::list<Key> order_;  // least recently used first
  absl::flat_hash_map<Key, std::list<Key>::iterator> where_;
};

std::vector<LruBlocks::Key> BlockKeys(const std::vector<RunTree::Part>& parts,
                                      const Blocked& blocked) {
  std::vector<LruBlocks::Key> keys;
  size_t part = 0;
  const int64_t count = blocked.reach.value() / blocked.block.value();
  for (int64_t i = 0; i < count; ++i) {
    while (parts[part].end.value() < (i + 1) * blocked.block.value()) ++part;
    keys.emplace_back(parts[part].run, i);
  }
  return keys;
}

// Blocks at the front of `keys` that the cache holds; then inserts them.
int64_t LookUpAndInsert(const std::vector<LruBlocks::Key>& keys, int64_t capacity,
                        LruBlocks* cache) {
  int64_t found = 0;
  for (const LruBlocks::Key& key : keys) {
    if (!cache->Has(key)) break;
    ++found;
  }
  // From the back, so that a prompt's tail goes before its head.
  const int64_t fit = std::min(capacity, static_cast<int64_t>(keys.size()));
  for (int64_t i = fit; i-- > 0;) cache->Touch(keys[static_cast<size_t>(i)]);
  cache->ShrinkTo(capacity);
  return found;
}

Blocked BlocksOf(const TraceRequest& request, const PrefixCacheModelOptions& options) {
  // The block form knows no finer or coarser blocks than its own.
  const bool own = request.names_partial_block || !options.block_tokens.has_value();
  const Tokens block = own ? request.block_tokens : *options.block_tokens;
  const int64_t input = request.input().value();
  const int64_t count = request.names_partial_block ? (input + block.value() - 1) / block.value()
                                                    : input / block.value();
  return {block, Tokens(count * block.value())};
}

}  // namespace

std::vector<CacheSample> SamplePrefixCache(const std::vector<TraceRequest>& requests,
                                           const PrefixCacheModelOptions& options) {
  SLUICE_CHECK(options.capacity.value_or(Tokens(1)) >= Tokens(1));
  SLUICE_CHECK(options.block_tokens.value_or(Tokens(1)) >= Tokens(1));
  RunTree tree;
  LruBlocks lru;
  std::vector<CacheSample> samples;
  samples.reserve(requests.size());
  for (const TraceRequest& request : requests) {
    Tokens cached(0);
    if (request.block_tokens > Tokens(0)) {
      const Blocked blocked = BlocksOf(request, options);
      const std::vector<RunTree::Part> parts = tree.Insert(request.prompt, blocked.reach, &cached);
      int64_t blocks = cached.value() / blocked.block.value();
      if (options.capacity.has_value()) {
        const int64_t room =
            std::max<int64_t>(1, options.capacity->value() / blocked.block.value());
        blocks = LookUpAndInsert(BlockKeys(parts, blocked), room, &lru);
      }
      cached = std::min(Tokens(blocks * blocked.block.value()), request.input() - Tokens(1));
    }
    samples.push_back({cached, request.input() - cached, request.output});
  }
  return samples;
}

}  // namespace sluice
