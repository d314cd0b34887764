// Every codec on random shapes and numbers, on every instruction set of this CPU: equal to the
// oracle number by number, within the stated bounds, and the same bytes everywhere.
#include <algorithm>
#include <random>
#include <span>
#include <vector>

#include "absl/strings/str_cat.h"
#include "backend/kv/kv_codec.h"
#include "gtest/gtest.h"
#include "tests/backend/cpu/highway_targets.h"
#include "tests/backend/kv/codec_oracle.h"

namespace sluice {
namespace {

using testing::ForEachHighwayTarget;
using testing::FromElements;
using testing::OracleRoundTrip;
using testing::OracleSlice;
using testing::ToElements;

struct Case {
  KvShape shape;
  KvCodecKind kind = KvCodecKind::kInt8;
  int64_t group = 64;
  KvScaleAxis key_axis = KvScaleAxis::kToken;
  std::vector<float> numbers;
};

class Generator {
 public:
  explicit Generator(uint64_t seed) : random_(seed) {}

  Case Make() {
    Case c;
    c.shape.layers = 1;
    c.shape.block_tokens = Pick({16, 32, 48, 64, 256});
    c.shape.kv_heads = Pick({1, 2, 3, 5, 8});
    c.shape.head_dim = Pick({2, 18, 32, 64, 80, 96, 128, 256});
    c.shape.element = random_() % 2 == 0 ? KvElement::kF32 : KvElement::kBF16;
    if (c.shape.half_elements() > 32768) c.shape.block_tokens = 16;
    c.kind = static_cast<KvCodecKind>(1 + random_() % 3);
    c.group = Pick({16, 32, 50, 64, 128, 256});
    const bool channel = c.kind != KvCodecKind::kFp8 && random_() % 2 == 0;
    c.key_axis = channel ? KvScaleAxis::kChannel : KvScaleAxis::kToken;
    Fill(c);
    return c;
  }

 private:
  int64_t Pick(std::vector<int64_t> choices) { return choices[random_() % choices.size()]; }

  // A kind of number per stretch, so that groups meet all of them, alone and mixed.
  void Fill(Case& c) {
    std::normal_distribution<float> normal;
    c.numbers.resize(static_cast<size_t>(2 * c.shape.half_elements()));
    uint64_t kind = 0;
    for (size_t i = 0; i < c.numbers.size(); ++i) {
      if (random_() % 97 == 0) kind = random_() % 9;
      float x = normal(random_);
      if (kind == 1) x *= 1000;
      if (kind == 2) x = 0;
      if (kind == 3) x = std::ldexp(x, -130);  // mostly denormal
      if (kind == 4) x = std::copysign(std::ldexp(1.0F, 120), x);
      if (kind == 5) x = 7.25F;
      if (kind == 6) x = std::ldexp(std::round(x * 16), -4);  // ties
      if (kind == 7) x = 100 + x;
      if (kind == 8) x = std::ldexp(x, static_cast<int>(random_() % 40) - 30);
      c.numbers[i] =
          c.shape.element == KvElement::kBF16 ? testing::RoundToBf16(static_cast<double>(x)) : x;
    }
  }

  std::mt19937_64 random_;
};

std::string Name(const Case& c) {
  return absl::StrCat(std::string(KvCodecKindName(c.kind)), " group ", c.group,
                      c.key_axis == KvScaleAxis::kChannel ? " channel " : " token ", "tokens ",
                      c.shape.block_tokens, " heads ", c.shape.kv_heads, " dim ", c.shape.head_dim,
                      c.shape.element == KvElement::kF32 ? " f32" : " bf16");
}

class KvCodecPropertyTest : public ::testing::TestWithParam<int> {};

TEST_P(KvCodecPropertyTest, AgreesWithTheOracleOnEveryInstructionSet) {
  const auto seed = static_cast<uint64_t>(GetParam());
  const Case c = Generator(seed).Make();
  SCOPED_TRACE(absl::StrCat("seed ", seed, ": ", Name(c)));
  const auto codec = KvCodec::Create(c.shape, {c.kind, c.group, c.key_axis});
  ASSERT_TRUE(codec.ok()) << codec.status();
  const OracleSlice want = OracleRoundTrip(c.shape, c.kind, c.group, c.key_axis, c.numbers);
  const std::vector<std::byte> slice = ToElements(c.shape, c.numbers);
  std::vector<std::byte> first;
  ForEachHighwayTarget([&] {
    std::vector<std::byte> encoded(codec->encoded_slice_bytes().size(), std::byte{0xcd});
    ASSERT_TRUE(codec->EncodeLayer(slice, encoded).ok());
    if (first.empty()) first = encoded;
    ASSERT_EQ(encoded, first);
    std::vector<std::byte> decoded(slice.size());
    codec->DecodeLayer(encoded, decoded);
    const std::vector<float> got = FromElements(c.shape, decoded);
    for (size_t i = 0; i < got.size(); ++i) {
      ASSERT_EQ(got[i], want.decoded[i]) << "number " << i << ", " << c.numbers[i];
      ASSERT_LE(std::abs(static_cast<double>(got[i]) - static_cast<double>(c.numbers[i])),
                want.bound[i])
          << "number " << i << ", " << c.numbers[i];
    }
  });
}

// What was lost once is not lost again: fp8 and int8 of bf16 numbers are their own round trip.
TEST_P(KvCodecPropertyTest, Fp8OfItsOwnResultIsExact) {
  const auto seed = static_cast<uint64_t>(GetParam());
  Case c = Generator(seed).Make();
  SCOPED_TRACE(absl::StrCat("seed ", seed, ": ", Name(c)));
  const auto codec = KvCodec::Create(c.shape, {KvCodecKind::kFp8, c.group, KvScaleAxis::kToken});
  ASSERT_TRUE(codec.ok()) << codec.status();
  std::vector<std::byte> slice = ToElements(c.shape, c.numbers);
  std::vector<std::byte> encoded(codec->encoded_slice_bytes().size());
  ASSERT_TRUE(codec->EncodeLayer(slice, encoded).ok());
  codec->DecodeLayer(encoded, slice);
  ASSERT_TRUE(codec->EncodeLayer(slice, encoded).ok());
  std::vector<std::byte> again(slice.size());
  codec->DecodeLayer(encoded, again);
  EXPECT_EQ(FromElements(c.shape, again), FromElements(c.shape, slice));
}

// Bytes that were damaged, or never were a slice, decode to something without a fault.
TEST_P(KvCodecPropertyTest, DecodesAnyBytes) {
  const auto seed = static_cast<uint64_t>(GetParam());
  const Case c = Generator(seed).Make();
  SCOPED_TRACE(absl::StrCat("seed ", seed, ": ", Name(c)));
  const auto codec = KvCodec::Create(c.shape, {c.kind, c.group, c.key_axis});
  ASSERT_TRUE(codec.ok()) << codec.status();
  std::mt19937_64 random(seed);
  std::vector<std::byte> encoded(codec->encoded_slice_bytes().size());
  for (std::byte& b : encoded) b = static_cast<std::byte>(random());
  std::vector<std::byte> slice(c.shape.slice_bytes().size());
  std::vector<std::byte> again(slice.size(), std::byte{1});
  codec->DecodeLayer(encoded, slice);
  codec->DecodeLayer(encoded, again);
  EXPECT_EQ(slice, again);
}

// Past the caches or not, aligned or not: the same bits, and none beyond them.
TEST_P(KvCodecPropertyTest, StreamingDecodesToTheSameBits) {
  const auto seed = static_cast<uint64_t>(GetParam());
  const Case c = Generator(seed).Make();
  SCOPED_TRACE(absl::StrCat("seed ", seed, ": ", Name(c)));
  const auto codec = KvCodec::Create(c.shape, {c.kind, c.group, c.key_axis});
  ASSERT_TRUE(codec.ok()) << codec.status();
  std::vector<std::byte> encoded(codec->encoded_slice_bytes().size());
  ASSERT_TRUE(codec->EncodeLayer(ToElements(c.shape, c.numbers), encoded).ok());
  const size_t size = c.shape.slice_bytes().size();
  std::vector<std::byte> want(size);
  codec->DecodeLayer(encoded, want);
  ForEachHighwayTarget([&] {
    for (const size_t offset : {0, 4, 16, 32}) {
      std::vector<std::byte> memory(size + 256, std::byte{0x5c});
      const size_t line = (64 - reinterpret_cast<uintptr_t>(memory.data()) % 64) % 64 + 64;
      const std::span<std::byte> slice = std::span(memory).subspan(line + offset, size);
      codec->DecodeLayer(encoded, slice, /*stream=*/true);
      ASSERT_TRUE(std::equal(slice.begin(), slice.end(), want.begin())) << "offset " << offset;
      std::fill(slice.begin(), slice.end(), std::byte{0x5c});
      ASSERT_EQ(std::count(memory.begin(), memory.end(), std::byte{0x5c}), std::ssize(memory));
    }
  });
}

// Some tokens of one head are what the whole layer has there, and nothing else is written.
TEST_P(KvCodecPropertyTest, AHeadDecodesToTheSameBits) {
  const auto seed = static_cast<uint64_t>(GetParam());
  const Case c = Generator(seed).Make();
  SCOPED_TRACE(absl::StrCat("seed ", seed, ": ", Name(c)));
  const auto codec = KvCodec::Create(c.shape, {c.kind, c.group, c.key_axis});
  ASSERT_TRUE(codec.ok()) << codec.status();
  ASSERT_EQ(codec->decodes_heads(), c.key_axis == KvScaleAxis::kToken);
  if (!codec->decodes_heads()) return;
  std::vector<std::byte> encoded(codec->encoded_slice_bytes().size());
  ASSERT_TRUE(codec->EncodeLayer(ToElements(c.shape, c.numbers), encoded).ok());
  std::vector<std::byte> plain(c.shape.slice_bytes().size());
  codec->DecodeLayer(encoded, plain);
  std::mt19937_64 random(seed);
  const auto draw = [&](int64_t below) {
    return static_cast<int64_t>(random() % static_cast<uint64_t>(below));
  };
  const int64_t row = c.shape.head_dim * c.shape.element_bytes();
  ForEachHighwayTarget([&] {
    KvHeadRows rows;
    rows.head = draw(c.shape.kv_heads);
    rows.first = draw(c.shape.block_tokens);
    rows.count = 1 + draw(c.shape.block_tokens - rows.first);
    rows.key_stride = row + 4 * draw(3);
    rows.value_stride = row + 4 * draw(3);
    std::vector<std::byte> keys(static_cast<size_t>(rows.count * rows.key_stride), std::byte{7});
    std::vector<std::byte> values(static_cast<size_t>(rows.count * rows.value_stride),
                                  std::byte{7});
    std::vector<std::byte> want_keys = keys;
    std::vector<std::byte> want_values = values;
    rows.keys = keys.data();
    rows.values = values.data();
    codec->DecodeHead(encoded, rows);
    for (int64_t t = 0; t < rows.count; ++t) {
      const int64_t at = ((rows.first + t) * c.shape.kv_heads + rows.head) * row;
      const auto begin = plain.begin() + at;
      std::copy_n(begin, row, want_keys.begin() + t * rows.key_stride);
      std::copy_n(begin + static_cast<int64_t>(plain.size() / 2), row,
                  want_values.begin() + t * rows.value_stride);
    }
    ASSERT_EQ(keys, want_keys);
    ASSERT_EQ(values, want_values);
  });
}

INSTANTIATE_TEST_SUITE_P(Seeds, KvCodecPropertyTest, ::testing::Range(1, 121),
                         [](const auto& seed) { return absl::StrCat("seed", seed.param); });

}  // namespace
}  // namespace sluice
