#include "service/cli/bench_report.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace sluice {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

BenchRecord Good(double ttft_s, bool emulated) {
  BenchRecord record;
  record.ttft_s = ttft_s;
  record.e2e_s = ttft_s + 0.2;
  record.token_gaps_s = {0.1, 0.1};
  record.tpot_s = 0.1;
  record.usage.set_prompt_tokens(100);
  record.usage.set_cached_device_tokens(30);
  record.usage.set_cached_host_tokens(50);
  record.usage.set_computed_tokens(20);
  record.usage.set_output_tokens(3);
  record.usage.set_loaded_bytes(1 << 20);
  record.timing.set_load_exposed_s(0.25);
  record.timing.set_plan("load");
  record.timing.set_link_emulated(emulated);
  return record;
}

BenchRecord Failed(grpc::StatusCode code) {
  BenchRecord record;
  record.status = grpc::Status(code, "no");
  record.e2e_s = 1000;
  return record;
}

TEST(BenchSummaryTest, CountsGoodRequestsAndFailuresByCode) {
  BenchSummary s =
      Summarize({Good(1, false), Good(3, false), Failed(grpc::StatusCode::UNAVAILABLE),
                 Failed(grpc::StatusCode::UNAVAILABLE), Failed(grpc::StatusCode::INTERNAL)},
                absl::Seconds(4));
  EXPECT_EQ(s.ok, 2);
  EXPECT_EQ(s.failures(), 3);
  EXPECT_EQ(s.failed["UNAVAILABLE"], 2);
  EXPECT_DOUBLE_EQ(s.ttft_ms.mean(), 2000);
  EXPECT_DOUBLE_EQ(s.e2e_ms.max(), 3200);  // failures are not measured
  EXPECT_EQ(s.itl_ms.count(), 4U);
  EXPECT_EQ(s.prompt_tokens, 200);
  EXPECT_EQ(s.cached_host_tokens, 100);
  EXPECT_EQ(s.loaded_bytes, 2U << 20);
  const nlohmann::json json = SummaryJson(s);
  EXPECT_DOUBLE_EQ(json["requests_per_s"], 0.5);
  EXPECT_DOUBLE_EQ(json["output_tokens_per_s"], 1.5);
  EXPECT_DOUBLE_EQ(json["total_tokens_per_s"], 51.5);
  EXPECT_EQ(json["failed_by_code"]["INTERNAL"], 1);
  EXPECT_DOUBLE_EQ(json["load_exposed_s"], 0.5);
}

TEST(BenchSummaryTest, NothingSentIsAllZeros) {
  BenchSummary s = Summarize({}, absl::ZeroDuration());
  EXPECT_EQ(SummaryJson(s)["requests_per_s"], 0);
  EXPECT_THAT(RenderSummary(s, 0), HasSubstr("0 ok, 0 failed"));
}

TEST(BenchSummaryTest, LinkFiguresSayWhenTheyAreEmulated) {
  BenchSummary real = Summarize({Good(1, false)}, absl::Seconds(1));
  EXPECT_THAT(RenderSummary(real, 50e6), Not(HasSubstr("emulated")));
  BenchSummary paced = Summarize({Good(1, true)}, absl::Seconds(1));
  EXPECT_THAT(RenderSummary(paced, 50e6), HasSubstr("(link emulated at 0.05 GB/s)"));
}

}  // namespace
}  // namespace sluice
