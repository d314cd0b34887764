// The malformed client against a server without a model: quick, in one process, under sanitizers
// too.
#include <sstream>

#include "gtest/gtest.h"
#include "tests/e2e/malformed/malformed.h"
#include "tests/service/grpc/test_server.h"

namespace sluice::malformed {
namespace {

TEST(MalformedTest, EveryMalformedRequestGetsItsStatusAndTheServerLives) {
  sluice::testing::TestServerOptions server_options;
  server_options.grpc.max_receive_bytes = 8 << 20;
  sluice::testing::TestServer server(server_options);
  Options options;
  options.endpoint = server.server().endpoint();
  options.count = 1200;
  options.seed = 7;
  options.max_receive_bytes = server_options.grpc.max_receive_bytes;
  const Result result = Attack(options);
  std::ostringstream table;
  Print(result, table);
  EXPECT_EQ(result.failure, "") << "seed " << options.seed << "\n" << table.str();
  EXPECT_GE(result.counts.size(), 17U) << table.str();
}

}  // namespace
}  // namespace sluice::malformed
