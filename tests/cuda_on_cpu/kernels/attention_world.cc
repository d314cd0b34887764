#include "tests/cuda_on_cpu/kernels/attention_world.h"

#include <cstring>

namespace sluice::cuda {
namespace {

constexpr int64_t kLayers = 3;  // of the host pool, whose blocks hold all layers

// One pool of blocks, its bytes, and how to read them back as numbers.
struct Pool {
  KvPageShape page;
  int64_t block_stride = 0;
  int64_t offset = 0;  // of the layer in a block
  std::vector<unsigned char> bytes;

  unsigned char* Half(int64_t block, bool value) {
    return bytes.data() + block * block_stride + offset + (value ? page.half_bytes() : 0);
  }
};

// What random numbers of a position are drawn from.
std::mt19937_64 RandomOf(const AttentionCase& c, size_t sequence, int64_t position, int64_t what) {
  const int name = c.names.empty() ? static_cast<int>(sequence) : c.names[sequence];
  std::seed_seq seed{static_cast<int64_t>(c.content), static_cast<int64_t>(c.content >> 32),
                     int64_t{name}, position, what};
  return std::mt19937_64(seed);
}

// Writes one random row of K or V, or a row of NaN, and returns the numbers it stands for.
class RowWriter {
 public:
  RowWriter(const AttentionCase& c, std::mt19937_64 rng) : c_(c), rng_(rng) {}

  std::vector<double> Write(unsigned char* half, const KvPageShape& page, int64_t token,
                            int64_t head, bool nothing) {
    std::vector<double> values;
    const int64_t row = token * page.kv_heads + head;
    unsigned char* codes = half + row * page.row_bytes();
    unsigned char* scales = half + page.code_bytes() + row * page.scale_groups() * 2;
    for (int64_t d = 0; d < page.head_dim; ++d) {
      if (c_.kv == KvType::kHalf) {
        const uint16_t code = nothing ? 0x7fff : ToHalf(c_.half, normal_(rng_));
        std::memcpy(codes + 2 * d, &code, 2);
        values.push_back(FromHalf(c_.half, code));
        continue;
      }
      const int64_t group = d / page.scale_group;
      uint16_t scale;
      if (d % page.scale_group == 0) {
        scale = cuda_emu::FloatToBfloat16(nothing ? std::numeric_limits<float>::quiet_NaN()
                                                  : ScaleFactor());
        std::memcpy(scales + 2 * group, &scale, 2);
      }
      std::memcpy(&scale, scales + 2 * group, 2);
      const double random = normal_(rng_);
      double unit;
      if (c_.kv == KvType::kInt8) {
        const auto code = static_cast<int8_t>(std::clamp(std::lround(random * 40), -127L, 127L));
        codes[d] = static_cast<unsigned char>(code);
        unit = code;
      } else {
        codes[d] = cuda_emu::FloatToFp8(static_cast<float>(random), cuda_emu::kE4M3, true);
        unit = static_cast<double>(cuda_emu::Fp8ToFloat(codes[d], cuda_emu::kE4M3));
      }
      // What is dequantized is rounded to a half, as backend/kv/kv_codec.h says.
      const double number = unit * static_cast<double>(cuda_emu::Bfloat16ToFloat(scale));
      values.push_back(FromHalf(c_.half, ToHalf(c_.half, number)));
    }
    return values;
  }

 private:
  float ScaleFactor() {
    if (c_.kv == KvType::kFp8E4m3) return rng_() % 2 == 0 ? 1.0F : 0.5F;
    return 0.0125F * (1.0F + static_cast<float>(rng_() % 8) / 8);
  }

  const AttentionCase& c_;
  std::mt19937_64 rng_;
  std::normal_distribution<double> normal_{0.0, 1.0};
};

struct World {
  Pool pools[2];
  std::vector<int32_t> table;  // all sequences, one after another
  int in_second_pool = 0;      // blocks
  std::vector<AttentionSequence> sequences;
  // [sequence][K, V][token][head][dim]
  std::vector<std::vector<double>> numbers;
  int tokens = 0;
};

int64_t Blocks(int64_t tokens, int64_t block) { return (tokens + block - 1) / block; }

void MakePools(const AttentionCase& c, World& world, int64_t blocks) {
  for (int view = 0; view < 2; ++view) {
    Pool& pool = world.pools[view];
    pool.page = {c.kv_heads, c.head_dim, c.block_tokens, c.kv, c.scale_group};
    const int64_t page = pool.page.page_bytes();
    pool.block_stride = view == 0 ? page : kLayers * page;
    pool.offset = view == 0 ? 0 : page;
    pool.bytes.assign(static_cast<size_t>(blocks * pool.block_stride), 0xff);
  }
}

// Fills sequence `s`, whose blocks are drawn from `free`.
void FillSequence(const AttentionCase& c, size_t s, std::vector<int32_t>& free, World& world,
                  std::mt19937_64& rng) {
  const auto [before, count] = c.sequences[s];
  const int total = before + count;
  std::bernoulli_distribution scattered(c.scattered);
  std::vector<double>& numbers =
      world.numbers.emplace_back(static_cast<size_t>(2 * total * c.kv_heads * c.head_dim));
  for (int b = 0; b < Blocks(total, c.block_tokens); ++b) {
    const int32_t block = free.back();
    free.pop_back();
    const bool full = (b + 1) * c.block_tokens <= before;
    const int view = full && (b < c.host_blocks || scattered(rng)) ? 1 : 0;
    const bool last = b + 1 == Blocks(total, c.block_tokens);
    const int32_t entry = last && block > 0 ? block - c.wrong_block : block;
    world.table.push_back(view == 1 ? InSecondPool(entry) : entry);
    world.in_second_pool += view;
    for (int i = 0; i < 2 * c.block_tokens * c.kv_heads; ++i) {
      const bool value = i % 2 == 1;
      const int head = i / 2 % c.kv_heads;
      const int slot = i / 2 / c.kv_heads;
      const int token = b * c.block_tokens + slot;
      RowWriter writer(c, RandomOf(c, s, token, 2 * head + (value ? 1 : 0)));
      const std::vector<double> row = writer.Write(
          world.pools[view].Half(block, value), world.pools[view].page, slot, head, token >= total);
      if (token >= total) continue;
      std::copy(row.begin(), row.end(),
                numbers.begin() +
                    (((value ? total : 0) + token) * c.kv_heads + head) * int64_t{c.head_dim});
    }
  }
}

World MakeWorld(const AttentionCase& c, std::mt19937_64& rng) {
  World world;
  int64_t blocks = 2;
  for (const auto& [before, count] : c.sequences) blocks += Blocks(before + count, c.block_tokens);
  MakePools(c, world, blocks);
  std::vector<int32_t> free(static_cast<size_t>(blocks));
  for (size_t i = 0; i < free.size(); ++i) free[i] = static_cast<int32_t>(i);
  std::shuffle(free.begin(), free.end(), rng);
  for (size_t s = 0; s < c.sequences.size(); ++s) {
    const auto [before, count] = c.sequences[s];
    world.sequences.push_back(
        {world.tokens, count, before, static_cast<int32_t>(world.table.size())});
    world.tokens += count;
    FillSequence(c, s, free, world, rng);
  }
  return world;
}

std::vector<uint16_t> MakeQueries(const AttentionCase& c) {
  std::vector<uint16_t> q;
  const auto row = static_cast<size_t>(c.kv_heads * c.group * c.head_dim);
  for (size_t s = 0; s < c.sequences.size(); ++s) {
    const auto [before, count] = c.sequences[s];
    for (int i = 0; i < count; ++i) {
      std::mt19937_64 rng = RandomOf(c, s, before + i, -1);
      const std::vector<uint16_t> one = RandomHalves(c.half, row, rng);
      q.insert(q.end(), one.begin(), one.end());
    }
  }
  return q;
}

// Attention of one query row of one sequence, in double precision.
std::vector<double> Reference(const AttentionCase& c, const std::vector<double>& numbers, int total,
                              int position, int kv_head, std::span<const double> q, double scale) {
  const int dim = c.head_dim;
  const auto row = [&](bool value, int token) {
    return numbers.data() + (((value ? total : 0) + token) * c.kv_heads + kv_head) * int64_t{dim};
  };
  const int first = c.window > 0 ? std::max(0, position - c.window + 1) : 0;
  std::vector<double> weights;
  double top = -std::numeric_limits<double>::infinity();
  for (int t = first; t <= position; ++t) {
    double dot = 0;
    for (int d = 0; d < dim; ++d) dot += q[static_cast<size_t>(d)] * row(false, t)[d];
    weights.push_back(dot * scale);
    top = std::max(top, weights.back());
  }
  double sum = 0;
  for (double& w : weights) sum += w = std::exp(w - top);
  std::vector<double> out(static_cast<size_t>(dim), 0.0);
  for (int t = first; t <= position; ++t) {
    const double weight = weights[static_cast<size_t>(t - first)] / sum;
    for (int d = 0; d < dim; ++d) out[static_cast<size_t>(d)] += weight * row(true, t)[d];
  }
  return out;
}

std::vector<double> Expected(const AttentionCase& c, const World& world, std::span<const double> q,
                             double scale) {
  const int heads = c.kv_heads * c.group;
  std::vector<double> out;
  size_t at = 0;
  for (size_t s = 0; s < c.sequences.size(); ++s) {
    const auto [before, count] = c.sequences[s];
    for (int i = 0; i < count * heads; ++i, at += static_cast<size_t>(c.head_dim)) {
      const std::vector<double> row =
          Reference(c, world.numbers[s], before + count, before + i / heads, i % heads / c.group,
                    q.subspan(at, static_cast<size_t>(c.head_dim)), scale);
      out.insert(out.end(), row.begin(), row.end());
    }
  }
  return out;
}

}  // namespace

AttentionCase RandomAttentionCase(HalfType half, KvType kv, int head_dim, bool decode,
                                  std::mt19937_64& rng) {
  AttentionCase c;
  c.half = half;
  c.kv = kv;
  c.head_dim = head_dim;
  c.group = static_cast<int>(rng() % 8) + 1;
  c.kv_heads = static_cast<int>(rng() % 2) + 1;
  c.block_tokens = static_cast<int>(Draw(rng, std::vector<int64_t>{16, 32, 48, 64, 128, 256}));
  c.scale_group = static_cast<int>(Draw(rng, std::vector<int64_t>{16, 32, 64, 128, 256}));
  c.window = static_cast<int>(Draw(rng, std::vector<int64_t>{0, 0, 1, 31, 64, 100}));
  c.host_blocks = static_cast<int>(rng() % 3);
  c.scattered = rng() % 2 == 0 ? 0 : 0.4;
  c.multiprocessors = static_cast<int>(Draw(rng, std::vector<int64_t>{1, 4, 16}));
  const std::vector<int64_t> contexts = {0, 1, 13, 63, 64, 65, 127, 129, 193, 511, 512, 577};
  const std::vector<int64_t> chunks = {7, 16, 17, 63, 64, 65, 71};
  for (int s = 0; s < (decode ? 3 : 1); ++s) {
    const auto before = static_cast<int>(Draw(rng, contexts));
    c.sequences.emplace_back(before, decode ? 1 : static_cast<int>(Draw(rng, chunks)));
  }
  return c;
}

AttentionOutcome RunAttention(const AttentionCase& given, std::mt19937_64& rng) {
  AttentionCase c = given;
  if (c.content == 0) c.content = rng() | 1;
  World world = MakeWorld(c, rng);
  const int heads = c.kv_heads * c.group;
  const size_t elements = static_cast<size_t>(world.tokens) * heads * c.head_dim;
  const std::vector<uint16_t> q = MakeQueries(c);
  const double scale = 1.0 / std::sqrt(static_cast<double>(c.head_dim));
  AttentionOutcome outcome;
  AttentionPlanOptions options;
  options.heads = heads;
  options.kv_heads = c.kv_heads;
  options.window = c.window;
  options.multiprocessors = c.multiprocessors;
  if (!c.split) options.partial_rows = 0;
  outcome.plan = PlanAttention(world.sequences, options);

  const TestStream stream;
  const DeviceValues<uint16_t> queries(q), out(elements);
  const DeviceValues<unsigned char> pool(world.pools[0].bytes);
  const PinnedArray<unsigned char> host(world.pools[1].bytes.size());
  std::copy(world.pools[1].bytes.begin(), world.pools[1].bytes.end(), host.data());
  const DeviceValues<int32_t> table(world.table);
  const DeviceValues<AttentionWork> decode(outcome.plan.decode), prefill(outcome.plan.prefill);
  const DeviceValues<AttentionMerge> merges(outcome.plan.merges);
  const auto rows = static_cast<size_t>(outcome.plan.partial_rows) * static_cast<size_t>(heads);
  const DeviceValues<float> partial(rows * static_cast<size_t>(c.head_dim)), lse(rows);

  AttentionParams params;
  params.q = queries.data();
  params.q_stride = int64_t{heads} * c.head_dim;
  params.out = out.data();
  params.partial = partial.data();
  params.lse = lse.data();
  params.views[0] =
      MakeKvView(world.pools[0].page, pool.data(), world.pools[0].block_stride, table.data());
  params.views[1] = MakeKvView(world.pools[1].page, host.data() + world.pools[1].offset,
                               world.pools[1].block_stride, nullptr);
  params.heads = heads;
  params.kv_heads = c.kv_heads;
  params.head_dim = c.head_dim;
  params.window = c.window;
  params.scale = static_cast<float>(scale);
  params.half = c.half;
  params.kv = c.kv;
  params.works = decode.data();
  params.work_count = static_cast<int32_t>(outcome.plan.decode.size());
  EXPECT_EQ(LaunchDecodeAttention(params, stream), cudaSuccess);
  params.works = prefill.data();
  params.work_count = static_cast<int32_t>(outcome.plan.prefill.size());
  EXPECT_EQ(LaunchPrefillAttention(params, stream), cudaSuccess);

  AttentionMergeParams merge;
  merge.partial = partial.data();
  merge.lse = lse.data();
  merge.merges = merges.data();
  merge.merge_count = static_cast<int32_t>(outcome.plan.merges.size());
  merge.heads = heads;
  merge.dim = c.head_dim;
  merge.out = out.data();
  merge.half = c.half;
  EXPECT_EQ(LaunchAttentionMerge(merge, stream), cudaSuccess);
  EXPECT_CUDA_OK(stream.Synchronize());
  outcome.bits = out.Get();
  outcome.in_second_pool = world.in_second_pool;
  outcome.got = FromHalves(c.half, outcome.bits);
  outcome.want = Expected(c, world, FromHalves(c.half, q), scale);
  return outcome;
}

Tolerance AttentionTolerance(const AttentionCase& c) {
  const double epsilon = HalfEpsilon(c.half) / 2;
  return {6 * epsilon, 20 * epsilon, 2 * epsilon};
}

}  // namespace sluice::cuda
