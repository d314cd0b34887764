// The storage tier of CudaBackend: blocks go through the pinned host pool to a store and back,
// under every pair of codecs; what fails costs its blocks and nothing else.
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "backend/cuda/cuda_backend.h"
#include "backend/kv/disk_store.h"
#include "backend/kv/faulty_store.h"
#include "backend/kv/kv_recoder.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/cuda_on_cpu/emulated_test.h"
#include "tests/cuda_on_cpu/forward/backend_harness.h"
#include "tests/support/backend_sequence.h"
#include "tests/support/random_checkpoint.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"

namespace sluice {
namespace {

using testing::BackendHarness;
using ::testing::ElementsAre;
using testing::Generate;
using ::testing::HasSubstr;
using testing::IsOk;
using testing::Pairs;
using testing::RandomModel;
using testing::RandomModelSpec;
using testing::RandomTokens;
using testing::Sequence;
using testing::StatusIs;
using testing::TokensOf;

constexpr int64_t kBlockTokens = 16;  // as SmallCudaOptions() has it
constexpr int32_t kSlots = 16;

RandomModelSpec Spec() { return testing::SmallCudaSpec(); }

CudaBackendOptions Options(KvCodecKind host, KvCodecKind disk) {
  CudaBackendOptions options = testing::SmallCudaOptions();
  options.host_codec = host;
  options.disk_codec = disk;
  return options;
}

// A store in a folder of its own, of the shape that the options ask for.
class Folder {
 public:
  Folder(const RandomModel& model, const CudaBackendOptions& options) {
    DiskStoreOptions store;
    store.directory = dir_.path();
    store.space.model = std::string(32, 'a');
    store.space.name = "random";
    store.space.dtype = CudaBackend::KvDType(options.device_codec);
    store.space.codec = *CudaBackend::DiskCodec(model.config(), options);
    store.space.shape = *CudaBackend::DiskShape(model.config(), options);
    store.sync_at_end = false;
    store.limit = Bytes(kSlots * DiskStore::SlotCost(store.space.shape).value());
    store_ = *DiskStore::Open(store);
    EXPECT_THAT(store_->Scan().status(), IsOk());
  }

  DiskStore& store() { return *store_; }
  // What is in a slot.
  std::vector<std::byte> Payload(int32_t slot) {
    std::vector<std::byte> bytes(store_->shape().payload.size());
    std::vector<StoreRead> reads(1);
    reads[0].slot = BlockId(slot);
    reads[0].out = bytes;
    store_->Read(reads, [](size_t) {});
    EXPECT_THAT(reads[0].status, IsOk());
    return bytes;
  }

 private:
  testing::TempDir dir_;
  std::unique_ptr<DiskStore> store_;
};

class CudaStorageTest : public EmulatedTest {
 protected:
  void SetUp() override {
    cuda_emu::Config config;
    config.streams = cuda_emu::Streams::kThreads;
    cuda_emu::Reset(config);
  }

  // The sequence all tests run: 40 tokens, of which two blocks are full.
  static Sequence Start() {
    Sequence s = testing::MakeSequence(RandomTokens(40, Spec().vocab, 2), 0, 6);
    s.params = testing::Greedy(3);
    return s;
  }
  // Both full blocks to the host, and to slots 3 and 1 of the store.
  static void StoreBlocks(BackendHarness& harness, const Sequence& s) {
    ASSERT_THAT(harness.Memory(LinkDirection::kDeviceToHost, Pairs({0, 1}, {9, 4})).status, IsOk());
    ASSERT_THAT(harness.Storage(LinkDirection::kHostToDisk, s, Pairs({9, 4}, {3, 1})).status,
                IsOk());
  }

  const RandomModel model_{Spec()};
};

TEST_F(CudaStorageTest, BlocksComeBackFromTheDiskWithEveryBit) {
  std::vector<TokenId> stayed;
  {
    BackendHarness harness(model_, Options(KvCodecKind::kRaw, KvCodecKind::kRaw));
    Sequence s = Start();
    Generate(harness.backend(), s, 3, 64);
    stayed = TokensOf(Generate(harness.backend(), s, 8, 64));
  }
  CudaBackendOptions options = Options(KvCodecKind::kRaw, KvCodecKind::kRaw);
  Folder folder(model_, options);
  options.disk = &folder.store();
  Sequence s = Start();
  {
    BackendHarness harness(model_, options);
    const BackendInfo& info = harness.backend().info();
    EXPECT_EQ(info.disk_blocks, Blocks(kSlots));
    EXPECT_EQ(info.storage_tier, Tier::kDisk);
    EXPECT_EQ(info.disk_block_bytes, info.geometry.bytes_per_block);
    EXPECT_EQ(info.disk, folder.store().description());
    Generate(harness.backend(), s, 3, 64);
    StoreBlocks(harness, s);
    const ActivitySnapshot activity = harness.backend().activity();
    EXPECT_EQ(activity.links[static_cast<size_t>(LinkDirection::kHostToDisk)].moved,
              Bytes(2 * info.disk_block_bytes.value()));
  }
  // Another process: memory is empty, the disk is not. Its third block is computed again.
  BackendHarness harness(model_, options);
  ASSERT_THAT(harness.Storage(LinkDirection::kDiskToHost, s, Pairs({3, 1}, {20, 0})).status,
              IsOk());
  ASSERT_THAT(harness.Memory(LinkDirection::kHostToDevice, Pairs({20, 0}, {17, 2})).status, IsOk());
  s.blocks = {BlockId(17), BlockId(2), BlockId(5), BlockId(6), BlockId(7), BlockId(8)};
  s.computed = 2 * kBlockTokens;
  EXPECT_EQ(TokensOf(Generate(harness.backend(), s, 8, 64)), stayed);
  // What came from the disk is what goes there.
  ASSERT_THAT(harness.Storage(LinkDirection::kHostToDisk, s, Pairs({20, 0}, {7, 8})).status,
              IsOk());
  EXPECT_EQ(folder.Payload(7), folder.Payload(3));
  EXPECT_EQ(folder.Payload(8), folder.Payload(1));
  EXPECT_NE(folder.Payload(7), folder.Payload(8));
}

// The device's codec and the host's are two programs: what a kernel has quantized is what KvCodec
// makes of the same numbers, so a store has one kind of bytes for a name of its codec.
TEST_F(CudaStorageTest, WhatIsStoredIsWhatTheCodecsOfTheHostWouldHaveMadeOfIt) {
  std::vector<std::byte> raw;
  for (const auto& [host, disk] : {std::pair{KvCodecKind::kRaw, KvCodecKind::kRaw},
                                   {KvCodecKind::kFp8, KvCodecKind::kFp8},
                                   {KvCodecKind::kInt8, KvCodecKind::kInt8},
                                   {KvCodecKind::kRaw, KvCodecKind::kInt8},
                                   {KvCodecKind::kRaw, KvCodecKind::kInt4},
                                   {KvCodecKind::kFp8, KvCodecKind::kInt4}}) {
    SCOPED_TRACE(std::string(KvCodecKindName(host)) + "+" + std::string(KvCodecKindName(disk)));
    CudaBackendOptions options = Options(host, disk);
    Folder folder(model_, options);
    options.disk = &folder.store();
    BackendHarness harness(model_, options);
    Sequence s = Start();
    Generate(harness.backend(), s, 1, 64);
    StoreBlocks(harness, s);
    const std::vector<std::byte> stored = folder.Payload(3);
    if (host == KvCodecKind::kRaw && disk == KvCodecKind::kRaw) {
      raw = stored;
      continue;
    }
    const KvShape shape = {model_.config().layers, kBlockTokens, model_.config().kv_heads,
                           model_.config().head_dim, KvElement::kBF16};
    const auto to_host = KvRecoder::Create(shape, KvCodecKind::kRaw, host);
    const auto to_disk = KvRecoder::Create(shape, host, disk);
    ASSERT_THAT(to_host.status(), IsOk());
    ASSERT_THAT(to_disk.status(), IsOk());
    std::vector<std::byte> plain;
    std::vector<std::byte> on_host(to_host->stored_bytes().size());
    ASSERT_THAT(to_host->ToStored(raw, on_host, plain), IsOk());
    std::vector<std::byte> want = on_host;
    if (host != disk) {
      want.resize(to_disk->stored_bytes().size());
      ASSERT_THAT(to_disk->ToStored(on_host, want, plain), IsOk());
    }
    EXPECT_TRUE(stored == want);
    EXPECT_EQ(harness.backend().info().disk_block_bytes, Bytes(static_cast<int64_t>(want.size())));
    // And it can be used again.
    ASSERT_THAT(harness.Storage(LinkDirection::kDiskToHost, s, Pairs({3, 1}, {20, 0})).status,
                IsOk());
    EXPECT_THAT(harness.Memory(LinkDirection::kHostToDevice, Pairs({20, 0}, {17, 2})).status,
                IsOk());
  }
}

// A server with a CPU has blocks of the same size and order; what names them sets them apart.
TEST_F(CudaStorageTest, EveryTypeAndCodecHasANameOfItsOwn) {
  std::set<std::string> names;
  const auto name = [&](const CudaBackendOptions& options) {
    const auto codec = CudaBackend::DiskCodec(model_.config(), options);
    EXPECT_THAT(codec.status(), IsOk());
    return CudaBackend::KvDType(options.device_codec) + " " + codec.value_or("?");
  };
  for (const KvCodecKind device : {KvCodecKind::kRaw, KvCodecKind::kFp8, KvCodecKind::kInt8}) {
    for (const KvCodecKind disk : {KvCodecKind::kRaw, KvCodecKind::kInt4}) {
      CudaBackendOptions options = Options(KvCodecKind::kRaw, disk);
      options.device_codec = device;
      names.insert(name(options));
      const auto shape = CudaBackend::DiskShape(model_.config(), options);
      ASSERT_THAT(shape.status(), IsOk());
      EXPECT_EQ(shape->layers, model_.config().layers);
      EXPECT_EQ(shape->tokens_per_block, Tokens(kBlockTokens));
    }
  }
  names.insert(name(Options(KvCodecKind::kFp8, KvCodecKind::kFp8)));
  EXPECT_EQ(names.size(), 7u);
  EXPECT_THAT(
      CudaBackend::DiskShape(model_.config(), Options(KvCodecKind::kInt8, KvCodecKind::kFp8))
          .status(),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("int8")));
}

TEST_F(CudaStorageTest, AStoreThatFailsCostsItsBlocksOnly) {
  CudaBackendOptions options = Options(KvCodecKind::kRaw, KvCodecKind::kRaw);
  Folder folder(model_, options);
  FaultyStore broken(folder.store(), FaultyStoreOptions().With(StoreFault::kReadError, 1));
  std::vector<std::string> said;
  std::mutex mu;
  options.disk = &broken;
  options.disk_log = [&](const std::string& text) {
    const std::lock_guard<std::mutex> lock(mu);
    said.push_back(text);
  };
  BackendHarness harness(model_, options);
  Sequence s = Start();
  Generate(harness.backend(), s, 1, 64);
  StoreBlocks(harness, s);
  const CopyResult failed = harness.Storage(LinkDirection::kDiskToHost, s, Pairs({3, 1}, {20, 0}));
  EXPECT_THAT(failed.status, StatusIs(absl::StatusCode::kUnavailable, HasSubstr("2 of 2 blocks")));
  EXPECT_THAT(failed.failed, ElementsAre(0, 1));
  // Copies in memory and steps go on.
  ASSERT_THAT(harness.Memory(LinkDirection::kHostToDevice, Pairs({9, 4}, {17, 2})).status, IsOk());
  s.blocks[0] = BlockId(17);
  s.blocks[1] = BlockId(2);
  EXPECT_EQ(Generate(harness.backend(), s, 2, 64).size(), 2u);
  const std::lock_guard<std::mutex> lock(mu);
  ASSERT_EQ(said.size(), 1u);
  EXPECT_THAT(said[0], HasSubstr("cannot read 2 of 2 blocks"));
}

TEST_F(CudaStorageTest, ForgottenSlotsAreEmpty) {
  CudaBackendOptions options = Options(KvCodecKind::kRaw, KvCodecKind::kRaw);
  Folder folder(model_, options);
  options.disk = &folder.store();
  BackendHarness harness(model_, options);
  Sequence s = Start();
  Generate(harness.backend(), s, 1, 64);
  StoreBlocks(harness, s);
  const std::vector<BlockId> slots = {BlockId(1)};
  harness.backend().ForgetDiskBlocks(slots);
  const CopyResult result = harness.Storage(LinkDirection::kDiskToHost, s, Pairs({3, 1}, {20, 0}));
  EXPECT_THAT(result.failed, ElementsAre(1));
}

// Host memory that the system does not pin is of no use to the device: nothing is read into it.
TEST_F(CudaStorageTest, BlocksAreNotReadIntoMemoryThatCannotBePinned) {
  CudaBackendOptions options = Options(KvCodecKind::kRaw, KvCodecKind::kRaw);
  // 16 KiB a block, two registrations of 256 MiB: the second is refused.
  options.host_blocks = Blocks(20'000);
  Folder folder(model_, options);
  options.disk = &folder.store();
  cuda_emu::FailCall(cuda_emu::Api::kHostRegister, 2, cudaErrorMemoryAllocation);
  BackendHarness harness(model_, options);
  Sequence s = Start();
  Generate(harness.backend(), s, 1, 64);
  StoreBlocks(harness, s);
  const int32_t end = 19'999;
  // Until it is known, all may still be pinned; a store waits for that.
  EXPECT_THAT(harness.Memory(LinkDirection::kDeviceToHost, Pairs({0}, {end})).status,
              StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("can be pinned")));
  const CopyResult result =
      harness.Storage(LinkDirection::kDiskToHost, s, Pairs({3, 1}, {20, end}));
  EXPECT_THAT(result.status,
              StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("can be pinned")));
  EXPECT_THAT(result.failed, ElementsAre(1));
  EXPECT_THAT(harness.Memory(LinkDirection::kHostToDevice, Pairs({20}, {17})).status, IsOk());
}

TEST_F(CudaStorageTest, AStoreOfOtherBlocksIsRefused) {
  CudaBackendOptions options = Options(KvCodecKind::kRaw, KvCodecKind::kRaw);
  Folder folder(model_, options);
  options.disk = &folder.store();
  options.host_codec = options.disk_codec = KvCodecKind::kFp8;
  const auto create = [&] {
    return CudaBackend::Create(model_.config(), model_.checkpoint(), options).status();
  };
  EXPECT_THAT(create(), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("want 8448 bytes")));
  options = Options(KvCodecKind::kRaw, KvCodecKind::kRaw);
  options.disk = &folder.store();
  options.host_blocks = Blocks(0);
  EXPECT_THAT(create(), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("host pool")));
}

}  // namespace
}  // namespace sluice
