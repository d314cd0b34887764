#include "service/workload/prefix_cache_model.h"

#include <algorithm>
#include <list>

#include "gtest/gtest.h"
#include "service/workload/random.h"

namespace sluice {
namespace {

TraceRequest Request(const std::vector<std::pair<uint64_t, int64_t>>& parts, int64_t block) {
  TraceRequest request;
  for (const auto& [owner, count] : parts) request.prompt.Append(owner, Tokens(count));
  request.block_tokens = Tokens(block);
  request.output = Tokens(5);
  return request;
}

std::vector<int64_t> Cached(const std::vector<TraceRequest>& requests,
                            const PrefixCacheModelOptions& options = {}) {
  std::vector<int64_t> cached;
  for (const CacheSample& s : SamplePrefixCache(requests, options)) {
    cached.push_back(s.cached.value());
  }
  return cached;
}

using Counts = std::vector<int64_t>;

TEST(PrefixCacheModelTest, CountsWholeBlocksOfTheLongestPrefixSeen) {
  const std::vector<TraceRequest> requests = {
      Request({{1, 100}}, 16), Request({{1, 100}, {2, 50}}, 16), Request({{1, 90}, {3, 9}}, 16),
      Request({{2, 50}}, 16), Request({{1, 100}, {2, 60}}, 16)};
  EXPECT_EQ(Cached(requests), (Counts{0, 96, 80, 0, 144}));
  EXPECT_EQ(Cached(requests, {.block_tokens = Tokens(1)}), (Counts{0, 100, 90, 0, 150}));
}

TEST(PrefixCacheModelTest, AtLeastOneTokenIsComputed) {
  const std::vector<CacheSample> samples =
      SamplePrefixCache({Request({{1, 64}}, 16), Request({{1, 64}}, 16)}, {});
  EXPECT_EQ(samples[1].cached, Tokens(63));
  EXPECT_EQ(samples[1].fresh, Tokens(1));
  EXPECT_EQ(samples[1].kappa(), 63);
  EXPECT_EQ(samples[1].output, Tokens(5));
}

TEST(PrefixCacheModelTest, NamedPartialBlocksAreShared) {
  TraceRequest request = Request({{1, 10}}, 4);
  EXPECT_EQ(Cached({request, request}), (Counts{0, 8}));
  request.names_partial_block = true;
  EXPECT_EQ(Cached({request, request}), (Counts{0, 9}));
  // Its own blocks, whatever is asked for: the trace knows no finer ones.
  EXPECT_EQ(Cached({request, request}, {.block_tokens = Tokens(1)}), (Counts{0, 9}));
}

TEST(PrefixCacheModelTest, PlainRequestsShareNothing) {
  EXPECT_EQ(Cached({Request({{1, 10}}, 0), Request({{1, 10}}, 0)}), (Counts{0, 0}));
}

TEST(PrefixCacheModelTest, FullCachesLoseTailsBeforeHeads) {
  const std::vector<TraceRequest> requests = {Request({{1, 4}}, 1), Request({{2, 3}}, 1),
                                              Request({{1, 4}}, 1), Request({{2, 3}}, 1)};
  // Room for 5: the second leaves 2 tokens of the first, the third then 1 of the second.
  EXPECT_EQ(Cached(requests, {.capacity = Tokens(5)}), (Counts{0, 0, 2, 1}));
}

// The same in the most obvious way: blocks as the tokens before and in them, in a list.
std::vector<int64_t> SlowCached(const std::vector<TraceRequest>& requests, int64_t block,
                                std::optional<int64_t> capacity) {
  std::list<std::vector<TokenId>> cache;  // least recently used first
  std::vector<int64_t> result;
  for (const TraceRequest& request : requests) {
    const std::vector<TokenId> tokens = MakePrompt(request.prompt, 1 << 30U);
    const int64_t blocks = request.input().value() / block;
    const auto prefix = [&](int64_t n) {
      return std::vector<TokenId>(tokens.begin(), tokens.begin() + n * block);
    };
    int64_t found = 0;
    while (found < blocks &&
           std::find(cache.begin(), cache.end(), prefix(found + 1)) != cache.end()) {
      ++found;
    }
    result.push_back(std::min(found * block, request.input().value() - 1));
    const int64_t room = capacity.has_value() ? std::max<int64_t>(1, *capacity / block) : 1 << 20U;
    for (int64_t i = std::min(blocks, room); i > 0; --i) {
      cache.remove(prefix(i));
      cache.push_back(prefix(i));
    }
    while (static_cast<int64_t>(cache.size()) > room) cache.pop_front();
  }
  return result;
}

TEST(PrefixCacheModelTest, AgreesWithASlowModelOfTokens) {
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    SCOPED_TRACE(::testing::Message() << "seed " << seed);
    Random random(seed);
    const int64_t block = static_cast<int64_t>(random.Below(4)) + 1;
    std::vector<TraceRequest> requests;
    for (int i = 0; i < 40; ++i) {
      requests.push_back(Request({{random.Below(2), static_cast<int64_t>(random.Below(9)) + 1},
                                  {random.Below(3), static_cast<int64_t>(random.Below(6))},
                                  {random.Below(3), static_cast<int64_t>(random.Below(6))}},
                                 block));
    }
    EXPECT_EQ(Cached(requests), SlowCached(requests, block, std::nullopt));
    const int64_t capacity = static_cast<int64_t>(random.Below(40)) + 1;
    EXPECT_EQ(Cached(requests, {.capacity = Tokens(capacity)}),
              SlowCached(requests, block, capacity));
  }
}

}  // namespace
}  // namespace sluice
