#include "service/config/config_file.h"

#include <fstream>

#include "gtest/gtest.h"
#include "service/config/serve_config.h"
#include "tests/support/status_matchers.h"

namespace sluice {
namespace {

using ::sluice::testing::IsOk;
using ::sluice::testing::StatusIs;
using ::testing::HasSubstr;

class ConfigFileTest : public ::testing::Test {
 protected:
  ConfigFileTest() { DefineServeFlags(flags_, &config_); }

  // Parses and applies `text` as file "c.yaml".
  absl::Status Load(const std::string& text) {
    const absl::StatusOr<std::vector<Assignment>> file = ParseConfigText(text, "c.yaml", flags_);
    if (!file.ok()) return file.status();
    return flags_.Apply(*file, {});
  }

  ServeConfig config_;
  FlagSet flags_;
};

TEST_F(ConfigFileTest, SetsWhatItNames) {
  ASSERT_THAT(Load("# a comment\n"
                   "model: /models/m\n"
                   "max_model_len: 2048\n"
                   "host-kv-gib: 64MiB\n"
                   "metrics-port: off\n"
                   "enable-prefix-caching: false\n"
                   "link-gbps: 0.05\n"),
              IsOk());
  EXPECT_EQ(config_.model, "/models/m");
  EXPECT_EQ(config_.max_model_len, Tokens(2048));
  EXPECT_EQ(config_.host_kv_bytes, MiB(64));
  EXPECT_EQ(config_.MetricsPort(), std::nullopt);
  EXPECT_FALSE(config_.prefix_caching);
  EXPECT_DOUBLE_EQ(config_.link_gbps, 0.05);
}

TEST_F(ConfigFileTest, AnEmptyFileSetsNothing) {
  for (const char* text : {"", "# only a comment\n", "---\n"}) {
    const absl::StatusOr<std::vector<Assignment>> file = ParseConfigText(text, "c.yaml", flags_);
    ASSERT_THAT(file, IsOk()) << text;
    EXPECT_TRUE(file->empty());
  }
}

struct BadFile {
  const char* name;
  const char* text;
  const char* message;
};

class BadConfigFileTest : public ConfigFileTest, public ::testing::WithParamInterface<BadFile> {};

TEST_P(BadConfigFileTest, IsRefusedWithFileLineAndRemedy) {
  EXPECT_THAT(Load(GetParam().text),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(GetParam().message)));
}

INSTANTIATE_TEST_SUITE_P(
    All, BadConfigFileTest,
    ::testing::Values(
        BadFile{"UnknownKey", "model: m\nmax-model-length: 5\n",
                "c.yaml:2: unknown key \"max-model-length\"; did you mean max-model-len?"},
        BadFile{"UnknownSnakeKey", "model: m\nmax_model_lenn: 5\n",
                "c.yaml:2: unknown key \"max_model_lenn\"; did you mean max-model-len?"},
        BadFile{"NothingNear", "wibble: 5\n", "c.yaml:1: unknown key \"wibble\""},
        BadFile{"OutOfRange", "model: m\nport: 70000\n", "c.yaml:2: port: 70000 is not in"},
        BadFile{"NotANumber", "model: m\nport: high\n", "port: \"high\" is not a whole number"},
        BadFile{"NoValue", "model:\n", "c.yaml:1: model: has no value; remove the key"},
        BadFile{"ListForOne", "model: [a, b]\n", "c.yaml:1: model: is not a single value"},
        BadFile{"MapForOne", "model: {a: b}\n", "c.yaml:1: model: is not a single value"},
        BadFile{"Twice", "port: 1\nhost: h\nport: 2\n", "already set at c.yaml:1: port"},
        BadFile{"TwiceUnderTwoSpellings", "max-model-len: 5\nmax_model_len: 6\n", "already set"},
        BadFile{"ListAsRoot", "- model\n", "c.yaml: is not a mapping"},
        BadFile{"ScalarAsRoot", "model\n", "c.yaml: is not a mapping"},
        BadFile{"Unbalanced", "model: [a\n", "is not valid YAML"},
        BadFile{"Tab", "model:\n\tport: 1\n", "is not valid YAML"},
        BadFile{"BothPools", "model: m\ndevice-kv-gib: 1\ndevice-kv-blocks: 1\n",
                "exclude each other"}),
    [](const auto& test) { return test.param.name; });

TEST_F(ConfigFileTest, AMissingFileIsNamed) {
  EXPECT_THAT(LoadConfigFile("/nowhere/c.yaml", flags_),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("/nowhere/c.yaml: cannot be read")));
}

TEST_F(ConfigFileTest, ReadsFromDisk) {
  const std::string path = ::testing::TempDir() + "/config_file_test.yaml";
  std::ofstream(path) << "model: m\nblock-size: 64\n";
  const absl::StatusOr<std::vector<Assignment>> file = LoadConfigFile(path, flags_);
  ASSERT_THAT(file, IsOk());
  ASSERT_THAT(flags_.Apply(*file, {}), IsOk());
  EXPECT_EQ(config_.block_size, Tokens(64));
}

}  // namespace
}  // namespace sluice
