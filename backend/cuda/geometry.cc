// What can be said about blocks without a device: in every build.
#include "backend/cuda/cuda_backend.h"
#include "backend/cuda/kv_shape.h"

namespace sluice {

KvGeometry CudaBackend::Geometry(const ModelConfig& config, Tokens tokens_per_block) {
  return HostGeometry(config, tokens_per_block, KvCodecKind::kRaw);
}

KvGeometry CudaBackend::HostGeometry(const ModelConfig& config, Tokens tokens_per_block,
                                     KvCodecKind codec) {
  return {tokens_per_block, cuda::BlockBytes(config, tokens_per_block, cuda::HostType(codec))};
}

}  // namespace sluice
