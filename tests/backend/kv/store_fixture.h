// What tests of stores share: small blocks whose bytes follow from their tokens, and the chains
// that prompts make of them.
#pragma once

#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "backend/kv/disk_store.h"
#include "scheduler/base/hash.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"

namespace sluice::testing {

// A block of KV, complete.
struct TestBlock {
  BlockIdentity identity;
  std::vector<TokenId> tokens;
  std::vector<std::byte> bytes;
};

inline StoreShape SmallShape(int64_t payload = 3 * 4096, int64_t layers = 3) {
  return StoreShape{Blocks(0), Bytes(payload), layers, Tokens(4)};
}

inline DiskNamespace SmallSpace(StoreShape shape = SmallShape()) {
  DiskNamespace space;
  space.model = "0123456789abcdef0123456789abcdef";
  space.name = "tiny";
  space.dtype = "bf16";
  space.shape = shape;
  return space;
}

inline DiskStoreOptions SmallStore(const TempDir& dir, int64_t slots = 64,
                                   StoreShape shape = SmallShape()) {
  DiskStoreOptions options;
  options.directory = dir.path();
  options.space = SmallSpace(shape);
  options.sync_at_end = false;
  options.limit = Bytes(slots * DiskStore::SlotCost(shape).value());
  return options;
}

// `count` blocks of a prompt drawn from `seed`.
inline std::vector<TestBlock> MakePrompt(uint64_t seed, size_t count, uint64_t salt = 0,
                                         const StoreShape& shape = SmallShape()) {
  std::mt19937_64 random(seed);
  std::vector<TestBlock> blocks(count);
  Hash128 parent = RootHash(7, salt);
  for (size_t i = 0; i < count; ++i) {
    TestBlock& block = blocks[i];
    for (size_t t = 0; t < shape.tokens_per_block.size(); ++t) {
      block.tokens.push_back(static_cast<TokenId>(random() % 50000));
    }
    block.identity.hash = BlockHash(parent, block.tokens);
    block.identity.first = i == 0;
    if (i > 0) block.identity.parent = parent;
    block.identity.salt = salt;
    parent = block.identity.hash;
    block.bytes.resize(shape.payload.size());
    for (size_t b = 0; b + 8 <= block.bytes.size(); b += 8) {
      const uint64_t word = random();
      std::memcpy(block.bytes.data() + b, &word, sizeof(word));
    }
  }
  return blocks;
}

inline BlockRecord Seal(const BlockStore& store, const TestBlock& block) {
  return SealBlock(block.identity, block.tokens, block.bytes, store.shape().layers);
}

// Writes blocks into slots from `slot` on. Returns the first error.
inline absl::Status WriteAll(BlockStore& store, const std::vector<TestBlock>& blocks,
                             int32_t slot = 0) {
  std::vector<StoreWrite> writes;
  for (const TestBlock& block : blocks) {
    writes.push_back(
        {BlockId(slot++), block.bytes, absl::UnknownError("not written"), &block.identity});
  }
  store.Write(writes, [&](size_t i) { return Seal(store, blocks[i]); });
  for (const StoreWrite& write : writes) {
    if (!write.status.ok()) return write.status;
  }
  return absl::OkStatus();
}

// Reads and checks one block.
inline absl::Status ReadBack(BlockStore& store, BlockId slot, const BlockIdentity& wanted,
                             std::vector<std::byte>* bytes) {
  bytes->assign(store.shape().payload.size(), std::byte{0});
  std::vector<StoreRead> reads(1);
  reads[0].slot = slot;
  reads[0].out = *bytes;
  absl::Status status = absl::UnknownError("not done");
  store.Read(reads, [&](size_t i) {
    status = reads[i].status;
    if (status.ok()) {
      status = CheckPayload(reads[i].record, wanted, *bytes, store.shape().layer_bytes(), 0);
    }
  });
  return status;
}

inline std::unique_ptr<DiskStore> OpenStore(const DiskStoreOptions& options,
                                            StoreContent* content = nullptr) {
  absl::StatusOr<std::unique_ptr<DiskStore>> store = DiskStore::Open(options);
  EXPECT_THAT(store, IsOk());
  if (!store.ok()) return nullptr;
  absl::StatusOr<StoreContent> scan = (*store)->Scan();
  EXPECT_THAT(scan, IsOk());
  if (content != nullptr && scan.ok()) *content = *std::move(scan);
  return *std::move(store);
}

}  // namespace sluice::testing
