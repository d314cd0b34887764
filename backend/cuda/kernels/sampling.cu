#include "backend/cuda/kernels/sampling.h"

#include <math.h>

#include "backend/cuda/kernels/block_reduce.cuh"

// Keeps the loop that follows a loop: its body is long, and copies of it cost registers.
#if defined(__CUDACC__)
#define SLUICE_NO_UNROLL _Pragma("unroll 1")
#else
#define SLUICE_NO_UNROLL
#endif

namespace sluice::cuda {
namespace {

using Word = unsigned long long;

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / 32;
constexpr int kCoarseBins = 1024;
constexpr int kFineBins = 256;
// Below exp(-28) a weight is zero in fixed point.
constexpr float kReach = 28.0F;
constexpr float kFixedOne = 1099511627776.0F;  // 2^40

struct Histogram {
  Word* mass;
  unsigned* count;
  int bins;
};

// What a run of ranks from the likeliest on adds up to.
struct Prefix {
  Word mass;
  unsigned count;
};

struct Shared {
  Word coarse_mass[kCoarseBins];
  Word fine_mass[kFineBins];
  Word scratch[kWarps];
  Word bin_mass;
  Prefix before;  // of the bin
  unsigned coarse_count[kCoarseBins];
  unsigned fine_count[kFineBins];
  unsigned bin_count;
  int bin, found;
};

// SplitMix64's output function (Steele, Lea and Flood 2014), as backend/cpu/sampler.cc uses it.
__device__ __forceinline__ uint64_t Mix(uint64_t x) {
  x += 0x9e3779b97f4a7c15U;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9U;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebU;
  return x ^ (x >> 31);
}
__device__ __forceinline__ double UniformDraw(uint64_t seed, int64_t index) {
  const uint64_t bits = Mix(Mix(seed) ^ (static_cast<uint64_t>(index) * 0xd1342543de82ef95U));
  return static_cast<double>(bits >> 11) * 0x1p-53;
}

// One row of logits, and the weights exp((x - maximum) * scale) that come from it.
struct Row {
  const float* logits;
  int vocab;
  float maximum, scale;

  __device__ __forceinline__ float Logit(int token) const {
    return gpu::load_global(logits + token);
  }
  __device__ __forceinline__ float Distance(float logit) const { return (maximum - logit) * scale; }
  __device__ __forceinline__ float Weight(float logit) const { return expf(-Distance(logit)); }
  __device__ __forceinline__ Word Fixed(float logit) const {
    return static_cast<Word>(Weight(logit) * kFixedOne);
  }
  // Coarse bins cover distances evenly, the likeliest tokens in bin 0.
  __device__ __forceinline__ int CoarseBin(float logit) const {
    return min(static_cast<int>(Distance(logit) * (kCoarseBins / kReach)), kCoarseBins - 1);
  }
};

__device__ __forceinline__ void Clear(const Histogram& h) {
  for (int i = static_cast<int>(threadIdx.x); i < h.bins; i += kThreads) {
    h.mass[i] = 0;
    h.count[i] = 0;
  }
  __syncthreads();
}

// Finds the first bin at which the running sum of counts or masses, which begins with `start`,
// reaches `goal`; leaves it in `shared`. Warp 0 alone.
// REQUIRES: start < goal <= start plus all bins; bins is 32 times a power of two.
__device__ void FindBin(const Histogram& h, bool by_count, Word goal, Prefix start,
                        Shared& shared) {
  const int lane = gpu::lane_id();
  const int share = h.bins / 32;
  Word mass = 0;
  unsigned count = 0;
  for (int k = 0; k < share; ++k) {
    // Every lane begins at another place of its share, so that they meet in different banks.
    const int i = lane * share + ((k + lane * share / 32) & (share - 1));
    mass += gpu::load_shared(h.mass + i);
    count += gpu::load_shared(h.count + i);
  }
  Word mass_to = mass;  // including this lane's share
  unsigned count_to = count;
  SLUICE_UNROLL
  for (unsigned lanes = 1; lanes < 32; lanes *= 2) {
    const Word m = __shfl_up_sync(0xffffffffu, mass_to, lanes);
    const unsigned c = __shfl_up_sync(0xffffffffu, count_to, lanes);
    if (lane >= static_cast<int>(lanes)) {
      mass_to += m;
      count_to += c;
    }
  }
  Word before_mass = start.mass + mass_to - mass;
  unsigned before_count = start.count + count_to - count;
  const Word before = by_count ? before_count : before_mass;
  const Word here = by_count ? count : mass;
  if (before >= goal || before + here < goal) return;
  for (int i = lane * share; i < (lane + 1) * share; ++i) {
    const Word reached = by_count ? before_count + h.count[i] : before_mass + h.mass[i];
    if (reached >= goal) {
      shared.bin = i;
      shared.bin_mass = h.mass[i];
      shared.bin_count = h.count[i];
      break;
    }
    before_mass += h.mass[i];
    before_count += h.count[i];
  }
  shared.before = {before_mass, before_count};
}

// The first token, by id, at which the running sum of value(token) reaches `goal`. Each warp sums a
// run of neighbouring ids; the one that reaches the goal looks closer.
// REQUIRES: 1 <= goal <= the sum.
template <class Value>
__device__ int FindById(int vocab, Word goal, Shared& shared, const Value& value) {
  const int lane = gpu::lane_id();
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int run = (vocab + kThreads - 1) / kThreads * 32;
  const int first = warp * run;
  const int end = min(first + run, vocab);
  Word sum = 0;
  SLUICE_NO_UNROLL
  for (int i = first + lane; i < end; i += 32) sum += value(i);
  SLUICE_UNROLL
  for (int lanes = 16; lanes > 0; lanes /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, lanes);
  if (lane == 0) shared.scratch[warp] = sum;
  __syncthreads();
  Word before = 0;
  for (int w = 0; w < warp; ++w) before += shared.scratch[w];
  if (before < goal && before + sum >= goal) {
    for (int at = first; at < end; at += 32) {
      Word here = at + lane < end ? value(at + lane) : 0;
      SLUICE_UNROLL
      for (unsigned lanes = 1; lanes < 32; lanes *= 2) {
        const Word left = __shfl_up_sync(0xffffffffu, here, lanes);
        if (lane >= static_cast<int>(lanes)) here += left;
      }
      const unsigned reached = __ballot_sync(0xffffffffu, before + here >= goal);
      if (reached != 0) {
        if (lane == 0) shared.found = at + __ffs(static_cast<int>(reached)) - 1;
        break;
      }
      before += __shfl_sync(0xffffffffu, here, 31);
    }
  }
  __syncthreads();
  return shared.found;  // not written again before another barrier
}

// A token, and the mass of all that are at least as likely and come no later.
struct Rank {
  int token;
  Word mass;
};

// The first token, from the likeliest down, at which the running count or mass reaches `goal`: a
// radix search over the ordered bits of the logits, within the coarse bin that has the goal.
// REQUIRES: the coarse histogram is there; 1 <= goal <= its sum.
__device__ Rank FindRank(const Row& row, bool by_count, Word goal, Shared& shared) {
  const Histogram coarse = {shared.coarse_mass, shared.coarse_count, kCoarseBins};
  const Histogram fine = {shared.fine_mass, shared.fine_count, kFineBins};
  if (threadIdx.x < 32) FindBin(coarse, by_count, goal, {0, 0}, shared);
  __syncthreads();
  const int bin = shared.bin;
  Prefix before = shared.before;
  unsigned bin_count = shared.bin_count;
  uint32_t prefix = 0;
  uint32_t known = 0;  // bits of prefix that count
  const auto member = [&](float logit) {
    return row.Fixed(logit) > 0 && row.CoarseBin(logit) == bin &&
           (OrderedBits(logit) & known) == prefix;
  };
  for (int shift = 24; shift >= 0 && bin_count > 1; shift -= 8) {
    Clear(fine);
    SLUICE_NO_UNROLL
    for (int i = static_cast<int>(threadIdx.x); i < row.vocab; i += kThreads) {
      const float logit = row.Logit(i);
      if (!member(logit)) continue;
      const uint32_t digit = 255u - ((OrderedBits(logit) >> shift) & 255u);
      atomicAdd(&fine.mass[digit], row.Fixed(logit));
      atomicAdd(&fine.count[digit], 1u);
    }
    __syncthreads();
    if (threadIdx.x < 32) FindBin(fine, by_count, goal, before, shared);
    __syncthreads();
    before = shared.before;
    bin_count = shared.bin_count;
    prefix |= (255u - static_cast<uint32_t>(shared.bin)) << shift;
    known |= 255u << shift;
  }
  // Those left are equal: the same weight each, and the id decides.
  const Word each = shared.bin_mass / bin_count;
  const Word nth = by_count ? goal - before.count : (goal - before.mass + each - 1) / each;
  const Word mass = before.mass + nth * each;
  const int token =
      FindById(row.vocab, nth, shared, [&](int i) { return Word{member(row.Logit(i))}; });
  return {token, mass};
}

// Fills the coarse histogram; returns the mass of all tokens.
__device__ Word FillCoarse(const Row& row, Shared& shared) {
  Clear({shared.coarse_mass, shared.coarse_count, kCoarseBins});
  Word sum = 0;
  SLUICE_NO_UNROLL
  for (int i = static_cast<int>(threadIdx.x); i < row.vocab; i += kThreads) {
    const float logit = row.Logit(i);
    const Word mass = row.Fixed(logit);
    if (mass == 0) continue;
    sum += mass;
    const int bin = row.CoarseBin(logit);
    atomicAdd(&shared.coarse_mass[bin], mass);
    atomicAdd(&shared.coarse_count[bin], 1u);
  }
  return BlockReduce<kThreads>(sum, shared.scratch, AddWords{});
}

__device__ Word ScaleMass(double share, Word mass) {
  return min(static_cast<Word>(share * static_cast<double>(mass)), mass - 1);
}

// Draws among what top_k, top_p and min_p leave. All three leave a prefix of the ranks, so that the
// smallest mass tells which is the shortest.
__device__ int DrawCut(const Row& row, const SampleRow& how, double uniform, Shared& shared) {
  Word kept = FillCoarse(row, shared);
  if (how.top_k > 0 && how.top_k < row.vocab) {
    const Word drawable = BlockReduce<kThreads>(
        [&] {
          Word n = 0;
          for (int i = static_cast<int>(threadIdx.x); i < kCoarseBins; i += kThreads) {
            n += shared.coarse_count[i];
          }
          return n;
        }(),
        shared.scratch, AddWords{});
    const auto top_k = static_cast<Word>(how.top_k);
    if (top_k < drawable) kept = FindRank(row, true, top_k, shared).mass;
  }
  const Word base = kept;
  if (how.top_p < 1.0F) {
    const double enough = static_cast<double>(how.top_p) * static_cast<double>(base);
    const Word goal = min(max(static_cast<Word>(ceil(enough)), Word{1}), base);
    kept = min(kept, FindRank(row, false, goal, shared).mass);
  }
  if (how.min_p > 0.0F) {
    Word mass = 0;
    SLUICE_NO_UNROLL
    for (int i = static_cast<int>(threadIdx.x); i < row.vocab; i += kThreads) {
      const float logit = row.Logit(i);
      if (row.Weight(logit) >= how.min_p) mass += row.Fixed(logit);
    }
    kept = min(kept, BlockReduce<kThreads>(mass, shared.scratch, AddWords{}));
  }
  return FindRank(row, false, ScaleMass(uniform, kept) + 1, shared).token;
}

__device__ int Draw(const Row& row, const SampleRow& how, Shared& shared) {
  const double uniform = UniformDraw(how.seed, how.output_index);
  const bool cut = (how.top_k > 0 && how.top_k < row.vocab) || how.top_p < 1.0F || how.min_p > 0.0F;
  if (cut) return DrawCut(row, how, uniform, shared);
  Word sum = 0;
  SLUICE_NO_UNROLL
  for (int i = static_cast<int>(threadIdx.x); i < row.vocab; i += kThreads) {
    sum += row.Fixed(row.Logit(i));
  }
  const Word mass = BlockReduce<kThreads>(sum, shared.scratch, AddWords{});
  return FindById(row.vocab, ScaleMass(uniform, mass) + 1, shared,
                  [&](int i) { return row.Fixed(row.Logit(i)); });
}

// One block per row. Bytes: vocab * 4 from memory, then once more per pass from L2: 1 pass for arg
// max, 4 without a cut, about 10 for each of top_k, top_p and the draw with one. (At least four
// blocks per multiprocessor: without a number the compiler squeezes in a fifth, and spills.)
__global__ void __launch_bounds__(kThreads, 4)
    SampleKernel(const __grid_constant__ SampleParams p) {
  SLUICE_SHARED(Shared, shared);
  const SampleRow how = p.rows[blockIdx.x];
  Row row = {p.logits + static_cast<int64_t>(blockIdx.x) * p.vocab, p.vocab, 0, 0};
  Word best = 0;
  Word broken = 0;
  for (int i = static_cast<int>(threadIdx.x); i < p.vocab; i += kThreads) {
    const float logit = row.Logit(i);
    if (!(logit < INFINITY)) {
      broken = 1;
    } else {
      best = max(best, RankWord(logit, i));
    }
  }
  broken = BlockReduce<kThreads>(broken, shared.scratch, LargerWord{});
  best = BlockReduce<kThreads>(best, shared.scratch, LargerWord{});
  row.maximum = LogitOfRank(best);
  int token = -1;
  if (broken == 0 && best != 0 && row.maximum > -INFINITY) {
    token = TokenOfRank(best);
    if (how.temperature != 0.0F) {
      row.scale = min(1.0F / how.temperature, 3.402823466e38F);
      token = Draw(row, how, shared);
    }
  }
  if (threadIdx.x == 0) gpu::store_global(p.tokens + blockIdx.x, token);
}

}  // namespace

cudaError_t LaunchSample(const SampleParams& params, cudaStream_t stream) {
  if (params.count == 0) return cudaSuccess;
  return gpu::Launch("sample", &SampleKernel, dim3(static_cast<unsigned>(params.count)),
                     dim3(kThreads), 0, stream, params);
}

}  // namespace sluice::cuda
