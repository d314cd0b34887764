// The probes measure what they say; how fast this machine is, no test knows.
#include "backend/cpu/probe_compute.h"
#include "backend/cpu/probe_link.h"
#include "backend/cpu/probe_step.h"
#include "gtest/gtest.h"
#include "tests/support/status_matchers.h"

namespace sluice::testing {
namespace {

using ::testing::HasSubstr;

// {hidden, intermediate, heads, kv_heads, head_dim}
constexpr LayerShape kShape{64, 128, 4, 2, 16};

ProbeControl Short() {
  ProbeControl control;
  control.time = absl::Microseconds(10);
  return control;
}

void ExpectMeasured(const absl::StatusOr<RunTimes>& times) {
  ASSERT_THAT(times, IsOk());
  EXPECT_GT(times->best, absl::ZeroDuration());
  EXPECT_LE(times->best, times->quarter);
  EXPECT_LE(times->quarter, times->median);
  EXPECT_LE(times->median, times->high);
  EXPECT_GE(times->repeats, kLeastRepeats);
}

TEST(ProductProbeTest, CountsTheWorkOfWholeLayers) {
  ThreadPool pool(2, /*pin=*/false);
  const double layer = 64 * (64 + 2 * 32) + 64 * 64 + 3 * 64 * 128;
  ASSERT_EQ(static_cast<double>(kShape.parameters()), layer);
  for (const Element element : {Element::kBF16, Element::kF32}) {
    const auto one = ProductProbe::Create(kShape, element, Bytes(1), pool);
    ASSERT_THAT(one, IsOk());
    EXPECT_EQ((*one)->flop(10), 2 * 10 * layer);
    EXPECT_EQ((*one)->weights(), Bytes(kShape.parameters() * ElementBytes(element)));
    ExpectMeasured((*one)->Time(1, Short()));
    ExpectMeasured((*one)->Time(100, Short()));
    const auto three =
        ProductProbe::Create(kShape, element, Bytes(2 * (*one)->weights().value() + 1), pool);
    ASSERT_THAT(three, IsOk());
    EXPECT_EQ((*three)->weights().value(), 3 * (*one)->weights().value());
    EXPECT_EQ((*three)->flop(10), 3 * (*one)->flop(10));
  }
}

TEST(AttentionProbeTest, CountsPairsAndBytes) {
  ThreadPool pool(2, /*pin=*/false);
  const auto probe = AttentionProbe::Create(kShape, Element::kBF16, pool);
  ASSERT_THAT(probe, IsOk());
  EXPECT_EQ((*probe)->prefill_flop(), 4.0 * 64 * (128 * 2048 + 128 * 129 / 2));
  EXPECT_EQ((*probe)->decode_bytes(), Bytes(16 * 2048 * 2 * 32 * 2));
  ExpectMeasured((*probe)->TimePrefill(Short()));
  EXPECT_EQ((*probe)->in_place_flop(), 4.0 * 64 * 16 * 2048);
  ExpectMeasured((*probe)->TimeDecode(Short()));
  ExpectMeasured((*probe)->TimeInPlace(Short()));
}

TEST(MemoryProbeTest, ReadsTheWholeBuffer) {
  ThreadPool pool(2, /*pin=*/false);
  const auto probe = MemoryProbe::Create(MiB(4), pool);
  ASSERT_THAT(probe, IsOk());
  EXPECT_EQ((*probe)->size(), MiB(4));
  ExpectMeasured((*probe)->Time(Short()));
}

TEST(StepProbeTest, MoreLayersTakeLonger) {
  ThreadPool pool(1, /*pin=*/false);
  const auto few = TimeEmptyStep(1, pool, Short());
  const auto many = TimeEmptyStep(24, pool, Short());
  ExpectMeasured(few);
  ExpectMeasured(many);
  EXPECT_LT(few->best, many->best);
}

TEST(StepProbeTest, MoreTokensTakeLonger) {
  ThreadPool pool(1, /*pin=*/false);
  const LayerShape shape{128, 256, 4, 2, 32};
  const auto probe = StepProbe::Create(shape, 2, Element::kBF16, Tokens(200), pool);
  ASSERT_THAT(probe, IsOk());
  const auto few = (*probe)->Time(Tokens(1), Short());
  const auto many = (*probe)->Time(Tokens(200), Short());
  ExpectMeasured(few);
  ExpectMeasured(many);
  EXPECT_LT(few->best, many->best);
}

TEST(LinkProbeTest, MovesBlocksBothWays) {
  KvLayout layout;
  layout.layers = 3;
  layout.kv_heads = 2;
  layout.head_dim = 16;
  layout.page_tokens = 16;
  const auto probe = LinkProbe::Create(layout, Blocks(8), Short());
  ASSERT_THAT(probe, IsOk());
  EXPECT_EQ((*probe)->BytesOf(Blocks(2)), Bytes(2 * 3 * 2 * 16 * 2 * 16 * 4));
  EXPECT_EQ((*probe)->RunsOf(Blocks(2)), 6);
  ExpectMeasured((*probe)->Time(LinkDirection::kHostToDevice, Blocks(8)));
  ExpectMeasured((*probe)->Time(LinkDirection::kDeviceToHost, Blocks(1)));
  ExpectMeasured((*probe)->TimeDuplex(Blocks(4)));
}

TEST(ProbesTest, CanBeCancelled) {
  ThreadPool pool(1, /*pin=*/false);
  ProbeControl control = Short();
  control.cancelled = [] { return true; };
  EXPECT_THAT(TimeEmptyStep(1, pool, control),
              StatusIs(absl::StatusCode::kCancelled, HasSubstr("interrupted")));
}

}  // namespace
}  // namespace sluice::testing
