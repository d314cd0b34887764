#include "backend/cuda/kernels/logits.h"

#include <math.h>

#include "backend/cuda/kernels/block_reduce.cuh"

namespace sluice::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / 32;

// One thread per edit; a sector of 32 bytes read and written each, at worst.
__global__ void __launch_bounds__(kThreads)
    LogitEditKernel(const __grid_constant__ LogitEditParams p) {
  const int i = static_cast<int>(blockIdx.x * kThreads + threadIdx.x);
  if (i >= p.count) return;
  const LogitEdit edit = p.edits[i];
  float* at = p.logits + static_cast<int64_t>(edit.row) * p.vocab + edit.token;
  float x = gpu::load_global(at);
  if (p.before != nullptr) p.before[i] = x;
  if (edit.repetition != 1.0F) x = x > 0 ? x / edit.repetition : x * edit.repetition;
  if (edit.times > 0) {
    x = __fadd_rn(
        x, -__fadd_rn(edit.presence, __fmul_rn(edit.frequency, static_cast<float>(edit.times))));
  }
  gpu::store_global(at, edit.masked != 0 ? -INFINITY : x);
}

// One block per row. Bytes: vocab * 4 from memory and (top + 1) times from L2.
__global__ void __launch_bounds__(kThreads) LogprobKernel(const __grid_constant__ LogprobParams p) {
  SLUICE_SHARED(unsigned long long[kWarps], scratch);
  SLUICE_SHARED(double[kWarps], sums);
  const float* logits = p.logits + static_cast<int64_t>(p.rows[blockIdx.x]) * p.vocab;
  const int thread = static_cast<int>(threadIdx.x);
  // The largest word below `bound`: the next token in rank.
  const auto next = [&](unsigned long long bound) {
    unsigned long long best = 0;
    for (int i = thread; i < p.vocab; i += kThreads) {
      const unsigned long long word = RankWord(gpu::load_global(logits + i), i);
      if (word < bound) best = max(best, word);
    }
    return BlockReduce<kThreads>(best, scratch, LargerWord{});
  };
  unsigned long long word = next(~0ull);
  const float maximum = LogitOfRank(word);
  double sum = 0;
  for (int i = thread; i < p.vocab; i += kThreads) {
    sum += static_cast<double>(expf(gpu::load_global(logits + i) - maximum));
  }
  SLUICE_UNROLL
  for (int lanes = 16; lanes > 0; lanes /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, lanes);
  if (gpu::lane_id() == 0) sums[thread / 32] = sum;
  __syncthreads();
  sum = 0;
  SLUICE_UNROLL
  for (int w = 0; w < kWarps; ++w) sum += sums[w];
  const double log_sum = log(sum) + static_cast<double>(maximum);
  if (thread == 0) p.log_sum[blockIdx.x] = static_cast<float>(log_sum);
  for (int i = 0; i < p.top; ++i) {
    if (thread == 0) {
      const int64_t at = static_cast<int64_t>(blockIdx.x) * p.top + i;
      p.tokens[at] = TokenOfRank(word);
      p.logprobs[at] = static_cast<float>(static_cast<double>(LogitOfRank(word)) - log_sum);
    }
    if (i + 1 < p.top) word = next(word);
  }
}

}  // namespace

cudaError_t LaunchLogitEdits(const LogitEditParams& params, cudaStream_t stream) {
  if (params.count == 0) return cudaSuccess;
  return gpu::Launch("logit_edits", &LogitEditKernel,
                     dim3(static_cast<unsigned>((params.count + kThreads - 1) / kThreads)),
                     dim3(kThreads), 0, stream, params);
}

cudaError_t LaunchLogprobs(const LogprobParams& params, cudaStream_t stream) {
  if (params.count == 0) return cudaSuccess;
  return gpu::Launch("logprobs", &LogprobKernel, dim3(static_cast<unsigned>(params.count)),
                     dim3(kThreads), 0, stream, params);
}

}  // namespace sluice::cuda
