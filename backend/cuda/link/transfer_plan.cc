#include "backend/cuda/link/transfer_plan.h"

#include <algorithm>
#include <limits>

#include "scheduler/base/check.h"

namespace sluice::cuda {
namespace {

// Of a two-dimensional copy (cudaDevAttrMaxPitch).
constexpr int64_t kMostPitch = std::numeric_limits<int32_t>::max();

// Which pool a pair's ends are in.
struct Ends {
  bool load;
  int32_t Host(const KvTransferPair& pair) const { return load ? pair.from : pair.to; }
  int32_t Device(const KvTransferPair& pair) const { return load ? pair.to : pair.from; }
};

// Pairs [begin, end), neighbours on both sides, as one descriptor.
CopyRun MakeRun(const CudaKvPools& pools, const Ends& ends, int layer, const KvTransferPair& first,
                int64_t rows) {
  std::byte* const host = pools.HostPage(layer, ends.Host(first));
  std::byte* const device = pools.DevicePage(layer, ends.Device(first));
  const int64_t host_pitch = pools.host_block_bytes().value();
  const int64_t device_pitch = pools.page_bytes();
  CopyRun run;
  run.to = ends.load ? device : host;
  run.from = ends.load ? host : device;
  run.width = pools.page_bytes();
  run.rows = rows;
  run.to_pitch = ends.load ? device_pitch : host_pitch;
  run.from_pitch = ends.load ? host_pitch : device_pitch;
  if (run.to_pitch == run.width && run.from_pitch == run.width) {
    run.width *= run.rows;
    run.rows = 1;
  }
  return run;
}

bool SameChunk(const CudaKvPools& pools, int64_t a, int64_t b) {
  const int64_t chunk = pools.host_chunk.value();
  return chunk == 0 || a / chunk == b / chunk;
}

void MergeRuns(const CudaKvPools& pools, const Ends& ends, int layer, TransferPlan* plan) {
  const std::vector<KvTransferPair>& pairs = plan->pairs;
  const bool mergeable = pools.host_block_bytes().value() <= kMostPitch;
  size_t begin = 0;
  for (size_t i = 1; i <= pairs.size(); ++i) {
    const bool joins = i < pairs.size() && mergeable && pairs[i].from == pairs[i - 1].from + 1 &&
                       pairs[i].to == pairs[i - 1].to + 1 &&
                       SameChunk(pools, ends.Host(pairs[i - 1]), ends.Host(pairs[i]));
    if (joins) continue;
    plan->runs.push_back(
        MakeRun(pools, ends, layer, pairs[begin], static_cast<int64_t>(i - begin)));
    begin = i;
  }
}

}  // namespace

void PlanTransfer(const CudaKvPools& pools, LinkDirection direction, int layer,
                  std::span<const Copy::Pair> blocks, Bytes kernel_below, TransferPlan* plan) {
  SLUICE_CHECK(direction == LinkDirection::kHostToDevice ||
               direction == LinkDirection::kDeviceToHost);
  plan->runs.clear();
  plan->pairs.clear();
  for (const Copy::Pair& pair : blocks) {
    plan->pairs.push_back({pair.source.value(), pair.target.value()});
  }
  plan->by_kernel = pools.quantizes();
  if (plan->by_kernel) return;
  // The order of blocks within a slice is free, and neighbours may come in any.
  std::sort(plan->pairs.begin(), plan->pairs.end(),
            [](const KvTransferPair& a, const KvTransferPair& b) { return a.from < b.from; });
  const Ends ends{direction == LinkDirection::kHostToDevice};
  MergeRuns(pools, ends, layer, plan);
  const int64_t bytes = static_cast<int64_t>(blocks.size()) * pools.page_bytes();
  plan->by_kernel = bytes < kernel_below.value() * static_cast<int64_t>(plan->runs.size());
}

}  // namespace sluice::cuda
