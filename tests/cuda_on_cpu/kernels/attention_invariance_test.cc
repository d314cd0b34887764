// A row's result is a function of its own sequence: the same bits in every batch, tile, chunk,
// split and placement of blocks.
#include "backend/cuda/kernels/attention.h"
#include "tests/cuda_on_cpu/kernels/attention_world.h"

namespace sluice::cuda {
namespace {

using Bits = std::vector<uint16_t>;

// The bits of every position that is computed for the sequence named 0.
std::vector<std::pair<int, Bits>> RowsOf(const AttentionCase& c, const AttentionOutcome& outcome) {
  std::vector<std::pair<int, Bits>> rows;
  const auto size = static_cast<std::ptrdiff_t>(c.kv_heads * c.group * c.head_dim);
  auto at = outcome.bits.begin();
  for (size_t s = 0; s < c.sequences.size(); ++s) {
    const auto [before, count] = c.sequences[s];
    for (int i = 0; i < count; ++i, at += size) {
      if (c.names[s] == 0) rows.emplace_back(before + i, Bits(at, at + size));
    }
  }
  return rows;
}

// Redraws what must not matter; sequences are the caller's.
void Shuffle(AttentionCase& c, std::mt19937_64& rng) {
  c.block_tokens = static_cast<int>(Draw(rng, std::vector<int64_t>{16, 32, 48, 64, 128, 256}));
  c.host_blocks = static_cast<int>(rng() % 3);
  c.scattered = static_cast<double>(rng() % 3) / 3;
  c.multiprocessors = static_cast<int>(Draw(rng, std::vector<int64_t>{1, 2, 150}));
  c.split = rng() % 2 == 0;
  c.sequences.clear();
  c.names.clear();
}

void Add(AttentionCase& c, int name, int before, int count) {
  c.sequences.emplace_back(before, count);
  c.names.push_back(name);
}

// Positions [first, end) of sequence 0 in chunks at random, among other sequences.
void AddChunks(AttentionCase& c, int first, int end, std::mt19937_64& rng) {
  const int few = std::max(16 / c.group, 1);
  while (first < end) {
    if (rng() % 3 == 0) Add(c, 1, static_cast<int>(rng() % 70), 1 + static_cast<int>(rng() % 20));
    const int most = rng() % 2 == 0 ? few : 40;
    const int count =
        std::min(end - first, 1 + static_cast<int>(rng() % static_cast<uint64_t>(most)));
    Add(c, 0, first, count);
    first += count;
  }
}

struct Types {
  HalfType half;
  KvType kv;
};

class AttentionSeamTest : public KernelTest {
 protected:
  static AttentionOutcome Run(const AttentionCase& c, std::mt19937_64& rng) {
    Schedule schedule = ScheduleOf(rng());
    schedule.ulps = 0;
    Use(schedule);
    return RunAttention(c, rng);
  }
};

class AttentionInvarianceTest : public AttentionSeamTest,
                                public ::testing::WithParamInterface<Types> {};

TEST_P(AttentionInvarianceTest, ARowHasTheSameBitsWhateverIsComputedBesideIt) {
  for (const int head_dim : {32, 64, 80, 96, 128, 256}) {
    const auto seed = static_cast<uint64_t>(head_dim) + 1000 * cuda_emu::SeedShift();
    std::mt19937_64 rng(seed);
    AttentionCase c;
    c.half = GetParam().half;
    c.kv = GetParam().kv;
    c.head_dim = head_dim;
    c.content = seed;
    c.group = 1 + static_cast<int>(rng() % 8);
    c.kv_heads = c.group > 3 ? 1 : 2;
    c.scale_group = static_cast<int>(Draw(rng, std::vector<int64_t>{16, 64, 256}));
    c.window = static_cast<int>(Draw(rng, std::vector<int64_t>{0, 0, 1, 70, 600}));
    // Around the end of a tile, of the first segment and of the second.
    const int end = static_cast<int>(Draw(rng, std::vector<int64_t>{66, 514, 530, 1030}));
    const int first = end - 24;
    SCOPED_TRACE(::testing::Message() << "seed " << seed << " dim " << head_dim << " group "
                                      << c.group << " window " << c.window << " end " << end);
    Shuffle(c, rng);
    c.multiprocessors = 1;
    Add(c, 0, first, end - first);
    const AttentionOutcome all = Run(c, rng);
    ExpectClose(all.got, all.want, AttentionTolerance(c));
    const std::vector<std::pair<int, Bits>> want = RowsOf(c, all);

    for (int trial = 0; trial < 2; ++trial) {
      Shuffle(c, rng);
      AddChunks(c, first, end, rng);
      const auto got = RowsOf(c, Run(c, rng));
      EXPECT_EQ(got, want) << "in chunks";
    }
    for (const int multiprocessors : {1, 150}) {
      Shuffle(c, rng);
      c.multiprocessors = multiprocessors;
      c.split = multiprocessors > 1;
      const int position = first + static_cast<int>(rng() % 24);
      Add(c, 0, position, 1);
      const auto got = RowsOf(c, Run(c, rng));
      EXPECT_EQ(got[0], want[static_cast<size_t>(position - first)]) << "alone";
    }
  }
}

INSTANTIATE_TEST_SUITE_P(All, AttentionInvarianceTest,
                         ::testing::Values(Types{HalfType::kBf16, KvType::kHalf},
                                           Types{HalfType::kF16, KvType::kHalf},
                                           Types{HalfType::kBf16, KvType::kFp8E4m3},
                                           Types{HalfType::kF16, KvType::kInt8}));

// One token more or less at every place that could matter, with blocks of the second pool anywhere.
TEST_F(AttentionSeamTest, NeitherTilesNorSegmentsShowWhereQueriesMeetThem) {
  for (const int head_dim : {64, 256}) {
    AttentionCase c;
    c.head_dim = head_dim;
    c.group = 2;
    c.content = 77;
    std::mt19937_64 rng(static_cast<uint64_t>(head_dim));
    for (const int end : {17, 64, 65, 512, 513, 1024, 1025}) {
      SCOPED_TRACE(::testing::Message() << "dim " << head_dim << " end " << end);
      std::vector<Bits> seen;
      for (const int count : {1, 2, 9, 16}) {
        for (const int multiprocessors : {1, 150}) {
          Shuffle(c, rng);
          c.multiprocessors = multiprocessors;
          c.split = multiprocessors > 1;
          Add(c, 0, end - count, count);
          seen.push_back(RowsOf(c, Run(c, rng)).back().second);
          ASSERT_EQ(seen.back(), seen.front()) << count << " queries";
        }
      }
    }
  }
}

}  // namespace
}  // namespace sluice::cuda
