// What an encoded host pool changes of the costs: which numbers, not how large they are here.
#include "service/calibration/codec_cost.h"

#include "gtest/gtest.h"
#include "tests/support/status_matchers.h"

namespace sluice::testing {
namespace {

CodecCostOptions Tiny(KvCodecKind codec) {
  CodecCostOptions options;
  options.codec = codec;
  options.shape = {64, 128, 4, 2, 16};
  options.layers = 3;
  options.block_tokens = Tokens(16);
  options.threads = 1;
  options.control.time = absl::Microseconds(100);
  return options;
}

CostCoefficients Priced(const CodecCostOptions& options) {
  CostCoefficients cost;
  cost.per_in_place_token = Seconds(1);
  EXPECT_THAT(PriceHostCodec(options, cost), IsOk());
  EXPECT_THAT(cost.Validate(), IsOk());
  return cost;
}

const LinkCoefficients& Load(const CostCoefficients& cost) {
  return cost.links[static_cast<size_t>(LinkDirection::kHostToDevice)];
}

TEST(CodecCostTest, ATokenTakesItsEncodedBytes) {
  // 2 x 2 x 16 numbers a layer; one byte each and two for the scale of every 16.
  EXPECT_EQ(Priced(Tiny(KvCodecKind::kInt8)).kv_bytes_per_token, Bytes(3 * (64 + 4 * 2)));
  EXPECT_EQ(Priced(Tiny(KvCodecKind::kFp8)).kv_bytes_per_token, Bytes(3 * (64 + 4 * 2)));
}

TEST(CodecCostTest, CopiesAreAsFastAsMeasuredAndNeverFasterThanTheLink) {
  CodecCostOptions options = Tiny(KvCodecKind::kInt8);
  const Seconds measured = Load(Priced(options)).per_byte;
  EXPECT_GT(measured, Seconds(0));
  EXPECT_LT(measured, Seconds(1e-6));
  options.link = ByteRate(1e5);
  EXPECT_EQ(Load(Priced(options)).per_byte, Seconds(1e-5));
}

TEST(CodecCostTest, InPlaceIsPricedWhereItIsPossible) {
  const CostCoefficients int8 = Priced(Tiny(KvCodecKind::kInt8));
  EXPECT_TRUE(int8.in_place_on_device);
  EXPECT_TRUE(int8.attends_in_place());
  EXPECT_EQ(int8.per_in_place_token, Seconds(0));
  EXPECT_EQ(int8.in_place_tile, Tokens(16));
  EXPECT_FALSE(Priced(Tiny(KvCodecKind::kInt4)).attends_in_place());
}

}  // namespace
}  // namespace sluice::testing
