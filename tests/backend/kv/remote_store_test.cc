// The remote store against a real redis-server: shared, renewed, gone, damaged.
#include "backend/kv/remote_store.h"

#include <set>

#include "backend/kv/faulty_store.h"
#include "tests/backend/kv/link_world.h"
#include "tests/backend/kv/remote_fixture.h"

namespace sluice::testing {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

TEST_F(RemoteStoreTest, WhatOneServerWritesAnotherFindsAndReads) {
  const RedisServer server;
  const std::vector<TestBlock> blocks = MakePrompt(1, 40);
  const auto first = Open(server);
  ASSERT_THAT(WriteAll(*first, blocks), IsOk());
  const auto second = Open(server);
  const absl::StatusOr<size_t> found = second->Find(Names(blocks));
  ASSERT_THAT(found, IsOk());
  EXPECT_EQ(*found, blocks.size());
  Bind(*second, blocks, 5);
  LinkWorld world(*second, 40);
  const CopyResult staged = world.Stage(1, blocks, 5, 0);
  EXPECT_THAT(staged.status, IsOk());
  for (size_t i = 0; i < blocks.size(); ++i) EXPECT_EQ(world.HostBlock(i), blocks[i].bytes) << i;
  EXPECT_EQ(second->stats().blocks_found, 40);
  EXPECT_EQ(second->stats().blocks_read, 40);
}

TEST_F(RemoteStoreTest, FindStopsAtTheFirstBlockThatIsNotThere) {
  const RedisServer server;
  const std::vector<TestBlock> blocks = MakePrompt(1, 100);
  const auto store = Open(server);
  for (const size_t there : {size_t{0}, size_t{1}, size_t{16}, size_t{17}, size_t{79}}) {
    ASSERT_THAT(server.Connect()->Call({"FLUSHALL"}), IsOk());
    std::vector<TestBlock> some(blocks.begin(), blocks.begin() + static_cast<ptrdiff_t>(there));
    some.push_back(blocks[there + 1]);  // behind a hole
    ASSERT_THAT(WriteAll(*store, some), IsOk());
    EXPECT_EQ(store->Find(Names(blocks)).value_or(999), there);
  }
}

TEST_F(RemoteStoreTest, AnotherModelTypeCodecOrSaltFindsNothing) {
  const RedisServer server;
  const std::vector<TestBlock> blocks = MakePrompt(1, 3);
  ASSERT_THAT(WriteAll(*Open(server), blocks), IsOk());
  for (const auto change :
       {+[](DiskNamespace* s) { s->model[0] = 'f'; }, +[](DiskNamespace* s) { s->dtype = "f32"; },
        +[](DiskNamespace* s) { s->codec = "int8"; }}) {
    DiskNamespace space = SmallSpace();
    change(&space);
    EXPECT_EQ(Open(server, space)->Find(Names(blocks)).value_or(999), 0u);
  }
  std::vector<BlockIdentity> salted = Names(blocks);
  for (BlockIdentity& name : salted) name.salt = 1;
  EXPECT_EQ(Open(server)->Find(salted).value_or(999), 0u);
  EXPECT_EQ(Open(server)->Find(Names(blocks)).value_or(999), 3u);
}

TEST_F(RemoteStoreTest, WhatAnotherServerHasWrittenIsNotSentAgain) {
  const RedisServer server;
  const std::vector<TestBlock> blocks = MakePrompt(1, 8);
  ASSERT_THAT(WriteAll(*Open(server), {blocks[0], blocks[1], blocks[5]}), IsOk());
  const auto store = Open(server);
  ASSERT_THAT(WriteAll(*store, blocks), IsOk());
  EXPECT_EQ(store->stats().blocks_shared, 3);
  EXPECT_EQ(store->stats().blocks_written, 5);
  std::vector<std::byte> bytes;
  for (size_t i = 0; i < blocks.size(); ++i) {
    EXPECT_THAT(ReadBack(*store, BlockId(static_cast<int32_t>(i)), blocks[i].identity, &bytes),
                IsOk());
    EXPECT_EQ(bytes, blocks[i].bytes);
  }
}

TEST_F(RemoteStoreTest, SomeLayersCanBeRead) {
  const RedisServer server;
  const std::vector<TestBlock> blocks = MakePrompt(1, 1);
  const auto store = Open(server);
  ASSERT_THAT(WriteAll(*store, blocks), IsOk());
  const size_t layer = store->shape().layer_bytes().size();
  std::vector<std::byte> out(2 * layer);
  std::vector<StoreRead> reads(1);
  reads[0].slot = BlockId(0);
  reads[0].first_layer = 1;
  reads[0].out = out;
  store->Read(reads, [](size_t) {});
  ASSERT_THAT(reads[0].status, IsOk());
  EXPECT_TRUE(
      std::equal(out.begin(), out.end(), blocks[0].bytes.begin() + static_cast<ptrdiff_t>(layer)));
}

TEST_F(RemoteStoreTest, ValuesLiveForTheirTimeAndAFindRenewsIt) {
  const RedisServer server;
  const std::vector<TestBlock> blocks = MakePrompt(1, 1);
  RemoteStoreOptions options = Options(server);
  options.ttl = absl::Seconds(1000);
  const auto store = *RemoteStore::Create(std::move(options));
  ASSERT_THAT(WriteAll(*store, blocks), IsOk());
  const std::string key = store->format().Key(blocks[0].identity);
  const auto redis = server.Connect();
  EXPECT_GT(redis->Call({"TTL", key})->integer, 990);
  ASSERT_THAT(redis->Call({"EXPIRE", key, "10"}), IsOk());
  EXPECT_EQ(store->Find(Names(blocks)).value_or(0), 1u);
  EXPECT_GT(redis->Call({"TTL", key})->integer, 990);

  RemoteStoreOptions forever = Options(server);
  forever.ttl = absl::ZeroDuration();
  const auto other = *RemoteStore::Create(std::move(forever));
  ASSERT_THAT(WriteAll(*other, {MakePrompt(2, 1)[0]}), IsOk());
  EXPECT_EQ(redis->Call({"TTL", other->format().Key(MakePrompt(2, 1)[0].identity)})->integer, -1);
}

TEST_F(RemoteStoreTest, BlocksThatAreGoneFailAloneAndAreNoDamage) {
  const RedisServer server;
  const std::vector<TestBlock> blocks = MakePrompt(1, 6);
  const auto store = Open(server);
  LinkWorld world(*store, 12);
  ASSERT_THAT(world.Spill(1, blocks, 0, 0).status, IsOk());
  const auto redis = server.Connect();
  ASSERT_THAT(redis->Call({"DEL", store->format().Key(blocks[2].identity)}), IsOk());
  const CopyResult staged = world.Stage(2, blocks, 0, 6);
  EXPECT_EQ(staged.failed, (std::vector<int32_t>{2}));
  EXPECT_TRUE(absl::IsNotFound(staged.status)) << staged.status;
  EXPECT_EQ(staged.corrupt, 0);
  EXPECT_THAT(world.complaints(), IsEmpty());
  EXPECT_EQ(world.HostBlock(6 + 5), blocks[5].bytes);
  EXPECT_EQ(store->stats().blocks_missed, 1);
  EXPECT_EQ(store->stats().breaker_state, 0);
}

TEST_F(RemoteStoreTest, OnlyAValueFoundBadIsRemovedThere) {
  const RedisServer server;
  const std::vector<TestBlock> blocks = MakePrompt(1, 2);
  const auto store = Open(server);
  ASSERT_THAT(WriteAll(*store, blocks), IsOk());
  EXPECT_THAT(store->Drop(BlockId(0)), IsOk());  // loses its slot
  EXPECT_EQ(store->Find(Names(blocks)).value_or(0), 2u);
  const auto redis = server.Connect();
  ASSERT_THAT(redis->Call({"SETRANGE", store->format().Key(blocks[1].identity), "5000", "x"}),
              IsOk());
  LinkWorld world(*store, 4);
  EXPECT_EQ(world.Stage(1, {blocks[1]}, 1, 0).corrupt, 1);
  EXPECT_EQ(store->Find(std::vector{blocks[1].identity}).value_or(9), 0u);
}

TEST_F(RemoteStoreTest, WhatIsErasedIsGoneForOthersToo) {
  const RedisServer server;
  const std::vector<TestBlock> blocks = MakePrompt(1, 2);
  const auto store = Open(server);
  ASSERT_THAT(WriteAll(*store, blocks), IsOk());
  EXPECT_THAT(store->Erase(BlockId(1)), IsOk());
  EXPECT_THAT(store->Erase(BlockId(7)), IsOk());  // empty
  EXPECT_EQ(Open(server)->Find(Names(blocks)).value_or(0), 1u);
}

// One way of damaging the value under `key`; `other`: that of another block.
void Damage(RedisConnection& redis, const std::string& key, const std::string& value,
            const std::string& other, std::mt19937_64& random) {
  std::string bad = value;
  const size_t at = random() % value.size();
  switch (random() % 8) {
    case 0:
      bad.resize(at);
      break;
    case 1:
      bad.append(1 + random() % 64, 'x');
      break;
    case 2:
      bad = other;
      break;
    case 3:  // the record of one, the bytes of another
      bad = value.substr(0, 16 + 128) + other.substr(16 + 128);
      break;
    default:
      bad[at] = static_cast<char>(bad[at] ^ (1 << (random() % 8)));
  }
  ASSERT_NE(bad, value);
  ASSERT_THAT(redis.Call({"SET", key, bad}), IsOk());
}

TEST_F(RemoteStoreTest, AThousandDamagedValuesAreAllFoundAndNoWrongByteIsServed) {
  const RedisServer server;
  const uint64_t seed = 20261122;
  RecordProperty("seed", std::to_string(seed));
  std::mt19937_64 random(seed);
  const auto store = Open(server);
  const auto redis = server.Connect();
  constexpr size_t kBlocks = 20;
  LinkWorld world(*store, 2 * kBlocks);
  int64_t damaged = 0;
  int64_t corrupt = 0;
  int64_t copy = 0;
  for (uint64_t round = 0; damaged < 1000; ++round) {
    const std::vector<TestBlock> blocks = MakePrompt(seed + round, kBlocks);
    ASSERT_THAT(world.Spill(copy++, blocks, 0, 0).status, IsOk());
    std::vector<bool> bad(kBlocks);
    const std::string other = Raw(*redis, store->format().Key(blocks[0].identity));
    for (size_t i = 1; i < kBlocks; ++i) {
      if (random() % 3 == 0) continue;
      const std::string key = store->format().Key(blocks[i].identity);
      Damage(*redis, key, Raw(*redis, key), other, random);
      bad[i] = true;
      ++damaged;
    }
    world.ClearHost();
    const CopyResult staged = world.Stage(copy++, blocks, 0, kBlocks);
    corrupt += staged.corrupt;
    for (size_t i = 0; i < kBlocks; ++i) {
      if (bad[i]) {
        EXPECT_THAT(staged.failed, Contains(static_cast<int32_t>(i))) << "round " << round;
      } else {
        EXPECT_EQ(world.HostBlock(kBlocks + i), blocks[i].bytes) << "round " << round;
      }
    }
    ASSERT_THAT(redis->Call({"FLUSHALL"}), IsOk());
  }
  EXPECT_EQ(corrupt, damaged);
  EXPECT_EQ(store->stats().breaker_state, 0);
}

// Bytes are checked as they arrive; what changes later, between store and reader, shows all the
// same.
TEST_F(RemoteStoreTest, BitsThatFlipBehindTheStoreAreFound) {
  const RedisServer server;
  const std::vector<TestBlock> blocks = MakePrompt(1, 100);
  const auto store = Open(server);
  ASSERT_THAT(WriteAll(*store, blocks), IsOk());
  FaultyStoreOptions options;
  options.seed = 4;
  FaultyStore faulty(*store, options.With(StoreFault::kBitFlip, 0.3));
  LinkWorld world(faulty, 100);
  const CopyResult staged = world.Stage(1, blocks, 0, 0);
  EXPECT_EQ(staged.corrupt, faulty.count(StoreFault::kBitFlip));
  EXPECT_GT(staged.corrupt, 10);
  const std::set<int32_t> failed(staged.failed.begin(), staged.failed.end());
  for (size_t i = 0; i < blocks.size(); ++i) {
    EXPECT_EQ(world.HostBlock(i) == blocks[i].bytes, !failed.contains(static_cast<int32_t>(i)));
  }
}

TEST_F(RemoteStoreTest, AKeyOfAnotherTypeIsDamage) {
  const RedisServer server;
  const std::vector<TestBlock> blocks = MakePrompt(1, 1);
  const auto store = Open(server);
  ASSERT_THAT(WriteAll(*store, blocks), IsOk());
  const auto redis = server.Connect();
  const std::string key = store->format().Key(blocks[0].identity);
  ASSERT_THAT(redis->Call({"DEL", key}), IsOk());
  ASSERT_THAT(redis->Call({"LPUSH", key, "x"}), IsOk());
  std::vector<std::byte> bytes;
  EXPECT_TRUE(absl::IsDataLoss(ReadBack(*store, BlockId(0), blocks[0].identity, &bytes)));
}

TEST_F(RemoteStoreTest, ALimitWithoutRoomForABlockIsRefused) {
  const RedisServer server;
  RemoteStoreOptions options = Options(server);
  options.limit = Bytes(100);
  const absl::Status status = RemoteStore::Create(std::move(options)).status();
  EXPECT_TRUE(absl::IsInvalidArgument(status));
  EXPECT_THAT(std::string(status.message()), HasSubstr("one block takes"));
}

}  // namespace
}  // namespace sluice::testing
