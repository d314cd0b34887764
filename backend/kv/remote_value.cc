#include "backend/kv/remote_value.h"

#include <array>
#include <cstdint>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "scheduler/base/check.h"
#include "scheduler/base/status_macros.h"

namespace sluice {
namespace {

constexpr std::array<char, 8> kMagic = {'s', 'l', 'u', 'i', 'c', 'e', 'K', 'V'};
const BlockId kNoSlot(0);  // records here are of no slot

struct Front {
  std::array<char, 8> magic = kMagic;
  uint32_t version = kRemoteValueVersion;
  uint32_t record_bytes = 0;
};
static_assert(sizeof(Front) == 16);

}  // namespace

RemoteValueFormat::RemoteValueFormat(const DiskNamespace& space)
    : prefix_(absl::StrCat("sluice:kv:", kRemoteValueVersion, ":", space.Id(), ":")),
      record_(space.shape, space.Seed()),
      head_bytes_(sizeof(Front) + static_cast<size_t>(record_.bytes())),
      payload_bytes_(space.shape.payload.size()) {}

std::string RemoteValueFormat::Key(const BlockIdentity& identity) const {
  return absl::StrCat(prefix_, absl::StrFormat("%016x:%016x%016x", identity.salt,
                                               identity.hash.high, identity.hash.low));
}

std::string RemoteValueFormat::ProbeKey(uint64_t number) const {
  return absl::StrCat(prefix_, "probe:", number);
}

void RemoteValueFormat::EncodeHead(const BlockRecord& record, std::span<std::byte> out) const {
  SLUICE_CHECK(out.size() == head_bytes_);
  Front front;
  front.record_bytes = static_cast<uint32_t>(record_.bytes());
  std::memcpy(out.data(), &front, sizeof(front));
  DiskRecord sealed;
  sealed.generation = 1;
  sealed.block = record;
  record_.Encode(kNoSlot, sealed, out.subspan(sizeof(front)));
}

absl::StatusOr<BlockRecord> RemoteValueFormat::DecodeHead(std::span<const std::byte> in) const {
  SLUICE_CHECK(in.size() == head_bytes_);
  Front front;
  std::memcpy(&front, in.data(), sizeof(front));
  if (front.magic != kMagic) return absl::DataLossError("its value is no KV block");
  if (front.version != kRemoteValueVersion) {
    return absl::DataLossError(absl::StrCat("its value has format version ", front.version,
                                            ", this server knows ", kRemoteValueVersion));
  }
  if (front.record_bytes != static_cast<uint32_t>(record_.bytes())) {
    return absl::DataLossError("the record of its value has another size");
  }
  absl::StatusOr<DiskRecord> record = record_.Decode(kNoSlot, in.subspan(sizeof(front)));
  if (!record.ok() || record->generation != 1) {
    return absl::DataLossError("the record of its value is broken");
  }
  return std::move(record->block);
}

}  // namespace sluice
