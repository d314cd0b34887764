#include "backend/kv/block_store.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "backend/kv/checksum.h"
#include "scheduler/base/check.h"

namespace sluice {
namespace {

// Tied to the block's name: bytes of another block never pass, nor do those of another layer.
uint64_t LayerChecksum(const BlockIdentity& identity, int64_t layer,
                       std::span<const std::byte> bytes) {
  const uint64_t seed = identity.hash.low ^ (identity.hash.high << 1) ^ identity.salt;
  return KvChecksum(bytes, seed + static_cast<uint64_t>(layer));
}

absl::Status OutOfRange(const char* field, int64_t value, const char* want) {
  return absl::InvalidArgumentError(
      absl::StrCat("block store: ", field, ": ", value, ", want ", want));
}

}  // namespace

absl::Status StoreShape::Validate() const {
  constexpr int64_t kMostBytes = int64_t{1} << 30;  // one read or write
  if (slots < Blocks(1) || slots > Blocks(INT32_MAX)) {
    return OutOfRange("slots", slots.value(), "1 to 2^31 - 1");
  }
  if (payload < Bytes(1) || payload > Bytes(kMostBytes)) {
    return OutOfRange("payload", payload.value(), "1 byte to 1 GiB");
  }
  if (layers < 1 || layers > 4096 || payload.value() % layers != 0) {
    return OutOfRange("layers", layers, "1 to 4096 equal slices of the payload");
  }
  if (tokens_per_block < Tokens(1) || tokens_per_block > Tokens(1 << 16)) {
    return OutOfRange("tokens_per_block", tokens_per_block.value(), "1 to 65536");
  }
  return absl::OkStatus();
}

BlockRecord SealBlock(const BlockIdentity& identity, std::span<const TokenId> tokens,
                      std::span<const std::byte> payload, int64_t layers) {
  SLUICE_CHECK(layers > 0 && payload.size() % static_cast<size_t>(layers) == 0);
  BlockRecord record;
  record.identity = identity;
  record.tokens.assign(tokens.begin(), tokens.end());
  record.checksums.reserve(static_cast<size_t>(layers));
  const size_t slice = payload.size() / static_cast<size_t>(layers);
  for (int64_t layer = 0; layer < layers; ++layer) {
    const auto bytes = payload.subspan(static_cast<size_t>(layer) * slice, slice);
    record.checksums.push_back(LayerChecksum(identity, layer, bytes));
  }
  return record;
}

absl::Status CheckPayload(const BlockRecord& record, const BlockIdentity& wanted,
                          std::span<const std::byte> bytes, Bytes layer_bytes,
                          int64_t first_layer) {
  return PayloadCheck(wanted, bytes, layer_bytes, first_layer).Finish(record);
}

PayloadCheck::PayloadCheck(const BlockIdentity& wanted, std::span<const std::byte> bytes,
                           Bytes layer_bytes, int64_t first_layer)
    : wanted_(&wanted), bytes_(bytes), slice_(layer_bytes.size()), first_layer_(first_layer) {}

void PayloadCheck::Arrived(size_t count) {
  const size_t whole = std::min(count, bytes_.size()) / slice_;
  if (whole < found_.size() || count == 0) found_.clear();
  while (found_.size() < whole) {
    const size_t i = found_.size();
    found_.push_back(LayerChecksum(*wanted_, first_layer_ + static_cast<int64_t>(i),
                                   bytes_.subspan(i * slice_, slice_)));
  }
}

absl::Status PayloadCheck::Finish(const BlockRecord& record) {
  if (record.identity != *wanted_) {
    return absl::DataLossError("its record is that of another block; it is computed again");
  }
  const size_t count = bytes_.size() / slice_;
  const auto first = static_cast<size_t>(first_layer_);
  if (record.checksums.size() < first + count) {
    return absl::DataLossError("its record covers fewer layers; it is computed again");
  }
  Arrived(bytes_.size());
  for (size_t i = 0; i < count; ++i) {
    if (found_[i] == record.checksums[first + i]) continue;
    return absl::DataLossError(
        absl::StrCat("checksum mismatch in layer ", first + i, "; it is computed again"));
  }
  return absl::OkStatus();
}

}  // namespace sluice
