#include "backend/kv/disk_record.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "absl/strings/str_cat.h"
#include "scheduler/base/check.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

namespace sluice {
namespace {

constexpr int64_t kRounding = 64;
constexpr uint64_t kFirst = 1;  // flags

struct Header {
  uint64_t check = 0;
  int64_t generation = 0;
  Hash128 hash;
  Hash128 parent;
  uint64_t salt = 0;
  uint64_t flags = 0;
  Hash128 path;
};
static_assert(sizeof(Header) == 80);

size_t TokenBytes(size_t tokens) { return (tokens * sizeof(TokenId) + 7) / 8 * 8; }

}  // namespace

DiskRecordFormat::DiskRecordFormat(const StoreShape& shape, uint64_t seed)
    : tokens_(shape.tokens_per_block.size()),
      layers_(static_cast<size_t>(shape.layers)),
      seed_(seed) {
  const auto bytes =
      static_cast<int64_t>(sizeof(Header) + TokenBytes(tokens_) + layers_ * sizeof(uint64_t));
  bytes_ = (bytes + kRounding - 1) / kRounding * kRounding;
}

uint64_t DiskRecordFormat::Check(BlockId slot, std::span<const std::byte> bytes) const {
  const auto covered = bytes.subspan(sizeof(uint64_t));
  return XXH3_64bits_withSeed(covered.data(), covered.size(),
                              seed_ + static_cast<uint64_t>(slot.value()));
}

void DiskRecordFormat::Encode(BlockId slot, const DiskRecord& record,
                              std::span<std::byte> out) const {
  const BlockRecord& block = record.block;
  SLUICE_CHECK(static_cast<int64_t>(out.size()) == bytes_ && record.generation > 0);
  SLUICE_CHECK(block.tokens.size() == tokens_ && block.checksums.size() == layers_);
  std::fill(out.begin(), out.end(), std::byte{0});
  Header header;
  header.generation = record.generation;
  header.hash = block.identity.hash;
  header.parent = block.identity.parent;
  header.salt = block.identity.salt;
  header.flags = block.identity.first ? kFirst : 0;
  header.path = record.path;
  std::memcpy(out.data(), &header, sizeof(header));
  std::byte* at = out.data() + sizeof(header);
  std::memcpy(at, block.tokens.data(), tokens_ * sizeof(TokenId));
  at += TokenBytes(tokens_);
  std::memcpy(at, block.checksums.data(), layers_ * sizeof(uint64_t));
  const uint64_t check = Check(slot, out);
  std::memcpy(out.data(), &check, sizeof(check));
}

absl::StatusOr<DiskRecord> DiskRecordFormat::Decode(BlockId slot,
                                                    std::span<const std::byte> in) const {
  SLUICE_CHECK(static_cast<int64_t>(in.size()) == bytes_);
  Header header;
  std::memcpy(&header, in.data(), sizeof(header));
  if (header.check == 0 && header.generation == 0) return absl::NotFoundError("the slot is empty");
  if (header.check != Check(slot, in) || header.generation <= 0) {
    return absl::DataLossError(absl::StrCat("the record of slot ", slot.value(), " is broken"));
  }
  DiskRecord record;
  record.generation = header.generation;
  record.path = header.path;
  record.block.identity = {header.hash, header.parent, header.salt, (header.flags & kFirst) != 0};
  const std::byte* at = in.data() + sizeof(header);
  record.block.tokens.resize(tokens_);
  std::memcpy(record.block.tokens.data(), at, tokens_ * sizeof(TokenId));
  at += TokenBytes(tokens_);
  record.block.checksums.resize(layers_);
  std::memcpy(record.block.checksums.data(), at, layers_ * sizeof(uint64_t));
  return record;
}

Hash128 PathDigest(const PathKey& key, const Hash128& parent, uint64_t salt,
                   std::span<const TokenId> tokens) {
  std::vector<std::byte> bytes(sizeof(parent) + sizeof(salt) + tokens.size_bytes());
  std::memcpy(bytes.data(), &parent, sizeof(parent));
  std::memcpy(bytes.data() + sizeof(parent), &salt, sizeof(salt));
  std::memcpy(bytes.data() + sizeof(parent) + sizeof(salt), tokens.data(), tokens.size_bytes());
  static_assert(std::tuple_size_v<PathKey> >= XXH3_SECRET_SIZE_MIN);
  const XXH128_hash_t digest =
      XXH3_128bits_withSecret(bytes.data(), bytes.size(), key.data(), key.size());
  return {digest.low64, digest.high64};
}

}  // namespace sluice
