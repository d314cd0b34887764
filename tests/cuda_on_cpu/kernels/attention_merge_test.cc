#include "backend/cuda/kernels/attention_merge.h"

#include "backend/cuda/kernels/attention_plan.h"
#include "tests/cuda_on_cpu/kernels/kernel_test.h"

namespace sluice::cuda {
namespace {

class AttentionMergeTest : public KernelTest {};

struct Parts {
  std::vector<float> partial, lse;
};

Parts RandomParts(int rows, int heads, int dim, std::mt19937_64& rng) {
  std::normal_distribution<float> normal;
  Parts parts;
  const auto n = static_cast<size_t>(rows * heads);
  for (size_t i = 0; i < n; ++i) {
    const bool nothing = rng() % 4 == 0;
    parts.lse.push_back(nothing ? -std::numeric_limits<float>::infinity() : 8 * normal(rng));
    for (int d = 0; d < dim; ++d) {
      // What saw nothing may hold anything.
      parts.partial.push_back(nothing ? std::numeric_limits<float>::quiet_NaN() : normal(rng));
    }
  }
  return parts;
}

struct Want {
  std::vector<double> out, lse;
};

Want Reference(const Parts& parts, const AttentionMerge& merge, int heads, int dim) {
  Want want;
  for (int h = 0; h < heads; ++h) {
    std::vector<double> out(static_cast<size_t>(dim), 0.0);
    double sum = 0;
    double top = -std::numeric_limits<double>::infinity();
    const auto row = [&](int i) {
      return static_cast<size_t>((merge.partial + i * merge.stride) * heads + h);
    };
    for (int i = 0; i < merge.parts; ++i) top = std::max<double>(top, parts.lse[row(i)]);
    for (int i = 0; i < merge.parts && std::isfinite(top); ++i) {
      const double weight = std::exp2(static_cast<double>(parts.lse[row(i)]) - top);
      sum += weight;
      for (int d = 0; d < dim && weight > 0; ++d) {
        out[static_cast<size_t>(d)] +=
            weight * static_cast<double>(
                         parts.partial[row(i) * static_cast<size_t>(dim) + static_cast<size_t>(d)]);
      }
    }
    for (double& x : out) x = sum > 0 ? x / sum : 0;
    want.out.insert(want.out.end(), out.begin(), out.end());
    want.lse.push_back(sum > 0 ? top + std::log2(sum) : -std::numeric_limits<double>::infinity());
  }
  return want;
}

TEST_F(AttentionMergeTest, AgreesWithDoublePrecision) {
  for (const int dim : {64, 80, 96, 128, 256, 512}) {
    for (const int count : {1, 2, 3, 33, 70}) {
      const auto seed = static_cast<uint64_t>(dim + count);
      SCOPED_TRACE(::testing::Message() << "dim " << dim << " parts " << count << " seed " << seed);
      Use(ScheduleOf(seed));
      std::mt19937_64 rng(seed);
      const int heads = 5;
      const int rows = 2 * count + 1;
      const Parts parts = RandomParts(rows, heads, dim, rng);
      const std::vector<AttentionMerge> merges = {{1, 0, 2, count}, {0, 1, 1, count}};
      const auto size = static_cast<size_t>(2 * heads * dim);
      const DeviceValues<float> partial(parts.partial), lse(parts.lse), out(size),
          out_lse(2 * heads);
      const DeviceValues<uint16_t> halves(size);
      const DeviceValues<AttentionMerge> d_merges(merges);
      const TestStream stream;
      ASSERT_EQ(LaunchAttentionMerge({partial.data(), lse.data(), d_merges.data(), 2, heads, dim,
                                      halves.data(), out.data(), out_lse.data()},
                                     stream),
                cudaSuccess);
      EXPECT_CUDA_OK(stream.Synchronize());
      std::vector<double> want, want_lse;
      for (const AttentionMerge& merge : {merges[1], merges[0]}) {
        const Want one = Reference(parts, merge, heads, dim);
        want.insert(want.end(), one.out.begin(), one.out.end());
        want_lse.insert(want_lse.end(), one.lse.begin(), one.lse.end());
      }
      // Parts are folded one after another, and each rounds the total once more.
      const double folds = 1 + count / 16.0;
      ExpectClose(ToDoubles(out.Get()), want, {4e-6 * folds, 1e-5 * folds, 1e-6 * folds});
      ExpectClose(FromHalves(HalfType::kBf16, halves.Get()), want, {0x1p-6, 1.02 * 0x1p-8, 0x1p-8});
      ExpectClose(ToDoubles(out_lse.Get()), want_lse, {1e-5, 1e-5, 1e-6});
    }
  }
}

// Merging in two steps gives what merging at once gives: parts may arrive late.
TEST_F(AttentionMergeTest, MergesCanBeChained) {
  std::mt19937_64 rng(4);
  const int heads = 3, dim = 64;
  const Parts parts = RandomParts(6, heads, dim, rng);
  const auto row = static_cast<size_t>(heads * dim);
  const DeviceValues<float> partial(parts.partial), lse(parts.lse);
  const DeviceValues<float> some(3 * row), some_lse(3 * heads), all(row), chained(row);
  const DeviceValues<AttentionMerge> first(
      std::vector<AttentionMerge>{{0, 0, 1, 2}, {1, 2, 1, 3}, {2, 5, 1, 1}});
  const DeviceValues<AttentionMerge> second(std::vector<AttentionMerge>{{0, 0, 1, 3}});
  const DeviceValues<AttentionMerge> once(std::vector<AttentionMerge>{{0, 0, 1, 6}});
  const TestStream stream;
  const auto launch = [&](const DeviceValues<float>& from, const DeviceValues<float>& from_lse,
                          const DeviceValues<AttentionMerge>& merges, int count, float* out,
                          float* out_lse) {
    ASSERT_EQ(LaunchAttentionMerge({from.data(), from_lse.data(), merges.data(), count, heads, dim,
                                    nullptr, out, out_lse},
                                   stream),
              cudaSuccess);
  };
  launch(partial, lse, first, 3, some.data(), some_lse.data());
  launch(some, some_lse, second, 1, chained.data(), nullptr);
  launch(partial, lse, once, 1, all.data(), nullptr);
  EXPECT_CUDA_OK(stream.Synchronize());
  ExpectClose(ToDoubles(chained.Get()), ToDoubles(all.Get()), {2e-6, 1e-5, 1e-6});
}

// Parts are read whole; their weights, 4 bytes each, are scattered.
TEST_F(AttentionMergeTest, MemoryAccessesAreCoalesced) {
  std::mt19937_64 rng(21);
  const int heads = 8, dim = 128, count = 8;
  const Parts parts = RandomParts(count, heads, dim, rng);
  const DeviceValues<float> partial(parts.partial), lse(parts.lse), out(heads * dim),
      out_lse(heads);
  const DeviceValues<uint16_t> halves(heads * dim);
  const DeviceValues<AttentionMerge> merges(std::vector<AttentionMerge>{{0, 0, 1, count}});
  const TestStream stream;
  cuda_emu::CountAccesses(true);
  ASSERT_EQ(LaunchAttentionMerge({partial.data(), lse.data(), merges.data(), 1, heads, dim,
                                  halves.data(), out.data(), out_lse.data()},
                                 stream),
            cudaSuccess);
  EXPECT_CUDA_OK(stream.Synchronize());
  ExpectLittleWaste("global read", 1.2);
  ExpectNoWaste("global write", 1.0);
  cuda_emu::CountAccesses(false);
}

// Every query meets every position that it sees exactly once, and all parts are merged.
TEST_F(AttentionMergeTest, PlansCoverEveryPositionOnce) {
  for (uint64_t seed = 1; seed <= 300; ++seed) {
    SCOPED_TRACE(::testing::Message() << "seed " << seed);
    std::mt19937_64 rng(seed);
    AttentionPlanOptions options;
    options.kv_heads = 1 + static_cast<int32_t>(rng() % 4);
    options.heads = options.kv_heads * (1 + static_cast<int32_t>(rng() % 8));
    options.window = rng() % 2 == 0 ? 0 : 1 + static_cast<int32_t>(rng() % 100);
    options.multiprocessors = 1 + static_cast<int32_t>(rng() % 200);
    options.partial_rows = static_cast<int32_t>(rng() % 100);
    std::vector<AttentionSequence> sequences;
    int tokens = 0;
    for (uint64_t s = 0; s < 1 + rng() % 5; ++s) {
      const int before = static_cast<int>(rng() % 6000);
      const int count = rng() % 2 == 0 ? 1 : 1 + static_cast<int>(rng() % 200);
      sequences.push_back({tokens, count, before, static_cast<int32_t>(s)});
      tokens += count;
    }
    const AttentionPlan plan = PlanAttention(sequences, options);
    // Positions seen per query, and what each partial row is for: a part of a query's segment, or
    // scratch of the only block that has to do with it.
    std::vector<int64_t> seen(static_cast<size_t>(tokens), 0);
    std::vector<int> owner(static_cast<size_t>(plan.partial_rows), -1);
    std::vector<int> written(static_cast<size_t>(tokens), 0);
    for (const auto* works : {&plan.decode, &plan.prefill}) {
      const AttentionTile tile =
          works == &plan.decode ? AttentionTile::kDecode : AttentionTile::kPrefill;
      for (const AttentionWork& work : *works) {
        ASSERT_LE(work.count * (options.heads / options.kv_heads), AttentionTileRows(tile));
        ASSERT_TRUE(work.parts == 0 || works == &plan.decode);
        const int end = work.position + work.count;
        ASSERT_TRUE(work.kv_end == end || work.kv_end % kAttentionSegment == 0);
        const int segments = (work.kv_end + kAttentionSegment - 1) / kAttentionSegment -
                             work.kv_begin / kAttentionSegment;
        for (int i = 0; i < work.count; ++i) {
          const int position = work.position + i;
          const int low = options.window == 0 ? 0 : std::max(0, position - options.window + 1);
          const int from = std::max(work.kv_begin, low);
          const int to = std::min(work.kv_end, position + 1);
          seen[static_cast<size_t>(work.query + i)] += std::max(0, to - from);
          if (work.parts == 0) ++written[static_cast<size_t>(work.query + i)];
          if (work.partial < 0) {
            ASSERT_LE(segments, 1);
            continue;
          }
          ASSERT_GT(work.parts + segments, 1) << "an item of one segment needs no scratch";
          for (int part = 0; part < (work.parts == 0 ? 1 : segments); ++part) {
            int& row = owner[static_cast<size_t>(work.partial + part * work.count + i)];
            ASSERT_EQ(row, -1);
            row = work.parts == 0 ? -2 : work.query + i;
          }
        }
      }
    }
    for (const AttentionMerge& merge : plan.merges) {
      ++written[static_cast<size_t>(merge.query)];
      for (int i = 0; i < merge.parts; ++i) {
        int& row = owner[static_cast<size_t>(merge.partial + i * merge.stride)];
        ASSERT_EQ(row, merge.query);
        row = -1;
      }
    }
    std::erase(owner, -2);
    EXPECT_EQ(owner, std::vector<int>(owner.size(), -1)) << "a part is not merged";
    EXPECT_EQ(written, std::vector<int>(written.size(), 1));
    for (const AttentionSequence& sequence : sequences) {
      for (int i = 0; i < sequence.count; ++i) {
        const int all = sequence.position + i + 1;
        EXPECT_EQ(seen[static_cast<size_t>(sequence.query + i)],
                  options.window == 0 ? all : std::min(all, options.window));
      }
    }
  }
}

}  // namespace
}  // namespace sluice::cuda
