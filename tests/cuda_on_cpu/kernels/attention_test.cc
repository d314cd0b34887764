#include "backend/cuda/kernels/attention.h"

#include "backend/cuda/kernels/attention_merge.h"
#include "tests/cuda_on_cpu/kernels/attention_world.h"

namespace sluice::cuda {
namespace {

std::string Describe(const AttentionCase& c) {
  std::string text = "half " + std::to_string(static_cast<int>(c.half)) + " kv " +
                     std::to_string(static_cast<int>(c.kv)) + " dim " + std::to_string(c.head_dim) +
                     " heads " + std::to_string(c.kv_heads) + "x" + std::to_string(c.group) +
                     " block " + std::to_string(c.block_tokens) + " window " +
                     std::to_string(c.window) + " host " + std::to_string(c.host_blocks) +
                     (c.scattered > 0 ? " scattered" : "") + " sm " +
                     std::to_string(c.multiprocessors);
  for (const auto& [before, count] : c.sequences) {
    text += " (" + std::to_string(before) + "+" + std::to_string(count) + ")";
  }
  return text;
}

void ExpectRight(const AttentionCase& c, std::mt19937_64& rng) {
  SCOPED_TRACE(Describe(c));
  const AttentionOutcome outcome = RunAttention(c, rng);
  ExpectClose(outcome.got, outcome.want, AttentionTolerance(c));
}

struct Types {
  HalfType half;
  KvType kv;
  bool decode;
};

class AttentionTypesTest : public KernelTest, public ::testing::WithParamInterface<Types> {};

TEST_P(AttentionTypesTest, EveryHeadDimAgreesWithDoublePrecision) {
  const auto [half, kv, decode] = GetParam();
  for (const int head_dim : {32, 64, 80, 96, 128, 256}) {
    for (uint64_t i = 0; i < (decode ? 8 : 4); ++i) {
      const uint64_t seed = static_cast<uint64_t>(head_dim) * 100 + i;
      SCOPED_TRACE(::testing::Message() << "seed " << seed);
      std::mt19937_64 rng(seed);
      Use(ScheduleOf(seed));
      ExpectRight(RandomAttentionCase(half, kv, head_dim, decode, rng), rng);
    }
  }
}

std::string TypesName(const ::testing::TestParamInfo<Types>& info) {
  const char* kv[] = {"Half", "Fp8", "Int8"};
  return std::string(info.param.half == HalfType::kBf16 ? "Bf16" : "F16") + "Kv" +
         kv[static_cast<int>(info.param.kv)] + (info.param.decode ? "Decode" : "Prefill");
}

std::vector<Types> AllTypes() {
  std::vector<Types> all;
  for (const HalfType half : {HalfType::kBf16, HalfType::kF16}) {
    for (const KvType kv : {KvType::kHalf, KvType::kFp8E4m3, KvType::kInt8}) {
      for (const bool decode : {false, true}) all.push_back({half, kv, decode});
    }
  }
  return all;
}
INSTANTIATE_TEST_SUITE_P(All, AttentionTypesTest, ::testing::ValuesIn(AllTypes()), TypesName);

class AttentionTest : public KernelTest {};

TEST_F(AttentionTest, EveryScheduleGivesTheSame) {
  for (const bool decode : {true, false}) {
    AttentionCase c;
    c.kv_heads = 2;
    c.group = 4;
    c.kv = decode ? KvType::kHalf : KvType::kInt8;
    c.sequences = decode ? std::vector<std::pair<int, int>>{{150, 1}, {40, 3}}
                         : std::vector<std::pair<int, int>>{{70, 33}};
    c.multiprocessors = 8;
    std::vector<double> first;
    for (const Schedule& schedule : kSchedules) {
      SCOPED_TRACE(::testing::Message() << "schedule " << schedule.seed);
      Schedule exact = schedule;
      exact.ulps = 0;
      Use(exact);
      std::mt19937_64 rng(7);
      const AttentionOutcome outcome = RunAttention(c, rng);
      ExpectClose(outcome.got, outcome.want, AttentionTolerance(c));
      if (first.empty()) first = outcome.got;
      EXPECT_EQ(outcome.got, first) << "the order of threads shows in the result";
    }
  }
}

// All group sizes with all block sizes; head dims, types and windows take turns. Contexts end at a
// block, one past it, and at a prime.
TEST_F(AttentionTest, EveryGroupSizeMeetsEveryBlockSize) {
  const int dims[] = {32, 64, 80, 96, 128, 256};
  const KvType types[] = {KvType::kHalf, KvType::kFp8E4m3, KvType::kInt8};
  uint64_t seed = 1000;
  for (int group = 1; group <= 8; ++group) {
    for (const int block : {16, 32, 48, 64, 128, 256}) {
      AttentionCase c;
      c.half = seed % 2 == 0 ? HalfType::kBf16 : HalfType::kF16;
      c.kv = types[seed % 3];
      c.head_dim = dims[seed / 7 % std::size(dims)];
      c.window = seed % 4 == 0 ? 37 : 0;
      c.kv_heads = seed % 2 == 0 ? 1 : 2;
      c.group = group;
      c.block_tokens = block;
      c.host_blocks = seed % 3 == 0 ? 1 : 0;
      c.sequences = {{block - 1, 1}, {block, 1}, {112, 1}, {0, 64 / group + 1}};
      SCOPED_TRACE(::testing::Message() << "seed " << seed);
      Use(ScheduleOf(seed));
      std::mt19937_64 rng(seed++);
      ExpectRight(c, rng);
    }
  }
}

TEST_F(AttentionTest, NothingToDoLaunchesNothing) {
  const uint64_t launches = cuda_emu::CurrentCounts().launches;
  EXPECT_EQ(LaunchDecodeAttention({}, nullptr), cudaSuccess);
  EXPECT_EQ(LaunchPrefillAttention({}, nullptr), cudaSuccess);
  EXPECT_EQ(LaunchAttentionMerge({}, nullptr), cudaSuccess);
  EXPECT_EQ(cuda_emu::CurrentCounts().launches, launches);
}

// A tile that is full, one row short of full and one row too large, of either kind.
TEST_F(AttentionTest, FullTilesAreFull) {
  for (const int head_dim : {32, 64, 80, 96, 128, 256}) {
    for (const int rows : {15, 16, 17, 63, 64, 65}) {
      AttentionCase c;
      c.head_dim = head_dim;
      c.sequences = {{1, rows}};
      std::mt19937_64 rng(static_cast<uint64_t>(head_dim + rows));
      ExpectRight(c, rng);
    }
  }
}

TEST_F(AttentionTest, OneLaunchServesSequencesOfAllLengths) {
  AttentionCase c;
  c.head_dim = 64;
  c.group = 3;  // 21 tokens in a prefill tile
  c.sequences = {{0, 1}, {300, 1}, {0, 22}, {17, 21}, {63, 2}, {5, 43}};
  std::mt19937_64 rng(11);
  ExpectRight(c, rng);
}

// Three segments, just one, two, and three for many queries.
TEST_F(AttentionTest, SegmentsAreFoldedByOneBlockOrSplitAndMerged) {
  for (const int head_dim : {80, 128, 256}) {
    for (const int multiprocessors : {1, 2, 100}) {
      AttentionCase c;
      c.head_dim = head_dim;
      c.group = 8;
      c.sequences = {{1030, 1}, {511, 1}, {512, 2}, {1024, 9}};
      c.multiprocessors = multiprocessors;
      std::mt19937_64 rng(5);
      const AttentionOutcome outcome = RunAttention(c, rng);
      // One item per sequence; two segments and one of the longest; one segment each.
      EXPECT_EQ(outcome.plan.decode.size(), multiprocessors == 1   ? 3U
                                            : multiprocessors == 2 ? 4U
                                                                   : 6U);
      EXPECT_EQ(outcome.plan.merges.empty(), multiprocessors == 1);
      EXPECT_EQ(outcome.plan.prefill.size(), 2U);
      ExpectClose(outcome.got, outcome.want, AttentionTolerance(c));
    }
  }
}

TEST_F(AttentionTest, BlocksOfTwoPoolsAreAttendedInAnyOrder) {
  AttentionCase c;
  c.group = 2;
  c.scattered = 0.5;
  c.sequences = {{100, 1}, {48, 1}, {15, 1}, {90, 40}};
  std::mt19937_64 rng(13);
  const AttentionOutcome outcome = RunAttention(c, rng);
  EXPECT_GE(outcome.in_second_pool, 5);
  EXPECT_EQ(outcome.plan.partial_rows, 0) << "several pools need no parts";
  ExpectClose(outcome.got, outcome.want, AttentionTolerance(c));
}

TEST_F(AttentionTest, MemoryAccessesAreCoalescedAndFreeOfConflicts) {
  for (const int head_dim : {32, 64, 80, 96, 128, 256}) {
    for (const KvType kv : {KvType::kHalf, KvType::kFp8E4m3}) {
      SCOPED_TRACE(head_dim);
      AttentionCase c;
      c.head_dim = head_dim;
      c.kv = kv;
      c.group = 4;
      c.multiprocessors = 2;
      c.sequences = {{517, 1}, {518, 16}};
      std::mt19937_64 rng(17);
      cuda_emu::CountAccesses(true);
      const AttentionOutcome outcome = RunAttention(c, rng);
      EXPECT_FALSE(outcome.plan.merges.empty());
      ExpectNoWaste("ldmatrix", 1.0);
      // Rows of 5 or 6 sixteen-byte pieces do not fit the eight columns of banks evenly.
      const bool even = head_dim % 64 == 0;
      ExpectNoWaste("shared write", even || kv == KvType::kHalf ? 1.0 : 2.0);
      ExpectNoWaste("shared read", even ? 1.0 : 1.25);
      ExpectNoWaste("global write", 1.0);
      ExpectNoWaste("global read", 2.0);  // 1 but for the sums of a merge, 4 bytes per part
      cuda_emu::CountAccesses(false);
    }
  }
}

// The tests are tested: one block index that is off by one shows, whatever the block holds.
TEST_F(AttentionTest, ABlockIndexOffByOneIsNoticed) {
  for (uint64_t seed = 1; seed <= 12; ++seed) {
    SCOPED_TRACE(::testing::Message() << "seed " << seed);
    AttentionCase c;
    c.sequences = {{static_cast<int>(20 + 7 * seed), 1}, {40, seed % 2 == 0 ? 1 : 20}};
    c.wrong_block = 1;
    std::mt19937_64 rng(seed);
    const AttentionOutcome outcome = RunAttention(c, rng);
    bool noticed = false;
    for (size_t i = 0; i < outcome.got.size(); ++i) {
      const double error = std::abs(outcome.got[i] - outcome.want[i]);
      noticed = noticed || !(error <= AttentionTolerance(c).absolute);
    }
    EXPECT_TRUE(noticed);
  }
}

TEST_F(AttentionTest, AnUnknownHeadDimIsRefused) {
  const TestStream stream;
  AttentionParams params;
  params.work_count = 1;
  params.head_dim = 72;
  EXPECT_EQ(LaunchDecodeAttention(params, stream), cudaErrorInvalidValue);
  EXPECT_EQ(LaunchPrefillAttention(params, stream), cudaErrorInvalidValue);
}

}  // namespace
}  // namespace sluice::cuda
