// The shape of a model's KV blocks in the CUDA backend. Plain C++, for builds without CUDA, too.
#pragma once

#include <cstdint>

#include "backend/cuda/kernels/types.h"
#include "backend/kv/kv_codec.h"
#include "backend/model/model_config.h"
#include "scheduler/base/units.h"

namespace sluice::cuda {

// One block of one layer, stored as `type`.
inline KvPageShape PageShape(const ModelConfig& config, Tokens tokens_per_block, KvType type) {
  KvPageShape page;
  page.kv_heads = config.kv_heads;
  page.head_dim = config.head_dim;
  page.block_tokens = tokens_per_block.value();
  page.type = type;
  page.scale_group = 128;  // the default of KvCodec, so that host blocks have its bytes
  return page;
}

// What K and V are stored as under `codec`. REQUIRES: raw, fp8 or int8.
inline KvType TypeOf(KvCodecKind codec) {
  if (codec == KvCodecKind::kFp8) return KvType::kFp8E4m3;
  return codec == KvCodecKind::kInt8 ? KvType::kInt8 : KvType::kHalf;
}

// The numbers of a block, as codecs name them.
inline KvShape ShapeOfBlocks(const ModelConfig& config, Tokens tokens_per_block) {
  return {config.layers, tokens_per_block.value(), config.kv_heads, config.head_dim,
          KvElement::kBF16};
}

inline Bytes BlockBytes(const ModelConfig& config, Tokens tokens_per_block, KvType type) {
  return Bytes(config.layers * PageShape(config, tokens_per_block, type).page_bytes());
}

}  // namespace sluice::cuda
