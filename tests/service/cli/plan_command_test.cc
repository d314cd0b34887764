// `sluice plan` as a whole: what it prints, its JSON, its page, and what it says to bad input.
#include "service/cli/plan_command.h"

#include <cmath>
#include <fstream>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/service/cli/plan_runner.h"
#include "tests/service/report/xml_check.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"

namespace sluice {
namespace {

using ::sluice::testing::IsOk;
using ::sluice::testing::ParseXml;
using ::sluice::testing::PlanOutcome;
using ::sluice::testing::RunPlan;
using ::sluice::testing::TempDir;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using Args = std::vector<std::string>;

Args Llama(Args more) {
  more.insert(more.end(), {"--model=llama-3.1-70b", "--hardware=h100-pcie5"});
  return more;
}

TEST(PlanJsonTest, ThePapersCriticalKappa) {
  const PlanOutcome plan = RunPlan(Llama({"--paper", "--json"}));
  ASSERT_EQ(plan.code, kExitOk) << plan.err;
  EXPECT_NEAR(plan.Json()["kappa_crit"].get<double>(), 14.3, 0.03 * 14.3);
}

TEST(PlanJsonTest, HasWhatProgramsReadAndTheNumbersAgree) {
  const PlanOutcome plan =
      RunPlan(Llama({"--json", "--cached=65536", "--new=64", "--link=15GB/s", "--tp=8"}));
  ASSERT_EQ(plan.code, kExitOk) << plan.err;
  const nlohmann::json json = plan.Json();
  for (const char* key :
       {"kappa_crit", "kappa_model_flop_per_byte", "kappa_hw_byte_per_flop", "kv_bytes_per_token",
        "prefill_flop_per_token", "load_s", "prefill_s", "transfer_share"}) {
    EXPECT_GT(json.at(key).get<double>(), 0) << key;
  }
  EXPECT_DOUBLE_EQ(json["kv_bytes_per_token"].get<double>(), 327680);
  EXPECT_NEAR(json["load_s"].get<double>(), 65536.0 * 327680 / 15e9, 1e-3);
  const double load = json["load_s"], prefill = json["prefill_s"];
  EXPECT_NEAR(json["transfer_share"].get<double>(), load / (load + prefill), 1e-9);
  EXPECT_NEAR(json["kappa_crit"].get<double>(),
              json["kappa_model_flop_per_byte"].get<double>() *
                  json["kappa_hw_byte_per_flop"].get<double>(),
              1e-9);
  for (const char* plan_key :
       {"resident", "serial", "overlapped", "split", "in_place", "recompute", "best"}) {
    EXPECT_GT(json.at("ttft_s").at(plan_key).get<double>(), 0) << plan_key;
  }
  EXPECT_TRUE(json["ttft_s"].contains(json["best_plan"].get<std::string>()));
  EXPECT_THAT(json["recommendation"].get<std::string>(), HasSubstr("the link is the bottleneck"));
  EXPECT_EQ(json["deployment"]["tp"], 8);
}

TEST(PlanJsonTest, InfiniteTimesAreNull) {
  const nlohmann::json json = RunPlan(Llama({"--paper", "--json"})).Json();
  EXPECT_TRUE(json["ttft_s"]["in_place"].is_null()) << "the paper has no attention in place";
}

TEST(PlanJsonTest, WhatIfsHaveTheSameKeysAndTheAskedChange) {
  const nlohmann::json json =
      RunPlan(Llama({"--json", "--cached=65536", "--new=64", "--tp=8", "--link=15GB/s",
                     "--what-if=link=30GB/s", "--what-if=kv-dtype=fp8"}))
          .Json();
  ASSERT_EQ(json["what_if"].size(), 2u);
  const nlohmann::json& faster = json["what_if"][0];
  EXPECT_EQ(faster["change"], "link=30GB/s");
  EXPECT_NEAR(faster["kappa_crit"].get<double>(), 2 * json["kappa_crit"].get<double>(), 1e-9);
  EXPECT_NEAR(json["what_if"][1]["load_s"].get<double>(), json["load_s"].get<double>() / 2, 1e-4);
  for (const auto& [key, value] : faster.items()) {
    EXPECT_TRUE(key == "change" || json.contains(key)) << key;
  }
}

TEST(PlanJsonTest, WorkloadsHaveDistributions) {
  const nlohmann::json json =
      RunPlan(Llama({"--json", "--workload=sharegpt", "--requests=300", "--what-if=none"})).Json();
  EXPECT_EQ(json["requests"]["count"], 300);
  EXPECT_LT(json["requests"]["kappa"]["p10"], json["requests"]["kappa"]["p90"]);
  EXPECT_GT(json["link_bound_share_by_kappa"], 0);
  double sum = 0;
  for (const auto& [plan, share] : json["best_for_share"].items()) sum += share.get<double>();
  EXPECT_NEAR(sum, 1, 1e-9);
}

TEST(PlanTextTest, SaysWhatAPersonWantsToKnow) {
  const PlanOutcome plan = RunPlan(Llama({"--workload=sharegpt", "--requests=200"}));
  ASSERT_EQ(plan.code, kExitOk) << plan.err;
  for (const char* text :
       {"llama-3.1-70b on ", "κ_crit", "κ of the requests", "link-bound by slack",
        "time in transfers", "overlapped load", "recompute", "The fastest plan by κ and new tokens",
        "What if", "kv-offload-dtype=fp8", "Offload: the mean time to first token falls from"}) {
    EXPECT_THAT(plan.out, HasSubstr(text));
  }
  EXPECT_THAT(plan.out, Not(HasSubstr("nan")));
}

TEST(PlanTextTest, TheAdviceFollowsTheNumbers) {
  const auto advice = [](Args args) {
    return RunPlan(Llama(std::move(args))).Json()["recommendation"].get<std::string>();
  };
  EXPECT_THAT(advice({"--json", "--cached=0", "--new=500"}), HasSubstr("Nothing is cached"));
  EXPECT_THAT(advice({"--json", "--cached=2000", "--new=100", "--tp=8", "--link=1MB/s"}),
              HasSubstr("Offloading does not pay"));
  EXPECT_THAT(advice({"--json", "--cached=100000", "--new=8000", "--tp=8"}),
              HasSubstr("the device is the bottleneck"));
  EXPECT_THAT(advice({"--json", "--cached=100000", "--new=16", "--tp=8", "--link=15GB/s",
                      "--what-if=link=60GB/s", "--what-if=link=30GB/s"}),
              HasSubstr("of the changes below, link=60GB/s helps most"));
}

TEST(PlanListTest, ShowsEveryProfile) {
  const PlanOutcome list = RunPlan({"--list"});
  ASSERT_EQ(list.code, kExitOk) << list.err;
  const Catalogue catalogue = *Catalogue::Load();
  for (const auto& [name, model] : catalogue.models()) EXPECT_THAT(list.out, HasSubstr(name));
  for (const auto& [name, hardware] : catalogue.hardware()) EXPECT_THAT(list.out, HasSubstr(name));
  const nlohmann::json json = RunPlan({"--list", "--json"}).Json();
  EXPECT_EQ(json["models"].size(), catalogue.models().size());
  EXPECT_EQ(json["hardware"].size(), catalogue.hardware().size());
}

TEST(PlanPaperTest, ReproducesThePapersTablesAndSaysWhereTheyAreOff) {
  const nlohmann::json rows = RunPlan({"--paper", "--json"}).Json()["rows"];
  int deviations = 0;
  for (const nlohmann::json& row : rows) {
    if (row["deviates"]) ++deviations;
    if (row["what"] != "κ_M, Llama-3.1-405B") continue;
    EXPECT_EQ(row["printed"], 1.42);
    EXPECT_NEAR(row["paper_constants"].get<double>(), 1.57, 0.01);
    EXPECT_TRUE(row["deviates"]);
  }
  EXPECT_GE(rows.size(), 20u);
  EXPECT_GE(deviations, 1);
  const PlanOutcome text = RunPlan({"--paper"});
  EXPECT_THAT(text.out, HasSubstr("κ_crit, Llama-3.1-70B, H100, PCIe 5"));
  EXPECT_THAT(text.out, HasSubstr("sparse 16-bit peak although the runs are dense"));
}

TEST(PlanReportTest, IsOneWellFormedPageWithEveryPlot) {
  const TempDir dir;
  const std::string path = dir.File("plan.html");
  const Args args = Llama({"--workload=sharegpt", "--requests=200", "--report=" + path});
  const PlanOutcome plan = RunPlan(args);
  ASSERT_EQ(plan.code, kExitOk) << plan.err;
  EXPECT_THAT(plan.err, HasSubstr("report: " + path));
  const std::string html = dir.Read("plan.html");
  const auto page = ParseXml(html);
  ASSERT_THAT(page, IsOk());
  for (const char* title :
       {"Which plan is fastest where", "κ of the requests", "Slack",
        "Time to first token against the link", "Roofline of the link", "Where the time goes"}) {
    EXPECT_THAT(html, HasSubstr(title));
  }
  EXPECT_THAT(page->All("script"), IsEmpty());
  EXPECT_THAT(page->AllText(), Not(HasSubstr("no data")));
  ASSERT_EQ(RunPlan(args).code, kExitOk);
  EXPECT_EQ(dir.Read("plan.html"), html) << "same question, same bytes";
}

TEST(PlanReportTest, WorksForOneRequestAndForColdOnes) {
  const TempDir dir;
  const std::string path = dir.File("plan.html");
  for (const char* cached : {"--cached=0", "--cached=5", "--cached=120000"}) {
    const PlanOutcome plan = RunPlan(Llama({cached, "--new=64", "--report=" + path}));
    ASSERT_EQ(plan.code, kExitOk) << plan.err;
    EXPECT_THAT(ParseXml(dir.Read("plan.html")), IsOk());
    EXPECT_THAT(plan.out, Not(HasSubstr("nan"))) << cached;
  }
}

TEST(PlanReportTest, PlotsAreFilesOfTheirOwn) {
  const TempDir dir;
  const PlanOutcome plan =
      RunPlan(Llama({"--workload=sharegpt", "--requests=100", "--plots=" + dir.path()}));
  ASSERT_EQ(plan.code, kExitOk) << plan.err;
  for (const char* name : {"plan_regions", "kappa_cdf", "slack", "time_split", "ttft_by_bandwidth",
                           "roofline", "what_if"}) {
    const auto svg = ParseXml(dir.Read(absl::StrCat(name, ".svg")));
    ASSERT_THAT(svg, IsOk()) << name;
    EXPECT_EQ(svg->name, "svg");
    EXPECT_THAT(svg->AllText(), HasSubstr("prefers-color-scheme:dark"));
  }
  const PlanOutcome nowhere = RunPlan(Llama({"--plots=/no/such/folder"}));
  EXPECT_EQ(nowhere.code, kExitFailure);
  EXPECT_THAT(nowhere.err, HasSubstr("--plots: /no/such/folder/plan_regions.svg"));
}

TEST(PlanReportTest, SaysWhereItCannotWrite) {
  const PlanOutcome plan = RunPlan(Llama({"--report=/no/such/folder/plan.html"}));
  EXPECT_EQ(plan.code, kExitFailure);
  EXPECT_THAT(plan.err, HasSubstr("/no/such/folder/plan.html"));
}

struct BadPlan {
  const char* name;
  Args args;
  const char* message;
};
void PrintTo(const BadPlan& bad, std::ostream* os) { *os << bad.name; }

class BadPlanTest : public ::testing::TestWithParam<BadPlan> {};

TEST_P(BadPlanTest, ExitsWithTwoAndSaysWhatIsAllowed) {
  const PlanOutcome plan = RunPlan(GetParam().args);
  EXPECT_EQ(plan.code, kExitUsage);
  EXPECT_THAT(plan.out, IsEmpty());
  EXPECT_THAT(plan.err, HasSubstr(GetParam().message));
}

INSTANTIATE_TEST_SUITE_P(
    All, BadPlanTest,
    ::testing::Values(
        BadPlan{"UnknownModel",
                {"--model=llama-3.1-7b", "--hardware=h100-pcie5"},
                "model \"llama-3.1-7b\" is not known; did you mean llama-3.1-70b?"},
        BadPlan{"UnknownHardware",
                {"--model=llama-3.1-8b", "--hardware=h100-pcie6"},
                "did you mean h100-pcie"},
        BadPlan{"NegativeTokens", Llama({"--cached=-5", "--new=5"}), "--cached: -5 is not in [0, "},
        BadPlan{"NoNewTokens", Llama({"--cached=5", "--new=0"}), "--new: 0 is not in [1, "},
        BadPlan{"BothKindsOfRequests", Llama({"--cached=5", "--new=5", "--workload=sharegpt"}),
                "--cached and --workload exclude each other"},
        BadPlan{"LinkWithoutUnit", Llama({"--link=15"}), "--link: \"15\" has no unit"},
        BadPlan{"AbsurdLink", Llama({"--link=0.1B/s"}), "link: 0.1 B/s is not in [1 kB/s, 1 PB/s]"},
        BadPlan{"AbsurdCap", Llama({"--power-cap=1W"}), "power-cap: 1 W is not above"},
        BadPlan{"Tp", Llama({"--tp=0"}), "--tp: 0 is not in [1, 1024]"},
        BadPlan{"Basis", Llama({"--basis=dense"}), "--basis: \"dense\""},
        BadPlan{"MissingDirectory", Llama({"--profile-dir=/no/such/folder"}), "/no/such/folder"},
        BadPlan{"Workload", Llama({"--workload=finqq"}), "--workload: "}),
    [](const auto& test) { return test.param.name; });

TEST(PlanFilesTest, BadFilesNameFileKeyAndWhatIsAllowed) {
  const TempDir dir;
  const std::string config = dir.Write("config.json", "{\"model_type\":\"llama\"}");
  const PlanOutcome model = RunPlan({"--model=" + config, "--hardware=h100-pcie5"});
  EXPECT_EQ(model.code, kExitUsage);
  EXPECT_THAT(model.err, HasSubstr(config));
  const std::string hardware = dir.Write("mine.json", "{\"name\":\"mine\",\"memory\":80}");
  const PlanOutcome machine = RunPlan({"--model=llama-3.1-8b", "--hardware=" + hardware});
  EXPECT_EQ(machine.code, kExitUsage);
  EXPECT_THAT(machine.err, HasSubstr(hardware));
}

}  // namespace
}  // namespace sluice
