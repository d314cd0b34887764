// Control.Warm, Evict and CacheStats over gRPC, with a backend that computes nothing.
#include <string>

#include "gtest/gtest.h"
#include "tests/service/grpc/test_server.h"
#include "tests/support/status_matchers.h"

namespace sluice {
namespace {

using ::sluice::testing::TestServer;
using ::testing::HasSubstr;

constexpr int kPromptTokens = 100;

class CacheControlTest : public ::testing::Test {
 protected:
  std::string Prompt() const { return std::string(kPromptTokens, 'p'); }

  v1::WarmRequest WarmRequest() const {
    v1::WarmRequest request;
    request.set_text(Prompt());
    return request;
  }
  grpc::Status Warm(const v1::WarmRequest& request, v1::WarmResponse* response = nullptr) {
    grpc::ClientContext context;
    v1::WarmResponse ignored;
    return server_.control().Warm(&context, request, response != nullptr ? response : &ignored);
  }
  grpc::Status Evict(const v1::EvictRequest& request, v1::EvictResponse* response = nullptr) {
    grpc::ClientContext context;
    v1::EvictResponse ignored;
    return server_.control().Evict(&context, request, response != nullptr ? response : &ignored);
  }
  v1::CacheStatsResponse Stats() {
    grpc::ClientContext context;
    v1::CacheStatsResponse response;
    EXPECT_TRUE(server_.control().CacheStats(&context, v1::CacheStatsRequest(), &response).ok());
    return response;
  }

  TestServer server_;
};

TEST_F(CacheControlTest, WhatIsWrongWithARequestIsSaid) {
  v1::WarmRequest request = WarmRequest();
  request.set_tier("disk");
  EXPECT_THAT(Warm(request).error_message(), HasSubstr("tier: \"disk\" is not"));
  request = WarmRequest();
  request.set_pin_s(-1);
  EXPECT_THAT(Warm(request).error_message(), HasSubstr("pin_s: -1 is not in [0, 86400]"));
  request = WarmRequest();
  request.set_timeout_s(1e9);
  EXPECT_THAT(Warm(request).error_message(), HasSubstr("timeout_s"));
  request.Clear();
  EXPECT_THAT(Warm(request).error_message(), HasSubstr("prompt: not set"));

  v1::EvictRequest evict;
  EXPECT_EQ(Evict(evict).error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(Evict(evict).error_message(), HasSubstr("what: not set"));
  evict.set_everything(true);
  evict.add_tiers("moon");
  EXPECT_THAT(Evict(evict).error_message(), HasSubstr("tiers: \"moon\" is not"));
}

TEST_F(CacheControlTest, APromptIsComputedPinnedCountedAndEvicted) {
  v1::WarmRequest request = WarmRequest();
  v1::WarmResponse warmed;
  ASSERT_TRUE(Warm(request, &warmed).ok());
  EXPECT_EQ(warmed.prompt_tokens(), warmed.missing_tokens());
  EXPECT_EQ(warmed.ready_tokens(), 0U);

  request.set_compute(true);
  request.set_pin_s(60);
  ASSERT_TRUE(Warm(request, &warmed).ok());
  EXPECT_EQ(warmed.computed_tokens(), warmed.prompt_tokens());
  const uint32_t block = Stats().block_size();
  EXPECT_EQ(warmed.ready_tokens(), warmed.prompt_tokens() / block * block);
  EXPECT_EQ(warmed.pinned_tokens(), warmed.ready_tokens());
  EXPECT_GT(warmed.pinned_s(), 30);
  EXPECT_EQ(Stats().tiers(0).pinned_blocks(), warmed.ready_tokens() / block);

  v1::EvictRequest evict;
  evict.set_text(Prompt());
  evict.add_tiers("device");
  v1::EvictResponse evicted;
  ASSERT_TRUE(Evict(evict, &evicted).ok());
  ASSERT_EQ(evicted.tiers_size(), 1);
  EXPECT_EQ(evicted.tiers(0).dropped_blocks(), 0U);
  EXPECT_EQ(evicted.tiers(0).pinned_blocks(), warmed.ready_tokens() / block);
  evict.set_pinned(true);
  ASSERT_TRUE(Evict(evict, &evicted).ok());
  EXPECT_EQ(evicted.tiers(0).dropped_blocks(), warmed.ready_tokens() / block);
  EXPECT_GT(evicted.tiers(0).dropped_bytes(), 0U);
  EXPECT_EQ(Stats().tiers(0).pinned_blocks(), 0U);
}

TEST_F(CacheControlTest, AWarmUpThatIsCancelledEndsItsRequest) {
  server_.backend().HoldSteps();
  v1::WarmRequest request = WarmRequest();
  request.set_compute(true);
  grpc::ClientContext context;
  context.set_deadline(absl::ToChronoTime(absl::Now() + absl::Milliseconds(200)));
  v1::WarmResponse response;
  EXPECT_EQ(server_.control().Warm(&context, request, &response).error_code(),
            grpc::StatusCode::DEADLINE_EXCEEDED);
  server_.backend().ReleaseSteps();
  EXPECT_TRUE(server_.WaitUntilFree());
}

}  // namespace
}  // namespace sluice
