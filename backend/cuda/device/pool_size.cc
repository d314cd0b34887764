#include "backend/cuda/device/pool_size.h"

#include <algorithm>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace sluice::cuda {

absl::StatusOr<Blocks> DevicePoolBlocks(const PoolRequest& request) {
  if (!(request.utilization > 0 && request.utilization <= 1)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "gpu memory utilization is ", request.utilization, "; want more than 0 and at most 1"));
  }
  if (request.block < Bytes(1) || request.free > request.total) {
    return absl::InvalidArgumentError(absl::StrCat(
        "a KV block of ", request.block.value(), " bytes, ", request.free.value(), " of ",
        request.total.value(), " bytes free: want a block of at least 1 byte, free within total"));
  }
  const Bytes allowed(static_cast<int64_t>(AsDouble(request.total) * request.utilization));
  const Bytes used = request.total - request.free;
  const Bytes left = allowed - used - request.weights - request.workspace;
  Blocks blocks(std::max<int64_t>(0, left.value()) / request.block.value());
  if (request.most > Blocks(0)) blocks = std::min(blocks, request.most);
  if (blocks >= std::max(request.least, Blocks(1))) return blocks;
  const auto mib = [](Bytes bytes) { return bytes.value() >> 20; };
  return absl::ResourceExhaustedError(absl::StrCat(
      "no room for KV on the device: ", request.utilization, " of ", mib(request.total),
      " MiB, less ", mib(used), " in use, ", mib(request.weights), " for weights and ",
      mib(request.workspace), " for workspace, leaves ", blocks.value(), " blocks of ",
      request.block.value(), " bytes; want at least ", std::max(request.least, Blocks(1)).value(),
      ". Raise --gpu-memory-utilization, shorten the context, or take a smaller model"));
}

}  // namespace sluice::cuda
