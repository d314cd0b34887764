#include "backend/kv/disk_store.h"

#include <sys/mount.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>

#include "tests/backend/kv/store_fixture.h"

namespace sluice::testing {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

struct Mode {
  FileIoMethod io;
  bool direct;
  int64_t payload;  // 3 layers
};

std::string ModeName(const ::testing::TestParamInfo<Mode>& mode) {
  return std::string(mode.param.io == FileIoMethod::kThreads ? "Threads" : "Uring") +
         (mode.param.direct ? "Direct" : "Cached") + std::to_string(mode.param.payload);
}

class DiskStoreTest : public ::testing::TestWithParam<Mode> {
 protected:
  void SetUp() override {
    if (GetParam().io == FileIoMethod::kUring && !FileIo::Create(GetParam().io).ok()) {
      GTEST_SKIP() << "io_uring is not allowed here";
    }
  }
  StoreShape Shape() const { return SmallShape(GetParam().payload); }
  DiskStoreOptions Options(int64_t slots = 64) const {
    DiskStoreOptions options = SmallStore(dir_, slots, Shape());
    options.io = GetParam().io;
    options.direct = GetParam().direct;
    return options;
  }
  std::vector<TestBlock> Prompt(uint64_t seed, size_t count) const {
    return MakePrompt(seed, count, 0, Shape());
  }

  const TempDir dir_;
};

TEST_P(DiskStoreTest, BlocksComeBackAfterTheyWereWrittenAndAfterARestart) {
  const std::vector<TestBlock> blocks = Prompt(1, 40);
  std::unique_ptr<DiskStore> store = OpenStore(Options());
  EXPECT_EQ(store->shape().slots, Blocks(64));
  ASSERT_THAT(WriteAll(*store, blocks, 3), IsOk());
  std::vector<std::byte> bytes;
  for (const bool restarted : {false, true}) {
    if (restarted) {
      store.reset();
      StoreContent content;
      store = OpenStore(Options(), &content);
      ASSERT_THAT(content.blocks, SizeIs(40));
      EXPECT_EQ(content.broken + content.orphans, 0);
      for (size_t i = 0; i < 40; ++i) {  // oldest first
        EXPECT_EQ(content.blocks[i].slot, BlockId(static_cast<int32_t>(3 + i)));
        EXPECT_EQ(content.blocks[i].identity, blocks[i].identity);
        EXPECT_TRUE(std::equal(blocks[i].tokens.begin(), blocks[i].tokens.end(),
                               content.blocks[i].tokens.begin()));
      }
    }
    for (size_t i = 0; i < blocks.size(); ++i) {
      const BlockId slot(static_cast<int32_t>(3 + i));
      EXPECT_THAT(ReadBack(*store, slot, blocks[i].identity, &bytes), IsOk());
      EXPECT_EQ(bytes, blocks[i].bytes);
    }
  }
}

TEST_P(DiskStoreTest, LayersCanBeReadAlone) {
  const std::vector<TestBlock> blocks = Prompt(2, 2);
  const std::unique_ptr<DiskStore> store = OpenStore(Options());
  ASSERT_THAT(WriteAll(*store, blocks), IsOk());
  const Bytes layer = store->shape().layer_bytes();
  for (int64_t first = 0; first < 3; ++first) {
    for (int64_t count = 1; first + count <= 3; ++count) {
      std::vector<std::byte> out(static_cast<size_t>(count) * layer.size());
      std::vector<StoreRead> reads(1);
      reads[0].slot = BlockId(1);
      reads[0].first_layer = first;
      reads[0].out = out;
      store->Read(reads, [&](size_t) {
        ASSERT_THAT(reads[0].status, IsOk());
        EXPECT_THAT(CheckPayload(reads[0].record, blocks[1].identity, out, layer, first), IsOk());
      });
      EXPECT_TRUE(
          std::equal(out.begin(), out.end(),
                     blocks[1].bytes.begin() + static_cast<std::ptrdiff_t>(layer.size()) * first));
    }
  }
}

TEST_P(DiskStoreTest, ASlotHoldsWhatWasWrittenLast) {
  const std::vector<TestBlock> first = Prompt(3, 4);
  const std::vector<TestBlock> second = Prompt(4, 4);
  std::unique_ptr<DiskStore> store = OpenStore(Options());
  ASSERT_THAT(WriteAll(*store, first), IsOk());
  ASSERT_THAT(WriteAll(*store, second), IsOk());
  std::vector<std::byte> bytes;
  EXPECT_THAT(ReadBack(*store, BlockId(2), second[2].identity, &bytes), IsOk());
  EXPECT_THAT(ReadBack(*store, BlockId(2), first[2].identity, &bytes),
              StatusIs(absl::StatusCode::kDataLoss, HasSubstr("another block")));
  store.reset();
  StoreContent content;
  store = OpenStore(Options(), &content);
  EXPECT_THAT(content.blocks, SizeIs(4));
}

TEST_P(DiskStoreTest, WhatWasDroppedIsGoneForGood) {
  const std::vector<TestBlock> blocks = Prompt(5, 3);
  std::unique_ptr<DiskStore> store = OpenStore(Options());
  ASSERT_THAT(WriteAll(*store, blocks), IsOk());
  ASSERT_THAT(store->Drop(BlockId(2)), IsOk());
  ASSERT_THAT(store->Drop(BlockId(2)), IsOk());
  std::vector<std::byte> bytes;
  EXPECT_THAT(ReadBack(*store, BlockId(2), blocks[2].identity, &bytes),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("empty")));
  store.reset();
  StoreContent content;
  store = OpenStore(Options(), &content);
  EXPECT_THAT(content.blocks, SizeIs(2));
}

INSTANTIATE_TEST_SUITE_P(Modes, DiskStoreTest,
                         ::testing::Values(Mode{FileIoMethod::kUring, true, 3 * 4096},
                                           Mode{FileIoMethod::kUring, true, 3 * 1000},
                                           Mode{FileIoMethod::kUring, false, 3 * 1000},
                                           Mode{FileIoMethod::kThreads, true, 3 * 4096},
                                           Mode{FileIoMethod::kThreads, false, 3 * 5000}),
                         ModeName);

class DiskStoreFilesTest : public ::testing::Test {
 protected:
  std::string Folder() const { return dir_.File(SmallSpace().Id()); }
  const TempDir dir_;
};

TEST_F(DiskStoreFilesTest, ABlockWithoutItsPrefixIsNotFoundAgain) {
  const std::vector<TestBlock> blocks = MakePrompt(6, 6);
  std::unique_ptr<DiskStore> store = OpenStore(SmallStore(dir_));
  ASSERT_THAT(WriteAll(*store, blocks), IsOk());
  ASSERT_THAT(store->Drop(BlockId(2)), IsOk());
  for (const int64_t orphans : {3, 0}) {  // the second time they are gone
    store.reset();
    StoreContent content;
    store = OpenStore(SmallStore(dir_), &content);
    EXPECT_THAT(content.blocks, SizeIs(2));
    EXPECT_EQ(content.orphans, orphans);
  }
}

TEST_F(DiskStoreFilesTest, ABlockWrittenBeforeItsPrefixWasThereStaysUnused) {
  const std::vector<TestBlock> blocks = MakePrompt(7, 2);
  std::unique_ptr<DiskStore> store = OpenStore(SmallStore(dir_));
  ASSERT_THAT(WriteAll(*store, {blocks[1]}, 1), IsOk());
  ASSERT_THAT(WriteAll(*store, {blocks[0]}, 0), IsOk());
  store.reset();
  StoreContent content;
  store = OpenStore(SmallStore(dir_), &content);
  EXPECT_THAT(content.blocks, SizeIs(1));
  EXPECT_EQ(content.orphans, 1);
}

// Two prompts whose first blocks have one hash, as somebody could arrange.
TEST_F(DiskStoreFilesTest, ABlockIsNeverHungBehindAnotherOneOfTheSameHash) {
  std::vector<TestBlock> theirs = MakePrompt(8, 2);
  TestBlock ours = MakePrompt(9, 1)[0];
  ours.identity.hash = theirs[0].identity.hash;
  std::unique_ptr<DiskStore> store = OpenStore(SmallStore(dir_));
  ASSERT_THAT(WriteAll(*store, theirs), IsOk());
  ASSERT_THAT(WriteAll(*store, {ours}, 0), IsOk());  // their first block had to go
  store.reset();
  StoreContent content;
  store = OpenStore(SmallStore(dir_), &content);
  ASSERT_THAT(content.blocks, SizeIs(1));
  EXPECT_EQ(content.blocks[0].tokens[0], ours.tokens[0]);
  EXPECT_EQ(content.orphans, 1) << "their second block, behind what is now ours";
}

TEST_F(DiskStoreFilesTest, AnotherModelTypeOrLayoutFindsNothing) {
  const std::vector<TestBlock> blocks = MakePrompt(10, 4);
  ASSERT_THAT(WriteAll(*OpenStore(SmallStore(dir_)), blocks), IsOk());
  std::vector<DiskNamespace> others(6, SmallSpace());
  others[0].model[3] = 'f';
  others[1].dtype = "f32";
  others[2].codec = "int8";
  others[3].shape.layers = 4;
  others[4].shape.tokens_per_block = Tokens(8);
  others[5].names = "sha256";
  for (const DiskNamespace& other : others) {
    EXPECT_NE(other.Id(), SmallSpace().Id());
    EXPECT_NE(other.Seed(), SmallSpace().Seed());
    DiskStoreOptions options = SmallStore(dir_);
    options.space = other;
    StoreContent content;
    OpenStore(options, &content);
    EXPECT_THAT(content.blocks, IsEmpty()) << other.ToJson();
    const auto read = DiskNamespace::FromJson(other.ToJson(), "here");
    ASSERT_THAT(read, IsOk());
    EXPECT_EQ(read->Id(), other.Id());
  }
  DiskNamespace renamed = SmallSpace();
  renamed.name = "another name for the same";
  EXPECT_EQ(renamed.Id(), SmallSpace().Id());
}

TEST_F(DiskStoreFilesTest, RecordsOfAnotherFolderAreNotBelieved) {
  ASSERT_THAT(WriteAll(*OpenStore(SmallStore(dir_)), MakePrompt(11, 4)), IsOk());
  DiskStoreOptions other = SmallStore(dir_);
  other.space.model = "another";
  OpenStore(other);
  std::filesystem::copy_file(Folder() + "/records", dir_.File(other.space.Id()) + "/records",
                             std::filesystem::copy_options::overwrite_existing);
  StoreContent content;
  OpenStore(other, &content);
  EXPECT_THAT(content.blocks, IsEmpty());
}

TEST_F(DiskStoreFilesTest, ASmallerLimitKeepsWhatFits) {
  ASSERT_THAT(WriteAll(*OpenStore(SmallStore(dir_, 64)), MakePrompt(12, 60)), IsOk());
  StoreContent content;
  std::unique_ptr<DiskStore> store = OpenStore(SmallStore(dir_, 10), &content);
  EXPECT_EQ(store->shape().slots, Blocks(10));
  EXPECT_THAT(content.blocks, SizeIs(10));
  store.reset();
  store = OpenStore(SmallStore(dir_, 64), &content);
  EXPECT_THAT(content.blocks, SizeIs(10)) << "the rest is gone";
}

TEST_F(DiskStoreFilesTest, TheLimitIsNotExceeded) {
  const DiskStoreOptions options = SmallStore(dir_, 50);
  const std::unique_ptr<DiskStore> store = OpenStore(options);
  ASSERT_THAT(WriteAll(*store, MakePrompt(13, 50)), IsOk());
  int64_t bytes = 0;
  for (const auto& file : std::filesystem::directory_iterator(Folder())) {
    bytes += static_cast<int64_t>(file.file_size());
  }
  EXPECT_LE(bytes, options.limit.value() + 2 * 4096);  // a page of each kind of description
}

TEST_F(DiskStoreFilesTest, ALimitWithoutRoomForABlockIsRefused) {
  DiskStoreOptions options = SmallStore(dir_);
  options.limit = Bytes(100);
  EXPECT_THAT(DiskStore::Open(options),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(HasSubstr("100 bytes"), HasSubstr("one block takes"))));
}

TEST_F(DiskStoreFilesTest, TheDirectoryIsLockedWhileAStoreIsOpen) {
  const std::unique_ptr<DiskStore> store = OpenStore(SmallStore(dir_));
  DiskStoreOptions other = SmallStore(dir_);
  other.space.model = "another";
  EXPECT_THAT(DiskStore::Open(other),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("in use by process")));
}

TEST_F(DiskStoreFilesTest, AnEmptiedRecordFileIsBegunAnew) {
  ASSERT_THAT(WriteAll(*OpenStore(SmallStore(dir_)), MakePrompt(14, 4)), IsOk());
  for (const std::string& damage : {std::string(), std::string(5000, 'x')}) {
    std::ofstream(Folder() + "/records", std::ios::trunc) << damage;
    StoreContent content;
    std::unique_ptr<DiskStore> store = OpenStore(SmallStore(dir_), &content);
    EXPECT_THAT(content.blocks, IsEmpty());
    EXPECT_THAT(WriteAll(*store, MakePrompt(15, 4)), IsOk());
  }
}

// A file system of its own that is soon full. Needs the right to mount.
class TinyDisk {
 public:
  explicit TinyDisk(const std::string& path) : path_(path) {
    std::filesystem::create_directory(path);
    mounted_ = mount("tmpfs", path.c_str(), "tmpfs", 0, "size=400k") == 0;
  }
  ~TinyDisk() {
    if (mounted_) umount2(path_.c_str(), MNT_DETACH);
  }
  bool mounted() const { return mounted_; }

 private:
  const std::string path_;
  bool mounted_ = false;
};

TEST_F(DiskStoreFilesTest, AFullDiskFailsWritesAndKeepsWhatItHas) {
  const TinyDisk tiny(dir_.File("tiny"));
  if (!tiny.mounted()) GTEST_SKIP() << "no right to mount a small file system";
  DiskStoreOptions options = SmallStore(dir_, 1000);
  options.directory = dir_.File("tiny");
  std::unique_ptr<DiskStore> store = OpenStore(options);
  const std::vector<TestBlock> blocks = MakePrompt(16, 60);
  std::vector<StoreWrite> writes;
  for (size_t i = 0; i < blocks.size(); ++i) {
    writes.push_back({BlockId(static_cast<int32_t>(i)), blocks[i].bytes, absl::OkStatus()});
  }
  store->Write(writes, [&](size_t i) { return Seal(*store, blocks[i]); });
  std::vector<std::byte> bytes;
  size_t good = 0;
  for (size_t i = 0; i < blocks.size(); ++i) {
    if (!writes[i].status.ok()) {
      EXPECT_THAT(writes[i].status,
                  StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("No space left")));
      continue;
    }
    ++good;
    EXPECT_THAT(ReadBack(*store, writes[i].slot, blocks[i].identity, &bytes), IsOk());
    EXPECT_EQ(bytes, blocks[i].bytes);
  }
  EXPECT_GT(good, 10U);
  EXPECT_LT(good, 40U);
  store.reset();
  StoreContent content;
  store = OpenStore(options, &content);
  EXPECT_LE(content.blocks.size(), good);
  for (const StoredBlock& block : content.blocks) {
    EXPECT_THAT(ReadBack(*store, block.slot, block.identity, &bytes), IsOk());
  }
}

}  // namespace
}  // namespace sluice::testing
