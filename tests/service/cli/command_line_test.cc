// Flags of every command, parsed in this process; nothing is run.
#include <fstream>
#include <sstream>

#include "gtest/gtest.h"
#include "service/cli/app.h"
#include "service/cli/bench_command.h"
#include "service/cli/chat_command.h"
#include "service/cli/demo_command.h"
#include "service/cli/generate_command.h"
#include "service/cli/serve_command.h"
#include "service/cli/version.h"
#include "tests/support/status_matchers.h"

namespace sluice {
namespace {

using ::sluice::testing::IsOk;
using ::sluice::testing::StatusIs;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::StartsWith;
constexpr absl::StatusCode kBad = absl::StatusCode::kInvalidArgument;
using Args = std::vector<std::string>;

template <class C>
absl::Status Parse(C& command, const Args& args) {
  FlagSet flags;
  command.DefineFlags(flags);
  return ParseCommandLine(command, flags, args);
}

struct Outcome {
  int code = 0;
  std::string out;
  std::string err;
};

Outcome RunWith(const Args& args) {
  std::istringstream in;
  std::ostringstream out, err;
  const int code = RunCli(args, CliIo{in, out, err});
  return {code, out.str(), err.str()};
}

TEST(ServeFlagsTest, ReadsEveryForm) {
  ServeCommand serve;
  ASSERT_THAT(Parse(serve, {"--model", "m", "--port=0", "--max_model_len", "2048",
                            "--no-preemption", "--device-kv-gib", "64MiB", "--host-kv-blocks", "0",
                            "--link-gbps=0.05", "--metrics-port", "off", "--dtype", "f32"}),
              IsOk());
  EXPECT_EQ(serve.config().model, "m");
  EXPECT_EQ(serve.config().port, 0);
  EXPECT_EQ(serve.config().max_model_len, Tokens(2048));
  EXPECT_FALSE(serve.config().preemption);
  EXPECT_TRUE(serve.config().prefix_caching);
  EXPECT_EQ(serve.config().device_kv_bytes, MiB(64));
  EXPECT_EQ(serve.config().host_kv_blocks, Blocks(0));
  EXPECT_DOUBLE_EQ(serve.config().link_gbps, 0.05);
  EXPECT_EQ(serve.config().metrics_port, "off");
  EXPECT_EQ(serve.config().dtype, "f32");
}

TEST(ServeFlagsTest, TheLastOfRepeatedFlagsCounts) {
  ServeCommand serve;
  ASSERT_THAT(Parse(serve, {"--model", "a", "--model", "b", "--no-preemption", "--preemption"}),
              IsOk());
  EXPECT_EQ(serve.config().model, "b");
  EXPECT_TRUE(serve.config().preemption);
}

TEST(ServeFlagsTest, AliasesOfOtherEnginesAreUnderstood) {
  ServeCommand serve;
  ASSERT_THAT(Parse(serve, {"--model", "m", "--grpc-port", "7", "--kv-offloading-size", "2"}),
              IsOk());
  EXPECT_EQ(serve.config().port, 7);
  EXPECT_EQ(serve.config().host_kv_bytes, MiB(2048));
}

struct BadLine {
  const char* name;
  Args args;
  const char* message;
};

class BadServeFlagsTest : public ::testing::TestWithParam<BadLine> {};

TEST_P(BadServeFlagsTest, NameFlagValueLimitAndRemedy) {
  ServeCommand serve;
  EXPECT_THAT(Parse(serve, GetParam().args), StatusIs(kBad, HasSubstr(GetParam().message)));
}

INSTANTIATE_TEST_SUITE_P(
    All, BadServeFlagsTest,
    ::testing::Values(
        BadLine{"NoModel", {}, "--model is required"},
        BadLine{"Unknown",
                {"--model", "m", "--prot", "1"},
                "unknown flag --prot; did you mean --port? (see sluice serve --help)"},
        BadLine{"UnknownSnake", {"--max_model_length", "1"}, "did you mean --max-model-len?"},
        BadLine{"UnknownNo", {"--no-preemptoin"}, "did you mean --no-preemption?"},
        BadLine{"OutOfRange",
                {"--model", "m", "--port", "70000"},
                "--port: 70000 is not in [0, 65535]"},
        BadLine{"NotANumber",
                {"--model", "m", "--threads", "two"},
                "--threads: \"two\" is not a whole number"},
        BadLine{"Negative", {"--model", "m", "--host-kv-gib", "-1"}, "--host-kv-gib: \"-1\""},
        BadLine{"NoValue", {"--model"}, "--model: needs a value after it"},
        BadLine{"ValueForSwitch", {"--preemption=off"}, "write --preemption or --no-preemption"},
        BadLine{"StrayWord", {"m"}, "unexpected argument \"m\""},
        BadLine{"StrayDash", {"-x"}, "unexpected argument \"-x\""},
        BadLine{"Choice", {"--model", "m", "--dtype", "fp32"}, "did you mean f32?"},
        BadLine{"BothPools",
                {"--model", "m", "--device-kv-gib", "1", "--device-kv-blocks", "1"},
                "exclude each other"},
        BadLine{"EmptyModel", {"--model="}, "--model is required"},
        BadLine{"BlockSize", {"--model", "m", "--block-size", "40"}, "not a multiple of 16"},
        BadLine{"MetricsPort",
                {"--model", "m", "--metrics-port", "on"},
                "--metrics-port: \"on\" is not a whole number"}),
    [](const auto& test) { return test.param.name; });

TEST(ServeFlagsTest, TheCommandLineWinsOverTheFile) {
  const std::string path = ::testing::TempDir() + "/command_line_test.yaml";
  std::ofstream(path) << "model: from-file\nport: 1\nhost: 0.0.0.0\n";
  ServeCommand serve;
  ASSERT_THAT(Parse(serve, {"--config", path, "--port", "2"}), IsOk());
  EXPECT_EQ(serve.config().model, "from-file");
  EXPECT_EQ(serve.config().port, 2);
  EXPECT_EQ(serve.config().host, "0.0.0.0");
}

TEST(GenerateFlagsTest, BuildTheRequest) {
  GenerateCommand generate;
  ASSERT_THAT(Parse(generate, {"--prompt",
                               "--looks like a flag",
                               "--max-tokens",
                               "5",
                               "--stop",
                               "a",
                               "--stop",
                               "",
                               "--temperature",
                               "0",
                               "--top-k",
                               "3",
                               "--seed",
                               "18446744073709551615",
                               "--ignore-eos",
                               "--n",
                               "2",
                               "--logprobs",
                               "0",
                               "--tenant",
                               "t",
                               "--priority",
                               "-3",
                               "--cache-salt=",
                               "--stop-token-ids",
                               "4,5"}),
              IsOk());
  std::istringstream in;
  const absl::StatusOr<v1::GenerateRequest> request = BuildRequest(generate.options(), in);
  ASSERT_THAT(request, IsOk());
  EXPECT_EQ(request->text(), "--looks like a flag");
  EXPECT_EQ(request->stopping().max_tokens(), 5U);
  EXPECT_THAT(request->stopping().stop(), ElementsAre("a", ""));
  EXPECT_THAT(request->stopping().stop_token_ids(), ElementsAre(4U, 5U));
  EXPECT_TRUE(request->stopping().ignore_eos());
  EXPECT_TRUE(request->sampling().has_temperature());
  EXPECT_EQ(request->sampling().temperature(), 0);
  EXPECT_EQ(request->sampling().top_k(), 3U);
  EXPECT_EQ(request->sampling().seed(), 18446744073709551615U);
  EXPECT_FALSE(request->sampling().has_top_p());
  EXPECT_EQ(request->n(), 2U);
  EXPECT_TRUE(request->has_logprobs());
  EXPECT_EQ(request->scheduling().tenant(), "t");
  EXPECT_EQ(request->scheduling().priority(), -3);
}

TEST(GenerateFlagsTest, TakeExactlyOnePrompt) {
  const auto parse = [](const Args& args) {
    GenerateCommand generate;
    return Parse(generate, args);
  };
  EXPECT_THAT(parse({}), StatusIs(kBad, StartsWith("no prompt; give exactly one of --prompt")));
  EXPECT_THAT(parse({"--prompt", "a", "--prompt-ids", "1"}),
              StatusIs(kBad, StartsWith("more than one prompt")));
  EXPECT_THAT(parse({"--prompt-ids", "1,x"}), StatusIs(kBad, HasSubstr("\"x\" is not a token id")));
  EXPECT_THAT(parse({"--prompt-ids", "1,2,3"}), IsOk());
  EXPECT_THAT(parse({"--prompt="}), IsOk());  // the server judges an empty text
}

TEST(GenerateFlagsTest, ReadPromptsFromFilesAndStdin) {
  GenerateCommand from_stdin;
  ASSERT_THAT(Parse(from_stdin, {"--prompt-file", "-"}), IsOk());
  std::istringstream in("two\nlines\n");
  EXPECT_EQ(BuildRequest(from_stdin.options(), in)->text(), "two\nlines\n");
  GenerateCommand missing;
  ASSERT_THAT(Parse(missing, {"--prompt-file", "/nowhere"}), IsOk());
  EXPECT_THAT(BuildRequest(missing.options(), in),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("/nowhere")));
}

TEST(BenchFlagsTest, ChooseClosedOrOpenLoop) {
  BenchCommand closed;
  ASSERT_THAT(Parse(closed, {}), IsOk());
  EXPECT_EQ(closed.options().Load().concurrency, 16);
  EXPECT_EQ(closed.options().Load().num_requests, 64);
  BenchCommand open;
  ASSERT_THAT(Parse(open, {"--rate", "2.5", "--duration", "10", "--no-ignore-eos"}), IsOk());
  EXPECT_EQ(open.options().Load().rate, 2.5);
  EXPECT_EQ(open.options().Load().num_requests, 0);
  EXPECT_EQ(open.options().Load().duration, absl::Seconds(10));
  EXPECT_FALSE(open.options().workload.ignore_eos);
  BenchCommand both;
  EXPECT_THAT(Parse(both, {"--rate", "1", "--concurrency", "2"}),
              StatusIs(kBad, HasSubstr("exclude each other")));
  BenchCommand prefix;
  EXPECT_THAT(Parse(prefix, {"--prompt-tokens", "64", "--shared-prefix-tokens", "64"}),
              StatusIs(kBad, HasSubstr("64 is not less than --prompt-tokens 64")));
}

TEST(ChatAndDemoFlagsTest, Parse) {
  ChatCommand chat;
  ASSERT_THAT(Parse(chat, {"--system", "Be brief.", "--max-tokens", "9"}), IsOk());
  EXPECT_EQ(chat.options().system, "Be brief.");
  EXPECT_EQ(chat.options().max_tokens, 9);
  DemoCommand demo;
  ASSERT_THAT(Parse(demo, {"--keep-serving", "--link-gbps", "0.1"}), IsOk());
  EXPECT_TRUE(demo.options().keep_serving);
  EXPECT_DOUBLE_EQ(demo.options().link_gbps, 0.1);
}

TEST(HelpTest, ShowsEveryFlagWithItsDefaultAndTheExitCodes) {
  for (const std::unique_ptr<Command>& command : AllCommands()) {
    SCOPED_TRACE(command->name());
    const std::string help = HelpText(command.get());
    FlagSet flags;
    command->DefineFlags(flags);
    // Wrapping may put a line break into any text: compare without blanks.
    const auto squeeze = [](const std::string& text) {
      std::string squeezed;
      for (const char c : text) {
        if (c != ' ' && c != '\n') squeezed += c;
      }
      return squeezed;
    };
    const std::string squeezed = squeeze(help);
    for (const Flag& flag : flags.flags()) {
      EXPECT_THAT(help, HasSubstr("--" + flag.name));
      EXPECT_FALSE(flag.help.empty()) << flag.name;
      if (!flag.default_text.empty()) {
        EXPECT_THAT(squeezed, HasSubstr("[default:" + squeeze(flag.default_text) + "]"))
            << flag.name;
      }
      if (flag.value_name.empty()) {
        EXPECT_THAT(help, HasSubstr("--no-" + flag.name));
      }
    }
    EXPECT_THAT(help, HasSubstr("Exit codes:"));
    std::istringstream lines(help);
    for (std::string line; std::getline(lines, line);) EXPECT_LE(line.size(), 100U) << line;
  }
}

TEST(HelpTest, IsOnStandardOutputAndEndsWell) {
  const Outcome root = RunWith({"--help"});
  EXPECT_EQ(root.code, 0);
  for (const char* name : {"serve", "generate", "chat", "bench", "demo"}) {
    EXPECT_THAT(root.out, HasSubstr(name));
    const Outcome sub = RunWith({name, "--help"});
    EXPECT_EQ(sub.code, 0);
    EXPECT_THAT(sub.out, HasSubstr(std::string("Usage: sluice ") + name));
    EXPECT_EQ(sub.err, "");
  }
}

TEST(RunTest, UsageErrorsAreOneLineAndCodeTwo) {
  EXPECT_EQ(RunWith({}).code, kExitUsage);
  const Outcome typo = RunWith({"genrate"});
  EXPECT_EQ(typo.code, kExitUsage);
  EXPECT_EQ(typo.err,
            "sluice: unknown command \"genrate\"; did you mean generate? (see sluice --help)\n");
  const Outcome flag = RunWith({"serve", "--prot", "1"});
  EXPECT_EQ(flag.code, kExitUsage);
  EXPECT_EQ(flag.out, "");
  EXPECT_EQ(std::count(flag.err.begin(), flag.err.end(), '\n'), 1);
}

TEST(RunTest, AMissingConfigurationFileIsAUsageError) {
  const Outcome outcome = RunWith({"serve", "--config", "/nowhere.yaml"});
  EXPECT_EQ(outcome.code, kExitUsage);
  EXPECT_THAT(outcome.err, HasSubstr("--config: /nowhere.yaml: cannot be read"));
}

TEST(RunTest, VersionIsPrinted) {
  for (const char* arg : {"--version", "version"}) {
    const Outcome outcome = RunWith({arg});
    EXPECT_EQ(outcome.code, 0);
    EXPECT_EQ(outcome.out, std::string("sluice ") + Version() + "\n");
  }
}

TEST(RunTest, ServingADirectoryThatIsNotThereIsOneLineAndCodeOne) {
  const Outcome outcome =
      RunWith({"serve", "--model", "/nowhere/model", "--port", "0", "--metrics-port", "off"});
  EXPECT_EQ(outcome.code, kExitFailure);
  EXPECT_THAT(outcome.err, HasSubstr("/nowhere/model"));
  EXPECT_EQ(std::count(outcome.err.begin(), outcome.err.end(), '\n'), 1);
}

TEST(BenchCommandTest, TheGpuSuiteSaysHowToGetItsProgram) {
  const absl::Status status = RunGpuSuite("/nowhere/sluice", "");
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(
      status.message(),
      "--suite=gpu: /nowhere/gpu_bench: No such file or directory; build with the CUDA toolkit "
      "(cmake --preset cuda)");
}

}  // namespace
}  // namespace sluice
