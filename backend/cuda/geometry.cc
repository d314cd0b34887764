// What can be said about blocks without a device: in every build.
#include <string>

#include "backend/cuda/cuda_backend.h"
#include "backend/cuda/kv_shape.h"
#include "backend/kv/kv_recoder.h"
#include "backend/kv/storage_link.h"
#include "scheduler/base/status_macros.h"

namespace sluice {

KvGeometry CudaBackend::Geometry(const ModelConfig& config, Tokens tokens_per_block,
                                 KvCodecKind device) {
  return HostGeometry(config, tokens_per_block, device);
}

KvGeometry CudaBackend::HostGeometry(const ModelConfig& config, Tokens tokens_per_block,
                                     KvCodecKind codec) {
  return {tokens_per_block, cuda::BlockBytes(config, tokens_per_block, cuda::TypeOf(codec))};
}

std::string CudaBackend::KvDType(KvCodecKind device) {
  return device == KvCodecKind::kRaw ? "bf16" : std::string(KvCodecKindName(device));
}

absl::StatusOr<StoreShape> CudaBackend::DiskShape(const ModelConfig& config,
                                                  const CudaBackendOptions& options) {
  return StoredShape(cuda::ShapeOfBlocks(config, options.tokens_per_block),
                     HostCodec(options.device_codec, options.host_codec),
                     HostCodec(options.device_codec, options.disk_codec));
}

absl::StatusOr<std::string> CudaBackend::DiskCodec(const ModelConfig& config,
                                                   const CudaBackendOptions& options) {
  SLUICE_ASSIGN_OR_RETURN(const KvRecoder recoder,
                          KvRecoder::Create(cuda::ShapeOfBlocks(config, options.tokens_per_block),
                                            HostCodec(options.device_codec, options.host_codec),
                                            HostCodec(options.device_codec, options.disk_codec)));
  return recoder.name();
}

}  // namespace sluice
