#include "service/cli/plan_requests.h"

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/service/cli/plan_runner.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"

namespace sluice {
namespace {

using ::sluice::testing::PlanOptionsOf;
using ::sluice::testing::StatusIs;
using ::sluice::testing::TempDir;
using ::testing::HasSubstr;

constexpr Tokens kContext(131072);

absl::StatusOr<PlanRequests> Load(const std::vector<std::string>& args) {
  return LoadPlanRequests(PlanOptionsOf(args), kContext, "llama");
}

TEST(WithCommasTest, GroupsByThousands) {
  EXPECT_EQ(WithCommas(0), "0");
  EXPECT_EQ(WithCommas(999), "999");
  EXPECT_EQ(WithCommas(1000), "1,000");
  EXPECT_EQ(WithCommas(-1234567), "-1,234,567");
}

TEST(PlanRequestsTest, OneRequestIsTakenAsItIs) {
  const absl::StatusOr<PlanRequests> requests = Load({"--cached=65536", "--new=64", "--output=9"});
  ASSERT_TRUE(requests.ok()) << requests.status();
  EXPECT_TRUE(requests->single);
  EXPECT_EQ(requests->name, "one request: 65,536 cached + 64 new tokens");
  ASSERT_EQ(requests->shapes.size(), 1u);
  EXPECT_EQ(requests->shapes[0].cached, Tokens(65536));
  EXPECT_EQ(requests->shapes[0].fresh, Tokens(64));
  EXPECT_EQ(requests->shapes[0].output, Tokens(9));
}

TEST(PlanRequestsTest, LongerThanTheContextNeedsToBeAllowed) {
  EXPECT_THAT(Load({"--cached=131072", "--new=1"}).status(),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("--cached 131072 + --new 1: 131073 tokens are more than the "
                                 "context of llama, 131072; --max-input allows more")));
  EXPECT_TRUE(Load({"--cached=131072", "--new=1", "--max-input=200000"}).ok());
}

TEST(PlanRequestsTest, WithoutAnythingThereIsTheDefaultWorkload) {
  const absl::StatusOr<PlanRequests> requests = Load({});
  ASSERT_TRUE(requests.ok()) << requests.status();
  EXPECT_EQ(requests->name, "agentic: 1,000 requests of at most 131,072 tokens");
  EXPECT_EQ(requests->shapes.size(), 1000u);
  for (const RequestShape& shape : requests->shapes) {
    EXPECT_GE(shape.fresh, Tokens(1));
    EXPECT_LE(shape.cached + shape.fresh, kContext);
  }
}

TEST(PlanRequestsTest, AShortContextGetsOneRequestThatFitsUnlessAWorkloadIsNamed) {
  const auto requests = LoadPlanRequests(PlanOptionsOf({}), Tokens(4096), "small");
  ASSERT_TRUE(requests.ok()) << requests.status();
  EXPECT_EQ(requests->name, "one request: 3,072 cached + 256 new tokens");
  EXPECT_THAT(
      LoadPlanRequests(PlanOptionsOf({"--workload=agentic"}), Tokens(4096), "small").status(),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("--workload: ")));
}

TEST(PlanRequestsTest, TheSeedDecides) {
  const auto first = [](const std::string& seed) {
    const auto requests = Load({"--workload=sharegpt", "--requests=50", seed});
    std::vector<int64_t> lengths;
    for (const RequestShape& shape : requests->shapes) lengths.push_back(shape.fresh.value());
    return lengths;
  };
  EXPECT_EQ(first("--seed=3"), first("--seed=3"));
  EXPECT_NE(first("--seed=3"), first("--seed=4"));
}

TEST(PlanRequestsTest, TracesAreSeenThroughAPrefixCacheAndThinned) {
  const TempDir dir;
  std::string lines;
  for (int i = 0; i < 5000; ++i) {
    absl::StrAppend(&lines, "{\"arrival_ms\":", i,
                    ",\"input_tokens\":100,\"output_tokens\":5,\"block_tokens\":64,"
                    "\"block_hashes\":[1,",
                    i + 10, "]}\n");
  }
  const std::string path = dir.Write("trace.jsonl", lines);
  const absl::StatusOr<PlanRequests> requests = Load({"--workload=" + path});
  ASSERT_TRUE(requests.ok()) << requests.status();
  EXPECT_EQ(requests->total, 5000);
  EXPECT_LE(requests->shapes.size(), kMostShapes);
  EXPECT_GT(requests->shapes.size(), kMostShapes / 2);
  EXPECT_EQ(requests->shapes[0].cached, Tokens(0)) << "the first one is cold";
  EXPECT_EQ(requests->shapes[1].cached, Tokens(64));
  EXPECT_EQ(requests->shapes[1].fresh, Tokens(36));
}

TEST(PlanRequestsTest, WhatIsNeitherNameNorFileIsRefused) {
  EXPECT_THAT(Load({"--workload=sharegtp"}).status(),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("--workload: ")));
  EXPECT_THAT(Load({"--workload=sharegtp"}).status(),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("sharegpt")));
}

TEST(TypicalRequestTest, IsTheMiddleOfTheWarmOnes) {
  const auto shape = [](int64_t cached, int64_t fresh) {
    return RequestShape{Tokens(cached), Tokens(fresh), Tokens(1)};
  };
  const RequestShape warm = TypicalRequest(
      {shape(0, 9000), shape(0, 9000), shape(0, 9000), shape(10, 3), shape(30, 1), shape(20, 2)});
  EXPECT_EQ(warm.cached, Tokens(20));
  EXPECT_EQ(warm.fresh, Tokens(2));
  EXPECT_EQ(TypicalRequest({shape(0, 7)}).fresh, Tokens(7));
}

}  // namespace
}  // namespace sluice
