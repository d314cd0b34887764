// A thousand injections into the files of a store that is in use, through the link that serves
// reads: every damaged block is found, counted once and named; every other one arrives intact; and
// what was found bad can be written again.
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <random>
#include <set>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/backend/kv/link_world.h"

namespace sluice::testing {
namespace {

constexpr size_t kBlocks = 48;
constexpr int64_t kSlotBytes = 3 * 4096;

class DiskInjection {
 public:
  explicit DiskInjection(uint64_t seed)
      : random_(seed), store_(OpenStore(Quick())), world_(*store_, kBlocks) {
    blocks_ = MakePrompt(random_(), kBlocks, seed % 2);
    path_ = store_->directory() + "/segment-000000";
    Write();
  }

  // Harms some blocks in one way each, and reads all. Returns how many were harmed.
  size_t Round() {
    std::set<int32_t> harmed;
    const size_t count = 1 + random_() % 12;
    while (harmed.size() < count) {
      const auto slot = static_cast<int32_t>(random_() % kBlocks);
      if (harmed.insert(slot).second) Harm(slot);
    }
    if (random_() % 8 == 0) Cut(&harmed);
    Check(harmed);
    Write();  // in the same slots
    Check({});
    return harmed.size();
  }

 private:
  DiskStoreOptions Quick() const {
    DiskStoreOptions options = SmallStore(dir_);
    options.io = FileIoMethod::kThreads;
    options.direct = false;
    return options;
  }

  void Write() {
    ASSERT_THAT(world_.Spill(++copy_, blocks_, 0, 0).status, IsOk());
    world_.ClearHost();
  }

  void Check(const std::set<int32_t>& harmed) {
    const CopyResult result = world_.Stage(++copy_, blocks_, 0, 0);
    EXPECT_EQ(result.status.ok(), harmed.empty()) << result.status;
    if (!harmed.empty()) {
      EXPECT_EQ(result.status.code(), absl::StatusCode::kDataLoss);
    }
    const std::set<int32_t> failed(result.failed.begin(), result.failed.end());
    EXPECT_EQ(failed, harmed);
    EXPECT_EQ(result.corrupt, static_cast<int32_t>(harmed.size()));
    for (size_t i = 0; i < kBlocks; ++i) {
      if (failed.contains(static_cast<int32_t>(i))) continue;
      EXPECT_EQ(world_.HostBlock(i), blocks_[i].bytes) << "wrong bytes were served";
    }
    world_.ClearHost();
  }

  void WithFile(const std::function<void(int)>& change) const {
    const int file = open(path_.c_str(), O_RDWR);
    ASSERT_GE(file, 0);
    change(file);
    close(file);
  }

  // A flipped bit, other bytes, zeros (as after a hole), or another block's bytes.
  void Harm(int32_t slot) {
    const int64_t at = slot * kSlotBytes;
    std::vector<char> bytes(static_cast<size_t>(kSlotBytes));
    WithFile([&](int file) {
      ASSERT_EQ(pread(file, bytes.data(), bytes.size(), at), kSlotBytes);
      switch (random_() % 8) {
        case 0:
          std::fill(bytes.begin(), bytes.end(), '\0');
          break;
        case 1: {
          const auto other = static_cast<int32_t>((slot + 1) % static_cast<int32_t>(kBlocks));
          const auto& from = blocks_[static_cast<size_t>(other)].bytes;
          std::memcpy(bytes.data(), from.data(), bytes.size());
          break;
        }
        case 2:
          for (size_t i = 0; i < 512; ++i) bytes[4096 + i] = static_cast<char>(random_());
          break;
        default: {
          const size_t byte = random_() % bytes.size();
          bytes[byte] = static_cast<char>(bytes[byte] ^ (1 << (random_() % 8)));
        }
      }
      ASSERT_EQ(pwrite(file, bytes.data(), bytes.size(), at), kSlotBytes);
    });
  }

  // The end of the file is gone, and all blocks that reach into it.
  void Cut(std::set<int32_t>* harmed) {
    const auto keep = static_cast<int64_t>(random_() % (kBlocks * kSlotBytes));
    std::filesystem::resize_file(path_, static_cast<uintmax_t>(keep));
    for (auto slot = static_cast<int32_t>(keep / kSlotBytes); slot < static_cast<int32_t>(kBlocks);
         ++slot) {
      harmed->insert(slot);
    }
  }

  const TempDir dir_;
  std::mt19937_64 random_;
  const std::unique_ptr<DiskStore> store_;
  LinkWorld world_;
  std::vector<TestBlock> blocks_;
  std::string path_;
  int64_t copy_ = 0;
};

TEST(DiskInjectionTest, AThousandInjectionsAreEachFoundCountedAndNothingElseIs) {
  size_t injected = 0;
  for (uint64_t seed = 0; injected < 1000; ++seed) {
    SCOPED_TRACE(::testing::Message() << "seed " << seed);
    DiskInjection injection(seed);
    for (int i = 0; i < 8; ++i) injected += injection.Round();
    ASSERT_FALSE(::testing::Test::HasFailure());
  }
}

// Records that are flipped are dropped, and counted, with the blocks behind them, when the store is
// opened; whatever is left is right.
TEST(DiskInjectionTest, EveryFlippedRecordIsMissedOrMissesNothing) {
  int64_t broken = 0;
  for (uint64_t seed = 0; seed < 60; ++seed) {
    SCOPED_TRACE(::testing::Message() << "seed " << seed);
    const TempDir dir;
    DiskStoreOptions options = SmallStore(dir);
    options.io = FileIoMethod::kThreads;
    options.direct = false;
    std::mt19937_64 random(seed);
    const std::vector<TestBlock> prompt = MakePrompt(seed, 20);
    std::string path;
    {
      const std::unique_ptr<DiskStore> store = OpenStore(options);
      ASSERT_THAT(WriteAll(*store, prompt), IsOk());
      path = store->directory() + "/records";
    }
    const int file = open(path.c_str(), O_RDWR);
    ASSERT_GE(file, 0);
    const off_t size = lseek(file, 0, SEEK_END);
    for (int i = 0; i < 10; ++i) {
      const auto at = static_cast<off_t>(random() % static_cast<uint64_t>(size));
      unsigned char byte = 0;
      ASSERT_EQ(pread(file, &byte, 1, at), 1);
      byte = static_cast<unsigned char>(byte ^ (1U << (random() % 8)));
      ASSERT_EQ(pwrite(file, &byte, 1, at), 1);
    }
    close(file);
    StoreContent content;
    const std::unique_ptr<DiskStore> store = OpenStore(options, &content);
    broken += content.broken;
    for (const StoredBlock& found : content.blocks) {
      const auto it = std::find_if(prompt.begin(), prompt.end(), [&](const TestBlock& block) {
        return block.identity == found.identity;
      });
      ASSERT_NE(it, prompt.end()) << "a block that never was";
      EXPECT_TRUE(std::equal(found.tokens.begin(), found.tokens.end(), it->tokens.begin()));
      std::vector<std::byte> bytes;
      ASSERT_THAT(ReadBack(*store, found.slot, found.identity, &bytes), IsOk());
      EXPECT_EQ(bytes, it->bytes);
    }
  }
  EXPECT_GT(broken, 100) << "the harm was none";
}

}  // namespace
}  // namespace sluice::testing
