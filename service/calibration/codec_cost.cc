#include "service/calibration/codec_cost.h"

#include <algorithm>
#include <cmath>

#include "backend/cpu/kv_layout.h"
#include "backend/cpu/probe_link.h"
#include "scheduler/base/status_macros.h"
#include "service/calibration/in_place_cost.h"

namespace sluice {
namespace {

// Enough for copies that are much longer than their latency, and larger than most caches.
constexpr Blocks kCopied{16};
constexpr int64_t kMostLayers = 8;

KvLayout LayoutOf(const CodecCostOptions& options) {
  KvLayout layout;
  layout.element = options.element;
  layout.layers = std::min(options.layers, kMostLayers);
  layout.kv_heads = options.shape.kv_heads;
  layout.head_dim = options.shape.head_dim;
  layout.page_tokens = options.block_tokens.value();
  return layout;
}

absl::Status PriceCopies(const CodecCostOptions& options, const KvCodecOptions& codec,
                         CostCoefficients& cost) {
  SLUICE_ASSIGN_OR_RETURN(const auto probe,
                          LinkProbe::Create(LayoutOf(options), kCopied, options.control, codec));
  const double bytes = AsDouble(probe->BytesOf(kCopied));
  // Stores first: what they write is what loads read.
  for (const LinkDirection direction :
       {LinkDirection::kDeviceToHost, LinkDirection::kHostToDevice}) {
    SLUICE_ASSIGN_OR_RETURN(const RunTimes times, probe->Time(direction, kCopied));
    LinkCoefficients& link = cost.links[static_cast<size_t>(direction)];
    link.per_byte = Seconds(absl::ToDoubleSeconds(times.quarter) / bytes);
    if (options.link.has_value()) {
      link.per_byte = std::max(link.per_byte, Seconds(1 / options.link->value()));
    }
  }
  return absl::OkStatus();
}

absl::Status PriceInPlace(const CodecCostOptions& options, const KvCodecOptions& codec,
                          CostCoefficients& cost) {
  ThreadPool pool(options.threads, /*pin=*/true);
  SLUICE_ASSIGN_OR_RETURN(const auto probe,
                          AttentionProbe::Create(options.shape, options.element, pool, codec));
  SLUICE_ASSIGN_OR_RETURN(const InPlaceRead read, MeasureInPlaceRead(*probe, options.control));
  const int64_t plain = options.layers * 2 * options.shape.kv_dim() * ElementBytes(options.element);
  cost.in_place_on_device = true;
  cost.per_in_place_token = Seconds(0);
  cost.per_in_place_read = Seconds(static_cast<double>(plain) / read.first.value());
  cost.per_in_place_reread = Seconds(static_cast<double>(plain) / read.again.value());
  cost.in_place_tile = Tokens(
      std::max<int64_t>(1, kAttentionTileRows * options.shape.kv_heads / options.shape.heads));
  return absl::OkStatus();
}

}  // namespace

absl::Status PriceHostCodec(const CodecCostOptions& options, CostCoefficients& cost) {
  KvCodecOptions kind;
  kind.kind = options.codec;
  KvShape shape = ShapeOf(LayoutOf(options));
  shape.layers = options.layers;
  SLUICE_ASSIGN_OR_RETURN(const KvCodec codec, KvCodec::Create(shape, kind));
  cost.kv_bytes_per_token =
      Bytes(std::llround(AsDouble(codec.encoded_block_bytes()) / AsDouble(options.block_tokens)));
  SLUICE_RETURN_IF_ERROR(PriceCopies(options, kind, cost));
  if (codec.decodes_heads()) return PriceInPlace(options, kind, cost);
  cost.per_in_place_token = cost.per_in_place_read = cost.per_in_place_reread = Seconds(0);
  return absl::OkStatus();
}

}  // namespace sluice
