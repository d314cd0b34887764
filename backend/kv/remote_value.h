// RemoteValue: how a block lies in a Redis-protocol store.
//
//   key     sluice:kv:1:NAMESPACE:SALT:HASH     32, 16 and 32 hex digits
//   value   "sluiceKV" | format version | size of the record | record (disk_record.h) | payload
//
// The namespace is that of the disk tier (disk_namespace.h): another model, type, codec, layout or
// block size has other keys. The record is checked against itself and names its block; the payload
// is checked against the record by who reads it (CheckPayload). So no byte of a value can change
// unseen, nor can a value stand under another's key.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "absl/status/statusor.h"
#include "backend/kv/block_store.h"
#include "backend/kv/disk_namespace.h"
#include "backend/kv/disk_record.h"

namespace sluice {

inline constexpr uint32_t kRemoteValueVersion = 1;

class RemoteValueFormat {
 public:
  explicit RemoteValueFormat(const DiskNamespace& space);

  std::string Key(const BlockIdentity& identity) const;
  // For measurements; no block's.
  std::string ProbeKey(uint64_t number) const;

  // Of everything before the payload.
  size_t head_bytes() const { return head_bytes_; }
  // Of a value.
  size_t value_bytes() const { return head_bytes_ + payload_bytes_; }

  // REQUIRES: out.size() == head_bytes(); as many tokens and checksums as the shape has.
  void EncodeHead(const BlockRecord& record, std::span<std::byte> out) const;

  // Returns DATA_LOSS saying what is wrong. REQUIRES: in.size() == head_bytes().
  absl::StatusOr<BlockRecord> DecodeHead(std::span<const std::byte> in) const;

 private:
  const std::string prefix_;
  const DiskRecordFormat record_;
  const size_t head_bytes_;
  const size_t payload_bytes_;
};

}  // namespace sluice
