#include "backend/kv/checksum.h"

#include <random>
#include <string_view>
#include <vector>

#include "gtest/gtest.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

namespace sluice {
namespace {

uint64_t Of(std::string_view text) { return KvChecksum(std::as_bytes(std::span(text))); }

// Test vectors of XXH3-64 with seed 0: what is on a disk today must verify tomorrow.
TEST(KvChecksumTest, IsXxh3Of64Bits) {
  EXPECT_EQ(Of(""), 0x2d06800538d394c2U);
  EXPECT_EQ(Of("a"), 0xe6c632b61e964e1fU);
  EXPECT_EQ(Of("abc"), 0x78af5f94892f3950U);
}

TEST(KvChecksumTest, EveryFlippedBitShows) {
  std::mt19937_64 random(1);
  std::vector<std::byte> bytes(4100);
  for (std::byte& b : bytes) b = static_cast<std::byte>(random());
  const uint64_t want = KvChecksum(bytes);
  for (size_t bit = 0; bit < bytes.size() * 8; ++bit) {
    bytes[bit / 8] ^= std::byte{1} << (bit % 8);
    ASSERT_NE(KvChecksum(bytes), want) << "seed 1, bit " << bit;
    bytes[bit / 8] ^= std::byte{1} << (bit % 8);
  }
  EXPECT_EQ(KvChecksum(bytes), want);
}

TEST(KvChecksumTest, DoesNotDependOnWhereTheBytesLie) {
  std::vector<std::byte> bytes(70000 + 64);
  std::mt19937_64 random(2);
  for (size_t i = 0; i < 70000; ++i) bytes[i] = static_cast<std::byte>(random());
  const uint64_t want = KvChecksum(std::span(bytes).first(70000));
  for (const size_t shift : {1, 3, 32, 63}) {
    std::vector<std::byte> moved(bytes.size());
    std::copy_n(bytes.begin(), 70000, moved.begin() + static_cast<std::ptrdiff_t>(shift));
    EXPECT_EQ(KvChecksum(std::span(moved).subspan(shift, 70000)), want);
  }
}

// Vectors of any width give what the library gives without them.
TEST(KvChecksumTest, IsTheSameOnEveryProcessor) {
  std::vector<std::byte> bytes(20000);
  std::mt19937_64 random(3);
  for (std::byte& b : bytes) b = static_cast<std::byte>(random());
  for (size_t size = 0; size < bytes.size(); size = size < 600 ? size + 1 : size * 5 / 4) {
    const uint64_t seed = random();
    ASSERT_EQ(KvChecksum(std::span(bytes).first(size), seed),
              XXH3_64bits_withSeed(bytes.data(), size, seed))
        << "seed 3, " << size << " bytes";
  }
}

}  // namespace
}  // namespace sluice
