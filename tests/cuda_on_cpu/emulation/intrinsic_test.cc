// Intrinsics and atomics: bit by bit against plain statements, on random words.
#include <gtest/gtest.h>

#include <bitset>
#include <cmath>
#include <limits>
#include <random>
#include <thread>
#include <vector>

#include "backend/cuda/gpu/device.h"

namespace sluice {
namespace {

std::vector<uint32_t> Words() {
  std::vector<uint32_t> words = {0, 1, 2, 0x80000000u, 0xffffffffu, 0x00010000u};
  std::mt19937 random(9);
  for (int i = 0; i < 200; ++i) words.push_back(random() >> (random() % 32));
  return words;
}

TEST(Intrinsics, CountAndFindBits) {
  for (const uint32_t w : Words()) {
    const std::bitset<32> bits(w);
    int first = -1;
    int last = -1;
    unsigned reversed = 0;
    for (int i = 0; i < 32; ++i) {
      if (!bits[static_cast<size_t>(i)]) continue;
      if (first < 0) first = i;
      last = i;
      reversed |= 1u << (31 - i);
    }
    EXPECT_EQ(__popc(w), static_cast<int>(bits.count()));
    EXPECT_EQ(__popcll(uint64_t{w} << 32 | w), 2 * static_cast<int>(bits.count()));
    EXPECT_EQ(__ffs(static_cast<int>(w)), first + 1);
    EXPECT_EQ(__clz(static_cast<int>(w)), 31 - last);
    EXPECT_EQ(__brev(w), reversed);
  }
}

TEST(Intrinsics, BytePermTakesTheSelectedBytes) {
  // Bytes 0 to 3 are those of the first word, 4 to 7 those of the second.
  EXPECT_EQ(__byte_perm(0x33221100u, 0x77665544u, 0x3210), 0x33221100u);
  EXPECT_EQ(__byte_perm(0x33221100u, 0x77665544u, 0x7654), 0x77665544u);
  EXPECT_EQ(__byte_perm(0x33221100u, 0x77665544u, 0x0426), 0x00442266u);
}

TEST(Intrinsics, HighProductRoundingAndSaturation) {
  EXPECT_EQ(__umulhi(0x80000000u, 6), 3u);
  EXPECT_EQ(__float2int_rn(2.5f), 2);
  EXPECT_EQ(__float2int_rn(3.5f), 4);
  EXPECT_EQ(__float2int_rn(-2.5f), -2);
  EXPECT_EQ(__saturatef(-1), 0);
  EXPECT_EQ(__saturatef(0.25f), 0.25f);
  EXPECT_EQ(__saturatef(7), 1);
  EXPECT_EQ(__saturatef(std::numeric_limits<float>::quiet_NaN()), 0);
  EXPECT_EQ(__fmaf_rn(1 + 0x1p-12f, 1 + 0x1p-12f, -1), 0x1p-11f + 0x1p-24f);  // one rounding
}

TEST(Intrinsics, PackingPutsTheFirstNumberIntoTheLowHalf) {
  const uint32_t word = gpu::pack_bf16(1.5f, -2.0f);
  EXPECT_EQ(word, 0xc0003fc0u);
  EXPECT_EQ(gpu::bf16_lo(word), 1.5f);
  EXPECT_EQ(gpu::bf16_hi(word), -2.0f);
  EXPECT_EQ(gpu::pack_f16(1.0f, -2.0f), 0xc0003c00u);
}

TEST(Atomics, ReturnTheOldValueAndStoreTheNew) {
  int i = 5;
  EXPECT_EQ(atomicAdd(&i, 3), 5);
  EXPECT_EQ(atomicSub(&i, 1), 8);
  EXPECT_EQ(atomicMax(&i, 20), 7);
  EXPECT_EQ(atomicMax(&i, 3), 20);
  EXPECT_EQ(atomicMin(&i, 6), 20);
  EXPECT_EQ(atomicExch(&i, 9), 6);
  EXPECT_EQ(atomicCAS(&i, 1, 100), 9);
  EXPECT_EQ(atomicCAS(&i, 9, 100), 9);
  EXPECT_EQ(i, 100);
  unsigned u = 0b1100;
  EXPECT_EQ(atomicOr(&u, 0b0001u), 0b1100u);
  EXPECT_EQ(atomicAnd(&u, 0b0101u), 0b1101u);
  EXPECT_EQ(u, 0b0101u);
  EXPECT_EQ(atomicInc(&u, 6), 5u);
  EXPECT_EQ(atomicInc(&u, 6), 6u);
  EXPECT_EQ(u, 0u);  // wraps at the limit
  float f = 1.5f;
  EXPECT_EQ(atomicAdd(&f, 0.25f), 1.5f);
  EXPECT_EQ(f, 1.75f);
  unsigned long long wide = 1ull << 40;
  EXPECT_EQ(atomicAdd(&wide, 2), 1ull << 40);
  EXPECT_EQ(wide, (1ull << 40) + 2);
}

TEST(Atomics, LoseNothingBetweenThreads) {
  float sum = 0;
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&sum] {
      for (int i = 0; i < 5000; ++i) atomicAdd(&sum, 1.0f);
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(sum, 20000);
}

}  // namespace
}  // namespace sluice
