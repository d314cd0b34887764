// CudaKvPools: where the blocks of the device pool and of the host pool lie. A value; owns nothing.
//
//   device  [layer][block] pages: block b of layer l at
//           device + l * device_layer_stride() + b * page_bytes()
//   host    [block][layer] pages: one run per block, so that a disk tier writes it in one piece
// A page is [K, V][token][kv_head][dim] (kernels/types.h), bf16 or 8-bit, the same bytes on both
// sides unless an offload codec makes 16-bit pages 8-bit on the host.
#pragma once

#include <cstddef>
#include <cstdint>

#include "backend/cuda/kernels/types.h"
#include "scheduler/base/units.h"

namespace sluice::cuda {

struct CudaKvPools {
  // One layer of one block on the device. Only its page_bytes() matter while host_type equals its
  // type: any dense page can be described so (a latent cache of n bytes per token: one head of
  // n / 4 dimensions).
  KvPageShape page;
  // What the host keeps. Differs from page.type (which is then kHalf) if blocks are quantized when
  // they are stored and dequantized when they are loaded.
  KvType host_type = KvType::kHalf;
  HalfType half = HalfType::kBf16;
  int64_t layers = 0;

  std::byte* device = nullptr;
  Blocks device_blocks;
  std::byte* host = nullptr;
  Blocks host_blocks;
  // No copy may span host blocks of two chunks of so many blocks: PinnedPool::chunk(). 0: one
  // chunk.
  Blocks host_chunk;

  KvPageShape host_page() const {
    KvPageShape shape = page;
    shape.type = host_type;
    return shape;
  }
  bool quantizes() const { return host_type != page.type; }

  int64_t page_bytes() const { return page.page_bytes(); }
  int64_t host_page_bytes() const { return host_page().page_bytes(); }
  // One block in the device pool and in the host pool; the latter is what crosses the link.
  Bytes device_block_bytes() const { return Bytes(layers * page_bytes()); }
  Bytes host_block_bytes() const { return Bytes(layers * host_page_bytes()); }
  Bytes device_bytes() const { return Bytes(device_blocks.value() * device_block_bytes().value()); }
  Bytes host_bytes() const { return Bytes(host_blocks.value() * host_block_bytes().value()); }

  int64_t device_layer_stride() const { return device_blocks.value() * page_bytes(); }
  std::byte* DeviceLayer(int64_t layer) const { return device + layer * device_layer_stride(); }
  std::byte* DevicePage(int64_t layer, int64_t block) const {
    return DeviceLayer(layer) + block * page_bytes();
  }
  std::byte* HostLayer(int64_t layer) const { return host + layer * host_page_bytes(); }
  std::byte* HostPage(int64_t layer, int64_t block) const {
    return HostLayer(layer) + block * host_block_bytes().value();
  }

  // What kernels read and write: one layer of each pool. `blocks`: see KvView.
  KvView DeviceView(int64_t layer, const int32_t* blocks = nullptr) const {
    return MakeKvView(page, DeviceLayer(layer), page_bytes(), blocks);
  }
  KvView HostView(int64_t layer, const int32_t* blocks = nullptr) const {
    return MakeKvView(host_page(), HostLayer(layer), host_block_bytes().value(), blocks);
  }
};

}  // namespace sluice::cuda
