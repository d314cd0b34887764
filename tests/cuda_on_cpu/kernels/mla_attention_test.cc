#include "backend/cuda/kernels/mla_attention.h"

#include <numeric>

#include "backend/cuda/kernels/attention_plan.h"
#include "tests/cuda_on_cpu/kernels/kernel_test.h"

namespace sluice::cuda {
namespace {

struct Case {
  HalfType half = HalfType::kBf16;
  int heads = 16;
  int block_tokens = 16;
  int multiprocessors = 1;
  int host_blocks = 0;  // leading blocks of each sequence that lie in a second pool
  std::vector<std::pair<int, int>> sequences;  // tokens before the step, of the step
  bool split = true;                           // whether there is room for parts
};

struct Latents {
  std::vector<uint16_t> pools[2];           // [block][token][576]; NaN where nothing was written
  std::vector<int32_t> table;               // of all sequences
  std::vector<std::vector<uint16_t>> rows;  // [sequence][token][576]
  std::vector<AttentionSequence> sequences;
  int tokens = 0;
};

Latents MakeLatents(const Case& c, std::mt19937_64& rng) {
  Latents latents;
  int blocks = 2;
  for (const auto& [before, count] : c.sequences) blocks += (before + count) / c.block_tokens + 1;
  for (auto& pool : latents.pools) {
    pool.assign(static_cast<size_t>(blocks * c.block_tokens * kMlaRow), 0x7fff);
  }
  std::vector<int32_t> free(static_cast<size_t>(blocks));
  std::iota(free.begin(), free.end(), 0);
  std::shuffle(free.begin(), free.end(), rng);
  for (const auto& [before, count] : c.sequences) {
    const int total = before + count;
    const auto first = static_cast<int32_t>(latents.table.size());
    const int host = std::min(c.host_blocks, before / c.block_tokens) * c.block_tokens;
    latents.sequences.push_back({latents.tokens, count, before, first});
    latents.tokens += count;
    latents.rows.push_back(RandomHalves(c.half, static_cast<size_t>(total * kMlaRow), rng, 0.7));
    int32_t block = 0;
    for (int t = 0; t < total; ++t) {
      if (t % c.block_tokens == 0) {
        block = free.back();
        free.pop_back();
        latents.table.push_back(t < host ? InSecondPool(block) : block);
      }
      std::copy_n(latents.rows.back().begin() + t * kMlaRow, kMlaRow,
                  latents.pools[t < host ? 1 : 0].begin() +
                      (block * c.block_tokens + t % c.block_tokens) * kMlaRow);
    }
  }
  return latents;
}

std::vector<double> Reference(const Case& c, const std::vector<uint16_t>& rows, int position,
                              std::span<const double> q, double scale) {
  std::vector<double> weights, out(kMlaLatent, 0.0);
  double top = -std::numeric_limits<double>::infinity();
  const auto at = [&](int token, int d) {
    return FromHalf(c.half, rows[static_cast<size_t>(token * kMlaRow + d)]);
  };
  for (int t = 0; t <= position; ++t) {
    double dot = 0;
    for (int d = 0; d < kMlaRow; ++d) dot += q[static_cast<size_t>(d)] * at(t, d);
    weights.push_back(dot * scale);
    top = std::max(top, weights.back());
  }
  double sum = 0;
  for (double& w : weights) sum += w = std::exp(w - top);
  for (int t = 0; t <= position; ++t) {
    for (int d = 0; d < kMlaLatent; ++d) {
      out[static_cast<size_t>(d)] += weights[static_cast<size_t>(t)] / sum * at(t, d);
    }
  }
  return out;
}

// Returns the bits of out.
std::vector<uint16_t> Check(const Case& c, uint64_t seed, bool count_accesses = false) {
  SCOPED_TRACE(::testing::Message() << "heads " << c.heads << " seed " << seed);
  Use(ScheduleOf(seed));
  cuda_emu::CountAccesses(count_accesses);
  std::mt19937_64 rng(seed);
  const Latents latents = MakeLatents(c, rng);
  const auto rows = static_cast<size_t>(latents.tokens * c.heads);
  const std::vector<uint16_t> q = RandomHalves(c.half, rows * kMlaRow, rng);
  const double scale = 1.0 / std::sqrt(192.0);
  AttentionPlanOptions options;
  options.heads = c.heads;
  options.kv_heads = 1;
  options.multiprocessors = c.multiprocessors;
  if (!c.split) options.partial_rows = 0;
  const AttentionPlan plan = PlanAttention(latents.sequences, options);
  const auto partial_rows = static_cast<size_t>(plan.partial_rows * c.heads);
  const DeviceValues<uint16_t> queries(q), out(rows * kMlaLatent),
      pools[] = {DeviceValues<uint16_t>(latents.pools[0]),
                 DeviceValues<uint16_t>(latents.pools[1])};
  const DeviceValues<int32_t> table(latents.table);
  const DeviceValues<float> partial(partial_rows * kMlaLatent), lse(partial_rows);
  const DeviceValues<AttentionWork> decode(plan.decode), prefill(plan.prefill);
  const DeviceValues<AttentionMerge> merges(plan.merges);
  MlaAttentionParams params;
  params.q = queries.data();
  params.out = out.data();
  params.partial = partial.data();
  params.lse = lse.data();
  for (size_t v = 0; v < 2; ++v) {
    params.views[v].data = pools[v].data();
    params.views[v].blocks = table.data();
    params.views[v].token_stride = kMlaRow * 2;
    params.views[v].block_stride = int64_t{c.block_tokens} * kMlaRow * 2;
    params.views[v].block_tokens = MakeFastDivisor(static_cast<uint32_t>(c.block_tokens));
  }
  params.heads = c.heads;
  params.scale = static_cast<float>(scale);
  params.half = c.half;
  const TestStream stream;
  params.works = decode.data();
  params.work_count = static_cast<int32_t>(plan.decode.size());
  EXPECT_EQ(LaunchMlaAttention(params, stream), cudaSuccess);
  params.works = prefill.data();
  params.work_count = static_cast<int32_t>(plan.prefill.size());
  EXPECT_EQ(LaunchMlaAttention(params, stream), cudaSuccess);
  AttentionMergeParams merge;
  merge.partial = partial.data();
  merge.lse = lse.data();
  merge.merges = merges.data();
  merge.merge_count = static_cast<int32_t>(plan.merges.size());
  merge.heads = c.heads;
  merge.dim = kMlaLatent;
  merge.out = out.data();
  merge.half = c.half;
  EXPECT_EQ(LaunchAttentionMerge(merge, stream), cudaSuccess);
  EXPECT_CUDA_OK(stream.Synchronize());

  const std::vector<double> numbers = FromHalves(c.half, q);
  std::vector<double> want;
  size_t row = 0;
  for (size_t s = 0; s < c.sequences.size(); ++s) {
    const auto [before, count] = c.sequences[s];
    for (int i = 0; i < count * c.heads; ++i, ++row) {
      const std::vector<double> one =
          Reference(c, latents.rows[s], before + i / c.heads,
                    std::span(numbers).subspan(row * kMlaRow, kMlaRow), scale);
      want.insert(want.end(), one.begin(), one.end());
    }
  }
  const double epsilon = HalfEpsilon(c.half) / 2;
  ExpectClose(FromHalves(c.half, out.Get()), want, {6 * epsilon, 20 * epsilon, 2 * epsilon});
  return out.Get();
}

class MlaAttentionTest : public KernelTest {};

TEST_F(MlaAttentionTest, AgreesWithDoublePrecision) {
  uint64_t seed = 1;
  for (const HalfType half : {HalfType::kBf16, HalfType::kF16}) {
    Check({half, 16, 16, 1, 0, {{0, 1}, {33, 1}, {31, 4}}}, seed++);
    Check({half, 1, 32, 1, 0, {{5, 65}}}, seed++);
    Check({half, 64, 64, 1, 0, {{31, 1}, {0, 3}}}, seed++);
    Check({half, 128, 48, 1, 0, {{40, 2}}}, seed++);
  }
}

// All head counts with all block sizes; contexts around a tile of 32 tokens, and primes.
TEST_F(MlaAttentionTest, EveryNumberOfHeadsMeetsEveryBlockSize) {
  const int contexts[] = {0, 1, 13, 31, 32, 33, 63, 64, 65, 97};
  uint64_t seed = 300;
  for (const int heads : {1, 2, 4, 8, 16, 32, 64, 128}) {
    for (const int block : {16, 32, 48, 64, 128, 256}) {
      Case c;
      c.half = seed % 2 == 0 ? HalfType::kBf16 : HalfType::kF16;
      c.heads = heads;
      c.block_tokens = block;
      c.multiprocessors = seed % 3 == 0 ? 4 : 1;
      c.host_blocks = static_cast<int>(seed % 2);
      c.sequences = {{contexts[seed % 10], 1}, {contexts[seed / 3 % 10], 1 + (heads < 32 ? 2 : 0)}};
      Check(c, seed++);
    }
  }
}

// The same bits whether one block folds the segments or several do them and their parts are merged,
// and wherever the blocks lie.
TEST_F(MlaAttentionTest, NeitherSplitsNorPoolsShow) {
  for (const Case& c : {Case{HalfType::kBf16, 16, 16, 1, 0, {{530, 1}, {510, 3}}, false},
                        Case{HalfType::kF16, 128, 16, 1, 0, {{1024, 1}}, false}}) {
    Case split = c;
    split.split = true;
    split.multiprocessors = 8;
    split.host_blocks = 5;
    EXPECT_EQ(Check(c, 8), Check(split, 8));
  }
}

TEST_F(MlaAttentionTest, HostBlocksAreAttendedInPlace) {
  Check({HalfType::kBf16, 16, 16, 1, 2, {{40, 1}, {15, 1}, {70, 3}}}, 11);
}

TEST_F(MlaAttentionTest, MemoryAccessesAreCoalescedAndFreeOfConflicts) {
  Check({HalfType::kBf16, 16, 16, 1, 0, {{40, 4}}}, 2, true);
  ExpectNoWaste("ldmatrix", 1.0);
  ExpectNoWaste("shared write", 1.0);
  ExpectNoWaste("shared read", 1.0);
  ExpectNoWaste("global read", 1.0);
  ExpectNoWaste("global write", 1.0);
  Check({HalfType::kBf16, 16, 16, 4, 0, {{513, 1}}}, 2, true);  // into partial buffers
  ExpectNoWaste("shared write", 1.0);
  ExpectNoWaste("global write", 1.0);
  cuda_emu::CountAccesses(false);
}

TEST_F(MlaAttentionTest, NothingToDoLaunchesNothing) {
  const uint64_t launches = cuda_emu::CurrentCounts().launches;
  MlaAttentionParams params;
  params.heads = 16;
  EXPECT_EQ(LaunchMlaAttention(params, nullptr), cudaSuccess);
  EXPECT_EQ(cuda_emu::CurrentCounts().launches, launches);
}

TEST_F(MlaAttentionTest, HeadsMustFitTiles) {
  MlaAttentionParams params;
  for (const int heads : {0, 3, 96, 130}) {
    params.heads = heads;
    EXPECT_EQ(LaunchMlaAttention(params, nullptr), cudaErrorInvalidValue) << heads;
  }
}

}  // namespace
}  // namespace sluice::cuda
