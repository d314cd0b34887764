#include "service/cli/metrics_client.h"

#include "gtest/gtest.h"
#include "tests/support/status_matchers.h"

namespace sluice {
namespace {

using ::sluice::testing::StatusIs;
using ::testing::HasSubstr;

constexpr char kText[] =
    "# HELP sluice_x_total Something.\n"
    "# TYPE sluice_x_total counter\n"
    "sluice_x_total{src=\"host\",dst=\"device\"} 5\n"
    "sluice_x_total{src=\"device\",dst=\"host\"} 2.5\n"
    "sluice_x_total_other 100\n"
    "sluice_labelled{name=\"a b}\"} 1e3 1700000000\n"
    "sluice_bad text\n"
    "\n"
    "sluice_y 7\n";

TEST(MetricsClientTest, SumsTheSeriesOfOneName) {
  const MetricValues values = ParseMetrics(kText);
  EXPECT_DOUBLE_EQ(SumMetric(values, "sluice_x_total", "src=\"host\""), 5);
  EXPECT_DOUBLE_EQ(SumMetric(values, "sluice_x_total", ""), 7.5);
  EXPECT_DOUBLE_EQ(SumMetric(values, "sluice_y", ""), 7);
  EXPECT_DOUBLE_EQ(SumMetric(values, "sluice_none", ""), 0);
}

TEST(MetricsClientTest, LeavesOutWhatItCannotRead) {
  const MetricValues values = ParseMetrics(kText);
  EXPECT_EQ(values.count("sluice_bad"), 0U);
}

TEST(MetricsClientTest, NamesTheAddressThatDoesNotAnswer) {
  EXPECT_THAT(ScrapeMetrics("127.0.0.1", 1),
              StatusIs(absl::StatusCode::kUnavailable,
                       HasSubstr("http://127.0.0.1:1/metrics: cannot connect")));
}

}  // namespace
}  // namespace sluice
