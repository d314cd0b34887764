// Sizes, names, refusals and the corner cases of the KV codecs. Random cases: the property test.
#include "backend/kv/kv_codec.h"

#include <limits>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "scheduler/base/check.h"
#include "tests/backend/cpu/highway_targets.h"
#include "tests/backend/kv/codec_oracle.h"

namespace sluice {
namespace {

using ::testing::ElementsAre;
using testing::ForEachHighwayTarget;
using testing::FromElements;
using ::testing::HasSubstr;
using testing::ToElements;

constexpr KvCodecKind kCoded[] = {KvCodecKind::kFp8, KvCodecKind::kInt8, KvCodecKind::kInt4};

KvShape Llama8bShape() { return {32, 32, 8, 128, KvElement::kBF16}; }
KvShape SmallShape(KvElement element) { return {1, 16, 1, 16, element}; }

KvCodec Make(const KvShape& shape, const KvCodecOptions& options) {
  auto codec = KvCodec::Create(shape, options);
  SLUICE_CHECK(codec.ok());
  return *std::move(codec);
}

// Encodes and decodes a slice of SmallShape whose first numbers are given; the others are zero.
std::vector<float> RoundTrip(const KvShape& shape, const KvCodecOptions& options,
                             std::vector<float> numbers) {
  const KvCodec codec = Make(shape, options);
  const size_t count = numbers.size();
  numbers.resize(static_cast<size_t>(2 * shape.half_elements()));
  const std::vector<std::byte> slice = ToElements(shape, numbers);
  std::vector<std::byte> encoded(codec.encoded_slice_bytes().size());
  EXPECT_TRUE(codec.EncodeLayer(slice, encoded).ok());
  std::vector<std::byte> decoded(slice.size());
  codec.DecodeLayer(encoded, decoded);
  std::vector<float> got = FromElements(shape, decoded);
  got.resize(count);
  return got;
}

TEST(KvCodecTest, SizesAreThoseOfCodesAndScales) {
  const KvShape shape = Llama8bShape();
  const int64_t numbers = 2 * 32 * 8 * 128;
  EXPECT_EQ(shape.slice_bytes(), Bytes(numbers * 2));
  EXPECT_EQ(Make(shape, {KvCodecKind::kRaw}).encoded_slice_bytes(), shape.slice_bytes());
  // One bf16 scale for 128 numbers.
  for (const KvCodecKind kind : {KvCodecKind::kFp8, KvCodecKind::kInt8}) {
    EXPECT_EQ(Make(shape, {kind}).encoded_slice_bytes(), Bytes(numbers + numbers / 128 * 2));
  }
  // Half a byte each, scale and smallest value for 32 numbers: 5 bits.
  const KvCodec int4 = Make(shape, {KvCodecKind::kInt4});
  EXPECT_EQ(int4.encoded_slice_bytes(), Bytes(numbers * 5 / 8));
  EXPECT_EQ(int4.encoded_block_bytes(), Bytes(32 * numbers * 5 / 8));
  EXPECT_DOUBLE_EQ(int4.ratio(), 5.0 / 16);
}

TEST(KvCodecTest, GroupsThatDoNotDivideAHeadOrBlockAreCounted) {
  const KvShape shape = {1, 48, 2, 80, KvElement::kF32};
  // 80 = 64 + 16: two scales per head.
  EXPECT_EQ(Make(shape, {KvCodecKind::kInt8, 64}).encoded_slice_bytes(),
            Bytes(2 * 48 * 2 * (80 + 2 * 2)));
  // K: 48 = 32 + 16 tokens, scale and smallest value; V: 80 = 32 + 32 + 16.
  EXPECT_EQ(Make(shape, {KvCodecKind::kInt4}).encoded_slice_bytes(),
            Bytes(48 * 160 / 2 + 2 * 160 * 4 + 48 * 160 / 2 + 48 * 2 * 3 * 4));
}

TEST(KvCodecTest, NamesTellApartWhatCannotBeDecodedByAnother) {
  const KvShape shape = Llama8bShape();
  EXPECT_EQ(Make(shape, {KvCodecKind::kRaw}).name(), "raw-v1");
  EXPECT_EQ(Make(shape, {KvCodecKind::kFp8}).name(), "fp8-kt128-vt128-v1");
  EXPECT_EQ(Make(shape, {KvCodecKind::kInt8, 32}).name(), "int8-kt32-vt32-v1");
  EXPECT_EQ(Make(shape, {KvCodecKind::kInt4}).name(), "int4-kc32-vt32-v1");
  EXPECT_EQ(Make(shape, {KvCodecKind::kInt4, 32, KvScaleAxis::kToken}).name(), "int4-kt32-vt32-v1");
}

TEST(KvCodecTest, KindsAreParsedFromTheirNames) {
  for (const KvCodecKind kind :
       {KvCodecKind::kRaw, KvCodecKind::kFp8, KvCodecKind::kInt8, KvCodecKind::kInt4}) {
    EXPECT_EQ(*ParseKvCodecKind(KvCodecKindName(kind)), kind);
  }
  EXPECT_THAT(std::string(ParseKvCodecKind("fp4").status().message()),
              HasSubstr("no KV codec \"fp4\"; want raw, fp8, int8 or int4"));
}

TEST(KvCodecTest, RefusalsNameTheFieldAndItsRange) {
  const auto message = [](KvShape shape, KvCodecOptions options) {
    return std::string(KvCodec::Create(shape, options).status().message());
  };
  KvShape shape = Llama8bShape();
  shape.head_dim = 63;
  EXPECT_THAT(message(shape, {}), HasSubstr("head_dim is 63; want a multiple of 2 in [2, 1024]"));
  shape = Llama8bShape();
  shape.block_tokens = 24;
  EXPECT_THAT(message(shape, {}),
              HasSubstr("block_tokens is 24; want a multiple of 16 in [16, 256]"));
  shape = Llama8bShape();
  EXPECT_THAT(message(shape, {KvCodecKind::kInt8, 8}), HasSubstr("group is 8; want"));
  EXPECT_THAT(message(shape, {KvCodecKind::kFp8, 0, KvScaleAxis::kChannel}),
              HasSubstr("fp8 with key_axis channel"));
}

TEST(KvCodecTest, RawKeepsEveryBit) {
  const KvShape shape = SmallShape(KvElement::kBF16);
  const KvCodec codec = Make(shape, {KvCodecKind::kRaw});
  std::vector<std::byte> slice(shape.slice_bytes().size());
  for (size_t i = 0; i < slice.size(); ++i) slice[i] = static_cast<std::byte>(i * 37 + 255);
  std::vector<std::byte> encoded(slice.size());
  std::vector<std::byte> decoded(slice.size());
  EXPECT_TRUE(codec.EncodeLayer(slice, encoded).ok());
  codec.DecodeLayer(encoded, decoded);
  EXPECT_EQ(decoded, slice);
}

TEST(KvCodecTest, NumbersThatAreNotFiniteOrTooLargeAreRefusedWhereverTheyAre) {
  const float bad[] = {
      std::numeric_limits<float>::quiet_NaN(), -std::numeric_limits<float>::quiet_NaN(),
      std::numeric_limits<float>::infinity(), -std::numeric_limits<float>::infinity(), 0x1.02p120F};
  ForEachHighwayTarget([&] {
    for (const KvElement element : {KvElement::kF32, KvElement::kBF16}) {
      KvShape shape = SmallShape(element);
      shape.head_dim = 18;
      for (const KvCodecKind kind : kCoded) {
        const KvCodec codec = Make(shape, {kind});
        const auto count = static_cast<size_t>(2 * shape.half_elements());
        std::vector<std::byte> encoded(codec.encoded_slice_bytes().size());
        for (const size_t place : {size_t{0}, size_t{17}, count / 2 - 1, count / 2, count - 1}) {
          for (const float x : bad) {
            SCOPED_TRACE(absl::StrCat(codec.name(), " ", x, " at ", place));
            std::vector<float> numbers(count, 1.0F);
            numbers[place] = x;
            const absl::Status status = codec.EncodeLayer(ToElements(shape, numbers), encoded);
            ASSERT_EQ(status.code(), absl::StatusCode::kOutOfRange);
            ASSERT_THAT(std::string(status.message()),
                        HasSubstr(absl::StrCat(place < count / 2 ? "K" : "V",
                                               " has a number that is not finite")));
          }
        }
      }
    }
  });
}

TEST(KvCodecTest, ZeroesStayZeroAndEqualNumbersStayEqual) {
  for (const KvElement element : {KvElement::kF32, KvElement::kBF16}) {
    for (const KvCodecKind kind : kCoded) {
      const KvShape shape = SmallShape(element);
      EXPECT_THAT(RoundTrip(shape, {kind}, {0.0F, -0.0F, 0.0F}), ElementsAre(0.0F, 0.0F, 0.0F));
    }
    const std::vector<float> equal(16 * 16, -3.5F);
    EXPECT_EQ(RoundTrip(SmallShape(element), {KvCodecKind::kFp8}, equal), equal);
    EXPECT_EQ(RoundTrip(SmallShape(element), {KvCodecKind::kInt4}, equal), equal);
  }
}

TEST(KvCodecTest, DenormalsBecomeZeroOrTheNearestStep) {
  const float tiny = std::numeric_limits<float>::denorm_min();
  const KvShape shape = SmallShape(KvElement::kF32);
  EXPECT_THAT(RoundTrip(shape, {KvCodecKind::kFp8}, {tiny, 0x1p-127F, 0x1.8p-126F, 0x1p-126F}),
              ElementsAre(0.0F, 0.0F, 0x1p-125F, 0x1p-126F));
  EXPECT_THAT(RoundTrip(shape, {KvCodecKind::kInt8}, {tiny, 0x1p-122F, 0x1p-120F, -0x1p-120F}),
              ElementsAre(0.0F, 0.0F, 0x1p-120F, -0x1p-120F));
}

TEST(KvCodecTest, Fp8RoundsToTheNearestEvenNumber) {
  const KvShape shape = SmallShape(KvElement::kF32);
  // The group's largest number is 448, so that its scale is 1. Steps: 32 from 256 on, 1/8 from 1
  // on, 1/512 below 1/64.
  EXPECT_THAT(RoundTrip(shape, {KvCodecKind::kFp8},
                        {448, 272, 304, 272.001F, -1.0625F, -1.1875F, 0x1p-10F, 0x1.8p-9F, 3e-6F}),
              ElementsAre(448, 256, 320, 288, -1.0F, -1.25F, 0, 0x1p-8F, 0));
}

TEST(KvCodecTest, Int8UsesAllSteps) {
  const KvShape shape = SmallShape(KvElement::kF32);
  EXPECT_THAT(RoundTrip(shape, {KvCodecKind::kInt8}, {127, 1, 0.5F, 1.5F, -127, -2.49F}),
              ElementsAre(127, 1, 0, 2, -127, -2));
}

TEST(KvCodecTest, Int4KeepsChannelsOfDifferentSizeApart) {
  // Dimension 0 is large and varies little, as channels of K do; dimension 1 is small.
  const KvShape shape = SmallShape(KvElement::kF32);
  std::vector<float> numbers(static_cast<size_t>(2 * shape.half_elements()));
  for (size_t t = 0; t < 16; ++t) {
    numbers[t * 16] = 512 + static_cast<float>(t);
    numbers[t * 16 + 1] = static_cast<float>(t) / 16;
  }
  const auto got = RoundTrip(shape, {KvCodecKind::kInt4, 0, KvScaleAxis::kChannel}, numbers);
  EXPECT_EQ(got, numbers);  // sixteen values each: all of them are steps
  const auto per_token = RoundTrip(shape, {KvCodecKind::kInt4, 0, KvScaleAxis::kToken}, numbers);
  EXPECT_EQ(per_token[15 * 16 + 1], 0);  // lost beside 527
}

}  // namespace
}  // namespace sluice
