// KvRecoder: between the bytes of a block on the host and its bytes in a slower store, which may
// have another codec, layer by layer.
//
// Thread-safe: const methods keep what they need on the caller's side.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "backend/kv/kv_codec.h"
#include "scheduler/base/units.h"

namespace sluice {

class KvRecoder {
 public:
  // Returns INVALID_ARGUMENT if a codec does not take the shape, or if `stored` cannot follow
  // `host`: what was rounded once is rounded again only to become smaller. Raw is followed by
  // anything, every codec by itself, fp8 and int8 by int4.
  static absl::StatusOr<KvRecoder> Create(const KvShape& shape, KvCodecKind host,
                                          KvCodecKind stored);

  // Whether the bytes are the same on both sides: nothing to do.
  bool same() const { return host_.kind() == stored_.kind(); }
  Bytes host_bytes() const { return host_.encoded_block_bytes(); }
  Bytes stored_bytes() const { return stored_.encoded_block_bytes(); }
  // For the namespace of a store: everything its numbers have been rounded by. "raw",
  // "int8-kt128-vt128-v1", "fp8-kt128-vt128-v1+int4-kc32-vt32-v1".
  std::string name() const;

  // Whole blocks. `plain` is scratch and grows as needed. Returns OUT_OF_RANGE, with the target
  // undefined, if there is a number that the target's codec refuses.
  // REQUIRES: sizes as above, 4-byte aligned, no overlap.
  absl::Status ToStored(std::span<const std::byte> host, std::span<std::byte> stored,
                        std::vector<std::byte>& plain) const;
  absl::Status ToHost(std::span<const std::byte> stored, std::span<std::byte> host,
                      std::vector<std::byte>& plain) const;

 private:
  KvRecoder(KvCodec host, KvCodec stored) : host_(std::move(host)), stored_(std::move(stored)) {}

  KvCodec host_;
  KvCodec stored_;
};

}  // namespace sluice
