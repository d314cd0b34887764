// Files of a store are damaged at random: flipped bits, cut off ends, removed files, swapped
// blocks. Whatever is read afterwards is right or known to be missing.
#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <map>

#include "tests/backend/kv/store_fixture.h"

namespace sluice::testing {
namespace {

constexpr size_t kPrompts = 8;
constexpr size_t kBlocks = 6;

class DiskDamage {
 public:
  explicit DiskDamage(uint64_t seed) : random_(seed) {
    const std::unique_ptr<DiskStore> store = OpenStore(Quick());
    for (size_t p = 0; p < kPrompts; ++p) {
      const std::vector<TestBlock> prompt = MakePrompt(random_(), kBlocks, p % 2);
      EXPECT_THAT(WriteAll(*store, prompt, static_cast<int32_t>(p * kBlocks)), IsOk());
      for (const TestBlock& block : prompt) by_hash_[block.identity.hash.low] = block;
    }
    folder_ = store->directory();
  }

  // Does one harm to a file. Returns whether anything is other than before.
  bool Harm() {
    const std::string segment = folder_ + "/segment-000000";
    const std::string records = folder_ + "/records";
    switch (random_() % 20) {
      case 0:
        return Cut(segment);
      case 1:
        return Cut(records);
      case 2:
        return std::filesystem::remove(random_() % 2 == 0 ? segment : records);
      case 3:
        return CopySlot(segment);
      case 4:
      case 5:
      case 6:
        return Flip(records);
      default:
        return Flip(segment);
    }
  }

  // Opens the store and reads everything. Returns how many blocks are there and right.
  size_t Survivors() {
    StoreContent content;
    const std::unique_ptr<DiskStore> store = OpenStore(Quick(), &content);
    size_t right = 0;
    for (const StoredBlock& found : content.blocks) {
      const auto it = by_hash_.find(found.identity.hash.low);
      if (it == by_hash_.end() || found.identity != it->second.identity ||
          !std::equal(found.tokens.begin(), found.tokens.end(), it->second.tokens.begin())) {
        ADD_FAILURE() << "a block that never was";
        continue;
      }
      std::vector<std::byte> bytes;
      const absl::Status read = ReadBack(*store, found.slot, found.identity, &bytes);
      if (!read.ok()) {
        EXPECT_EQ(read.code(), absl::StatusCode::kDataLoss) << read;
        continue;
      }
      EXPECT_EQ(bytes, it->second.bytes) << "wrong bytes were served";
      ++right;
    }
    return right;
  }

 private:
  // Opened many times: without the ring and the device.
  DiskStoreOptions Quick() const {
    DiskStoreOptions options = SmallStore(dir_);
    options.io = FileIoMethod::kThreads;
    options.direct = false;
    return options;
  }
  int64_t Size(const std::string& path) const {
    std::error_code error;
    const auto size = std::filesystem::file_size(path, error);
    return error ? 0 : static_cast<int64_t>(size);
  }

  // Of the part that is in use.
  bool Flip(const std::string& path) {
    const bool records = path.back() == 's';
    const int64_t used = std::min<int64_t>(Size(path), records ? 20000 : 48 * 3 * 4096);
    if (used == 0) return false;
    const auto at = static_cast<int64_t>(random_() % static_cast<uint64_t>(used));
    std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
    file.seekg(at);
    char byte = 0;
    file.get(byte);
    byte = static_cast<char>(byte ^ (1 << (random_() % 8)));
    file.seekp(at);
    file.put(byte);
    return file.good();
  }

  bool Cut(const std::string& path) {
    const int64_t size = std::min<int64_t>(Size(path), 48 * 3 * 4096);
    if (size == 0) return false;
    std::filesystem::resize_file(path, random_() % static_cast<uint64_t>(size));
    return true;
  }

  // One block's bytes lie where another's should.
  bool CopySlot(const std::string& path) {
    if (Size(path) < 48 * 3 * 4096) return false;
    const auto from = static_cast<int64_t>(random_() % 48);
    const auto to = static_cast<int64_t>(random_() % 48);
    std::vector<char> bytes(3 * 4096);
    std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
    file.seekg(from * 3 * 4096);
    file.read(bytes.data(), static_cast<std::streamsize>(bytes.size()));
    file.seekp(to * 3 * 4096);
    file.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
    return from != to;
  }

  const TempDir dir_;
  std::string folder_;
  std::mt19937_64 random_;
  std::map<uint64_t, TestBlock> by_hash_;
};

TEST(DiskDamageTest, AThousandHarmsServeNoWrongByte) {
  int harms = 0;
  size_t lost = 0;
  size_t kept = 0;
  for (uint64_t seed = 0; harms < 1000; ++seed) {
    SCOPED_TRACE(seed);
    DiskDamage damage(seed);
    ASSERT_EQ(damage.Survivors(), kPrompts * kBlocks) << "before any harm";
    for (int i = 0; i < 10; ++i) harms += damage.Harm() ? 1 : 0;
    const size_t right = damage.Survivors();
    kept += right;
    lost += kPrompts * kBlocks - right;
    ASSERT_FALSE(::testing::Test::HasFailure());
  }
  EXPECT_GT(lost, 500U) << "the harm was none";
  EXPECT_GT(kept, 100U) << "some must survive for this to mean anything";
}

}  // namespace
}  // namespace sluice::testing
