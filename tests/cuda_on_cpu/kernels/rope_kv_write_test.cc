#include "backend/cuda/kernels/rope_kv_write.h"

#include "backend/kv/kv_codec.h"
#include "tests/cuda_on_cpu/kernels/kernel_test.h"

namespace sluice::cuda {
namespace {

struct Case {
  HalfType half = HalfType::kBf16;
  KvType kv = KvType::kHalf;
  int head_dim = 64;
  int heads = 3;
  int kv_heads = 2;
  int tokens = 5;
  bool bias = false;
  bool norm = false;
  int64_t block_tokens = 16;
  int64_t scale_group = 64;
};

struct Inputs {
  std::vector<uint16_t> qkv, bias, q_norm, k_norm;
  std::vector<float> rotation;  // [positions][D / 2][cosine, sine]
  std::vector<int32_t> positions, slots;
};

constexpr int kPositions = 40;
constexpr int kBlocks = 4;

Inputs MakeInputs(const Case& c, std::mt19937_64& rng) {
  Inputs in;
  const int rows = c.heads + 2 * c.kv_heads;
  const auto dim = static_cast<size_t>(c.head_dim);
  in.qkv = RandomHalves(c.half, static_cast<size_t>(c.tokens * rows) * dim, rng);
  if (c.bias) in.bias = RandomHalves(c.half, static_cast<size_t>(rows) * dim, rng);
  if (c.norm) {
    in.q_norm = RandomHalves(c.half, dim, rng);
    in.k_norm = RandomHalves(c.half, dim, rng);
  }
  for (int p = 0; p < kPositions; ++p) {
    for (int i = 0; i < c.head_dim / 2; ++i) {
      const double angle = p * std::pow(10000.0, -2.0 * i / c.head_dim);
      in.rotation.push_back(static_cast<float>(1.25 * std::cos(angle)));
      in.rotation.push_back(static_cast<float>(1.25 * std::sin(angle)));
    }
  }
  std::vector<int32_t> slots(static_cast<size_t>(kBlocks * c.block_tokens));
  for (size_t i = 0; i < slots.size(); ++i) slots[i] = static_cast<int32_t>(i);
  std::shuffle(slots.begin(), slots.end(), rng);
  for (int t = 0; t < c.tokens; ++t) {
    in.positions.push_back(static_cast<int32_t>(rng() % kPositions));
    in.slots.push_back(t == 1 ? -1 : slots[static_cast<size_t>(t)]);
  }
  return in;
}

// One head of one token: bias, norm, rotation, in double precision.
std::vector<double> Reference(const Case& c, const Inputs& in, int token, int head) {
  const int rows = c.heads + 2 * c.kv_heads;
  const auto dim = static_cast<size_t>(c.head_dim);
  std::vector<double> x;
  for (size_t d = 0; d < dim; ++d) {
    x.push_back(FromHalf(c.half, in.qkv[static_cast<size_t>(token * rows + head) * dim + d]));
    if (c.bias) x[d] += FromHalf(c.half, in.bias[static_cast<size_t>(head) * dim + d]);
  }
  if (head >= c.heads + c.kv_heads) return x;
  if (c.norm) {
    const std::vector<uint16_t>& weight = head < c.heads ? in.q_norm : in.k_norm;
    double sum = 0;
    for (const double v : x) sum += v * v;
    const double scale = 1.0 / std::sqrt(sum / c.head_dim + 1e-6);
    for (size_t d = 0; d < dim; ++d) x[d] *= scale * FromHalf(c.half, weight[d]);
  }
  std::vector<double> y(dim);
  for (size_t i = 0; i < dim / 2; ++i) {
    const size_t at =
        (static_cast<size_t>(in.positions[static_cast<size_t>(token)]) * dim / 2 + i) * 2;
    const auto cosine = static_cast<double>(in.rotation[at]);
    const auto sine = static_cast<double>(in.rotation[at + 1]);
    y[i] = x[i] * cosine - x[i + dim / 2] * sine;
    y[i + dim / 2] = x[i + dim / 2] * cosine + x[i] * sine;
  }
  return y;
}

struct Written {
  std::vector<uint16_t> q;
  std::vector<unsigned char> pool;
  KvPageShape page;
};

Written RunCase(const Case& c, const Inputs& in) {
  Written written;
  written.page = {c.kv_heads, c.head_dim, c.block_tokens, c.kv, c.scale_group};
  const DeviceValues<uint16_t> qkv(in.qkv), bias(in.bias), q_norm(in.q_norm), k_norm(in.k_norm);
  const DeviceValues<uint16_t> q(static_cast<size_t>(c.tokens * c.heads * c.head_dim));
  const DeviceValues<float> rotation(in.rotation);
  const DeviceValues<int32_t> positions(in.positions), slots(in.slots);
  const DeviceValues<unsigned char> pool(
      std::vector<unsigned char>(static_cast<size_t>(kBlocks * written.page.page_bytes()), 0xee));
  RopeKvWriteParams params;
  params.qkv = qkv.data();
  params.bias = bias.data();
  params.q_norm = q_norm.data();
  params.k_norm = k_norm.data();
  params.rotation = reinterpret_cast<const float2*>(rotation.data());
  params.positions = positions.data();
  params.slots = slots.data();
  params.q = q.data();
  params.pool = MakeKvView(written.page, pool.data(), written.page.page_bytes(), nullptr);
  params.tokens = c.tokens;
  params.heads = c.heads;
  params.kv_heads = c.kv_heads;
  params.head_dim = c.head_dim;
  params.half = c.half;
  params.kv = c.kv;
  const TestStream stream;
  EXPECT_EQ(LaunchRopeKvWrite(params, stream), cudaSuccess);
  EXPECT_CUDA_OK(stream.Synchronize());
  written.q = q.Get();
  written.pool = pool.Get();
  return written;
}

// Bytes of one row of K or V in `pool`.
const unsigned char* RowOf(const Written& w, const Case& c, int32_t slot, bool value, int head) {
  const int64_t block = slot / c.block_tokens;
  const int64_t row = slot % c.block_tokens * c.kv_heads + head;
  return w.pool.data() + block * w.page.page_bytes() + (value ? w.page.half_bytes() : 0) +
         row * w.page.row_bytes();
}

void Check(const Case& c, uint64_t seed) {
  SCOPED_TRACE(::testing::Message()
               << "dim " << c.head_dim << " half " << static_cast<int>(c.half) << " seed " << seed);
  Use(ScheduleOf(seed));
  std::mt19937_64 rng(seed);
  const Inputs in = MakeInputs(c, rng);
  const Written written = RunCase(c, in);
  const auto dim = static_cast<size_t>(c.head_dim);
  std::vector<double> got, want;
  for (int t = 0; t < c.tokens; ++t) {
    for (int h = 0; h < c.heads + 2 * c.kv_heads; ++h) {
      const int32_t slot = in.slots[static_cast<size_t>(t)];
      std::vector<uint16_t> row(dim);
      if (h < c.heads) {
        std::copy_n(written.q.begin() + static_cast<int64_t>(t * c.heads + h) * c.head_dim, dim,
                    row.begin());
      } else if (slot < 0) {
        continue;
      } else {
        const bool value = h >= c.heads + c.kv_heads;
        const int head = (h - c.heads) % c.kv_heads;
        std::memcpy(row.data(), RowOf(written, c, slot, value, head), 2 * dim);
      }
      const std::vector<double> expected = Reference(c, in, t, h);
      want.insert(want.end(), expected.begin(), expected.end());
      const std::vector<double> numbers = FromHalves(c.half, row);
      got.insert(got.end(), numbers.begin(), numbers.end());
    }
  }
  const double epsilon = HalfEpsilon(c.half);
  ExpectClose(got, want, {16 * epsilon, 1.05 * epsilon, epsilon});
}

class RopeKvWriteTest : public KernelTest {};

TEST_F(RopeKvWriteTest, AgreesWithDoublePrecision) {
  uint64_t seed = 1;
  for (const HalfType half : {HalfType::kBf16, HalfType::kF16}) {
    for (const int head_dim : {16, 48, 64, 80, 96, 128, 256}) {
      for (int variant = 0; variant < 4; ++variant) {
        Case c;
        c.half = half;
        c.head_dim = head_dim;
        c.bias = variant % 2 == 1;
        c.norm = variant >= 2;
        c.heads = variant + 1;
        c.kv_heads = variant % 2 + 1;
        const int64_t blocks[] = {16, 32, 48, 64, 128, 256};
        c.block_tokens = blocks[seed % 6];
        const int tokens[] = {1, 2, 5, 17};
        c.tokens = tokens[seed / 2 % 4];
        Check(c, seed++);
      }
    }
  }
}

// What an 8-bit pool holds is what the offload codec makes of the rows a 16-bit pool would hold.
TEST_F(RopeKvWriteTest, QuantizedRowsAreTheCodecsBytes) {
  for (const KvType kv : {KvType::kFp8E4m3, KvType::kInt8}) {
    for (const int head_dim : {64, 80, 96, 128, 256}) {
      for (const int64_t group : {16, 64, 128, 256}) {
        SCOPED_TRACE(::testing::Message() << head_dim << " group " << group);
        Case c;
        c.head_dim = head_dim;
        c.scale_group = group;
        c.tokens = 4 * 16;  // some slots of every block
        c.bias = true;
        std::mt19937_64 rng(static_cast<uint64_t>(head_dim + group));
        const Inputs in = MakeInputs(c, rng);
        const Written plain = RunCase(c, in);
        c.kv = kv;
        const Written coded = RunCase(c, in);
        EXPECT_EQ(coded.q, plain.q);
        const KvShape shape{1, c.block_tokens, c.kv_heads, c.head_dim, KvElement::kBF16};
        const auto codec = KvCodec::Create(
            shape, {kv == KvType::kInt8 ? KvCodecKind::kInt8 : KvCodecKind::kFp8, group});
        ASSERT_TRUE(codec.ok()) << codec.status();
        ASSERT_EQ(codec->encoded_slice_bytes().value(), coded.page.page_bytes());
        // Slots never written hold 0xeeee, in bf16 a finite number, in both pools.
        for (int64_t b = 0; b < kBlocks; ++b) {
          const auto page = static_cast<size_t>(plain.page.page_bytes());
          std::vector<std::byte> want(static_cast<size_t>(coded.page.page_bytes()));
          ASSERT_TRUE(
              codec->EncodeLayer(std::as_bytes(std::span(plain.pool).subspan(b * page, page)), want)
                  .ok());
          for (int i = 0; i < c.tokens; ++i) {
            const int32_t slot = in.slots[static_cast<size_t>(i)];
            if (slot < 0 || slot / c.block_tokens != b) continue;
            for (int r = 0; r < 2 * c.kv_heads; ++r) {
              const unsigned char* row = RowOf(coded, c, slot, r % 2 == 1, r / 2);
              const int64_t at = row - (coded.pool.data() + b * coded.page.page_bytes());
              EXPECT_EQ(std::memcmp(row, want.data() + at, static_cast<size_t>(head_dim)), 0);
            }
          }
        }
      }
    }
  }
}

// A row that has no code reads as NaN, as it would had it kept its type; its neighbours are theirs.
TEST_F(RopeKvWriteTest, QuantizedRowsOfBrokenNumbersAreBroken) {
  for (const KvType kv : {KvType::kFp8E4m3, KvType::kInt8}) {
    for (const double broken : {static_cast<double>(NAN), static_cast<double>(INFINITY), 0x1p121}) {
      Case c;
      c.kv = kv;
      c.tokens = 4;
      c.scale_group = 16;
      std::mt19937_64 rng(9);
      Inputs in = MakeInputs(c, rng);
      constexpr int kToken = 2, kHead = 1;
      const int rows = c.heads + 2 * c.kv_heads;
      const int row = c.heads + c.kv_heads + kHead;  // of V: nothing rotates it
      in.qkv[static_cast<size_t>((kToken * rows + row) * c.head_dim + 37)] = ToHalf(c.half, broken);
      const Written written = RunCase(c, in);
      for (int token = 0; token < c.tokens; ++token) {
        const int32_t slot = in.slots[static_cast<size_t>(token)];
        if (slot < 0) continue;
        for (int head = 0; head < c.kv_heads; ++head) {
          const auto page = slot / c.block_tokens * written.page.page_bytes();
          const int64_t at =
              page + written.page.half_bytes() + written.page.code_bytes() +
              (slot % c.block_tokens * c.kv_heads + head) * 2 * written.page.scale_groups();
          for (int64_t group = 0; group < written.page.scale_groups(); ++group) {
            uint16_t scale;
            std::memcpy(&scale, written.pool.data() + at + 2 * group, 2);
            EXPECT_EQ(std::isnan(FromHalf(HalfType::kBf16, scale)),
                      token == kToken && head == kHead);
          }
        }
      }
    }
  }
}

TEST_F(RopeKvWriteTest, MemoryAccessesAreCoalesced) {
  Case c;
  c.head_dim = 128;
  c.norm = c.bias = true;
  std::mt19937_64 rng(3);
  const Inputs in = MakeInputs(c, rng);
  cuda_emu::CountAccesses(true);
  RunCase(c, in);
  ExpectNoWaste("global read", 1.0);
  ExpectNoWaste("global write", 1.0);
  cuda_emu::CountAccesses(false);
}

TEST_F(RopeKvWriteTest, QuantizingIsCoalescedAndFreeOfConflicts) {
  for (const int head_dim : {128, 256}) {
    Case c;
    c.head_dim = head_dim;
    c.kv = KvType::kFp8E4m3;
    std::mt19937_64 rng(4);
    const Inputs in = MakeInputs(c, rng);
    cuda_emu::CountAccesses(true);
    RunCase(c, in);
    ExpectNoWaste("global read", 1.0);
    ExpectNoWaste("global write", 1.0);
    ExpectNoWaste("shared read", 1.0);
    ExpectNoWaste("shared write", 1.0);
    cuda_emu::CountAccesses(false);
  }
}

TEST_F(RopeKvWriteTest, NothingToDoLaunchesNothing) {
  const uint64_t launches = cuda_emu::CurrentCounts().launches;
  RopeKvWriteParams params;
  params.head_dim = 64;
  EXPECT_EQ(LaunchRopeKvWrite(params, nullptr), cudaSuccess);
  EXPECT_EQ(cuda_emu::CurrentCounts().launches, launches);
}

TEST_F(RopeKvWriteTest, RefusesShapesItCannotDo) {
  RopeKvWriteParams params;
  params.tokens = 1;
  params.head_dim = 272;
  EXPECT_EQ(LaunchRopeKvWrite(params, nullptr), cudaErrorInvalidValue);
  params.head_dim = 64;
  params.kv = KvType::kInt8;
  params.pool.scale_group = MakeFastDivisor(48);
  EXPECT_EQ(LaunchRopeKvWrite(params, nullptr), cudaErrorInvalidValue);
}

}  // namespace
}  // namespace sluice::cuda
