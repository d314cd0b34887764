#include "service/workload/trace_request.h"

#include "gtest/gtest.h"

namespace sluice {
namespace {

TEST(TraceRequestTest, TheBoundIsAPowerOfTwoOfAtLeast64ThatCoversTheOutput) {
  EXPECT_EQ(MaxNewFor(Tokens(0)), Tokens(64));
  EXPECT_EQ(MaxNewFor(Tokens(1)), Tokens(64));
  EXPECT_EQ(MaxNewFor(Tokens(64)), Tokens(64));
  EXPECT_EQ(MaxNewFor(Tokens(65)), Tokens(128));
  EXPECT_EQ(MaxNewFor(Tokens(1000)), Tokens(1024));
  EXPECT_EQ(MaxNewFor(Tokens(15390)), Tokens(16384));
}

TEST(TraceRequestTest, TenantZeroIsTheServersDefault) {
  EXPECT_EQ(TenantName(0), "");
  EXPECT_EQ(TenantName(3), "tenant-3");
}

}  // namespace
}  // namespace sluice
