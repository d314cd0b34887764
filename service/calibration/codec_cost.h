// What a codec of the host pool changes of the costs that calibration files know for plain KV: the
// rate of copies in encoded bytes, the bytes of a token, and what reading in place adds. Measured
// in less than a second on blocks of the model's shape.
#pragma once

#include <cstdint>
#include <optional>

#include "absl/status/status.h"
#include "backend/cpu/element.h"
#include "backend/cpu/probe_compute.h"
#include "backend/kv/kv_codec.h"
#include "backend/probe_timer.h"
#include "scheduler/base/units.h"
#include "scheduler/cost/coefficients.h"
#include "scheduler/cost/measure.h"

namespace sluice {

struct CodecCostOptions {
  KvCodecKind codec = KvCodecKind::kInt8;  // not raw
  LayerShape shape;                        // only its attention counts
  int64_t layers = 1;
  Element element = Element::kBF16;
  Tokens block_tokens{32};
  int threads = 0;               // compute threads; 0: one per CPU this process may run on
  std::optional<ByteRate> link;  // what copies are paced to; nothing: as fast as they can
  ProbeControl control;
};

// Puts what is measured into `cost`. Returns RESOURCE_EXHAUSTED without memory for the probes (a
// few hundred MiB for large models), CANCELLED if control.cancelled said so.
absl::Status PriceHostCodec(const CodecCostOptions& options, CostCoefficients& cost);

}  // namespace sluice
