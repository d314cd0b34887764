#include "service/config/flag_set.h"

#include "gtest/gtest.h"
#include "tests/support/status_matchers.h"

namespace sluice {
namespace {

using ::sluice::testing::IsOk;
using ::sluice::testing::StatusIs;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
constexpr absl::StatusCode kBad = absl::StatusCode::kInvalidArgument;

struct Settings {
  int port = 50051;
  Tokens length{32};
  std::optional<Tokens> limit;
  std::optional<Bytes> size;
  std::optional<Blocks> blocks;
  std::vector<std::string> stops;
  std::string mode = "auto";
  bool caching = true;
};

class FlagSetTest : public ::testing::Test {
 protected:
  FlagSetTest() {
    flags_.Integer("port", &s_.port, 0, 65535, "PORT", "the port").aliases = {"grpc-port"};
    flags_.Integer("block-length", &s_.length, 1, 256, "TOKENS", "tokens");
    flags_.Integer("limit", &s_.limit, 1, 100, "TOKENS", "limit");
    flags_.Size("pool-gib", &s_.size, "pool");
    flags_.Integer("pool-blocks", &s_.blocks, 1, 100, "BLOCKS", "pool");
    flags_.Strings("stop", &s_.stops, "TEXT", "stops");
    flags_.Choice("mode", &s_.mode, {"auto", "f32", "bf16"}, "mode");
    flags_.Bool("caching", &s_.caching, "caching");
    flags_.Exclusive("pool-gib", "pool-blocks");
  }

  static Assignment Line(const std::string& flag, std::vector<std::string> values) {
    return {flag, std::move(values), "--" + flag};
  }
  static Assignment File(const std::string& flag, std::vector<std::string> values) {
    return {flag, std::move(values), "a.yaml:1: " + flag};
  }

  Settings s_;
  FlagSet flags_;
};

TEST_F(FlagSetTest, DefaultsComeFromTheTargets) {
  EXPECT_EQ(flags_.Find("port")->default_text, "50051");
  EXPECT_EQ(flags_.Find("block-length")->default_text, "32");
  EXPECT_EQ(flags_.Find("limit")->default_text, "");
  EXPECT_EQ(flags_.Find("mode")->default_text, "auto");
  EXPECT_EQ(flags_.Find("caching")->default_text, "on");
}

TEST_F(FlagSetTest, FindsSnakeCaseAndAliases) {
  EXPECT_EQ(flags_.Find("block_length")->name, "block-length");
  EXPECT_EQ(flags_.Find("grpc_port")->name, "port");
  EXPECT_EQ(flags_.Find("nothing"), nullptr);
}

TEST_F(FlagSetTest, SetsEveryKind) {
  ASSERT_THAT(
      flags_.Apply({}, {Line("port", {"1"}), Line("block-length", {"64"}), Line("limit", {"7"}),
                        Line("pool-gib", {"1MiB"}), Line("stop", {"a", "b"}), Line("mode", {"f32"}),
                        Line("caching", {"false"})}),
      IsOk());
  EXPECT_EQ(s_.port, 1);
  EXPECT_EQ(s_.length, Tokens(64));
  EXPECT_EQ(s_.limit, Tokens(7));
  EXPECT_EQ(s_.size, MiB(1));
  EXPECT_THAT(s_.stops, ElementsAre("a", "b"));
  EXPECT_EQ(s_.mode, "f32");
  EXPECT_FALSE(s_.caching);
  EXPECT_EQ(flags_.ToText(),
            "port=1 block-length=64 limit=7 pool-gib=1048576B stop=a,b mode=f32 caching=false");
}

TEST_F(FlagSetTest, TheCommandLineWins) {
  ASSERT_THAT(flags_.Apply({File("port", {"1"}), File("mode", {"f32"}), File("stop", {"x"})},
                           {Line("port", {"2"}), Line("stop", {"y", "z"})}),
              IsOk());
  EXPECT_EQ(s_.port, 2);
  EXPECT_EQ(s_.mode, "f32");
  EXPECT_THAT(s_.stops, ElementsAre("y", "z"));
}

TEST_F(FlagSetTest, TheCommandLineReplacesWhatItExcludes) {
  ASSERT_THAT(flags_.Apply({File("pool-gib", {"1"})}, {Line("pool-blocks", {"5"})}), IsOk());
  EXPECT_EQ(s_.size, std::nullopt);
  EXPECT_EQ(s_.blocks, Blocks(5));
}

TEST_F(FlagSetTest, ExcludingFlagsOfOneSourceAreAnError) {
  EXPECT_THAT(flags_.Apply({}, {Line("pool-gib", {"1"}), Line("pool-blocks", {"5"})}),
              StatusIs(kBad, "--pool-gib and --pool-blocks exclude each other; give one"));
}

TEST_F(FlagSetTest, ErrorsNameTheSourceAndTheValue) {
  EXPECT_THAT(flags_.Apply({}, {Line("port", {"70000"})}),
              StatusIs(kBad, "--port: 70000 is not in [0, 65535]"));
  EXPECT_THAT(flags_.Apply({File("limit", {"0"})}, {}),
              StatusIs(kBad, "a.yaml:1: limit: 0 is not in [1, 100]"));
  EXPECT_THAT(flags_.Apply({}, {Line("mode", {"bf61"})}),
              StatusIs(kBad, "--mode: \"bf61\" is not one of auto, f32, bf16; did you mean bf16?"));
  EXPECT_THAT(flags_.Apply({}, {Line("caching", {"maybe"})}),
              StatusIs(kBad, "--caching: \"maybe\" is neither true nor false"));
}

TEST_F(FlagSetTest, TheCommandLineCanBeTypedAgain) {
  ASSERT_THAT(flags_.Apply({}, {Line("stop", {"it's"}), Line("caching", {"off"})}), IsOk());
  EXPECT_EQ(flags_.ToCommandLine(),
            "--port 50051 --block-length 32 --stop 'it'\\''s' --mode auto --no-caching");
}

TEST_F(FlagSetTest, ARequiredFlagMustBeGivenSomewhere) {
  std::string model;
  flags_.String("model", &model, "DIR", "the directory").required = true;
  EXPECT_THAT(flags_.Apply({}, {}), StatusIs(kBad, "--model is required: the directory"));
  EXPECT_THAT(flags_.Apply({File("model", {"m"})}, {}), IsOk());
  EXPECT_EQ(model, "m");
}

}  // namespace
}  // namespace sluice
