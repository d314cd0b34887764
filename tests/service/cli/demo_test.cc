#include <filesystem>
#include <fstream>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "service/cli/demo_command.h"
#include "service/cli/demo_report.h"
#include "service/cli/demo_workload.h"
#include "tests/support/status_matchers.h"

namespace sluice {
namespace {

using ::sluice::testing::IsOk;
using ::sluice::testing::StatusIs;
using ::testing::HasSubstr;
using ::testing::Not;

// One token per byte; chat tokens if asked for.
class ByteTokenizer : public Tokenizer {
 public:
  explicit ByteTokenizer(bool chat) : chat_(chat) {}
  std::vector<TokenId> Encode(std::string_view text, bool, bool) const override {
    return {text.begin(), text.end()};
  }
  std::string Decode(const std::vector<TokenId>& ids, bool) const override {
    return {ids.begin(), ids.end()};
  }
  std::optional<std::string> TokenText(TokenId) const override { return std::nullopt; }
  std::optional<TokenId> TokenToId(std::string_view) const override {
    return chat_ ? std::optional<TokenId>(1) : std::nullopt;
  }
  bool IsSpecial(TokenId) const override { return false; }
  int32_t vocab_size() const override { return 256; }
  std::unique_ptr<Incremental> NewIncremental(bool) const override { return nullptr; }

 private:
  const bool chat_;
};

const std::vector<DemoDocument> kDocuments = {{"a", std::string(100, 'a')},
                                              {"b", std::string(200, 'b')}};

TEST(DemoPlanTest, AsksAboutEveryDocumentInTurn) {
  const DemoPlan plan = PlanDemo(kDocuments, ByteTokenizer(false), Tokens(10));
  ASSERT_GE(plan.requests.size(), 6U);
  for (size_t i = 0; i < plan.requests.size(); ++i) {
    EXPECT_EQ(plan.requests[i].document, kDocuments[i % 2].name);
    EXPECT_EQ(plan.requests[i].session, static_cast<int>(i) + 1);
  }
}

TEST(DemoPlanTest, QuestionsAboutOneDocumentShareItAsAPrefix) {
  for (const bool chat : {false, true}) {
    const DemoPlan plan = PlanDemo(kDocuments, ByteTokenizer(chat), Tokens(10));
    const std::vector<TokenId>& first = plan.requests[0].prompt;
    const size_t shared = 100 + (chat ? std::string("<|user|>").size() : 0);
    for (size_t i = 2; i < plan.requests.size(); i += 2) {
      const std::vector<TokenId>& other = plan.requests[i].prompt;
      ASSERT_GE(other.size(), shared);
      EXPECT_TRUE(
          std::equal(first.begin(), first.begin() + static_cast<int64_t>(shared), other.begin()));
    }
  }
}

TEST(DemoPlanTest, KnowsTheLongestRequest) {
  const DemoPlan plan = PlanDemo(kDocuments, ByteTokenizer(false), Tokens(10));
  size_t longest = 0;
  for (const DemoRequest& request : plan.requests) {
    longest = std::max(longest, request.prompt.size());
  }
  EXPECT_EQ(plan.longest_request, Tokens(static_cast<int64_t>(longest) + 10));
}

TEST(LoadDocumentsTest, ReadsTextFilesByName) {
  const std::string dir = ::testing::TempDir() + "/demo_documents";
  std::filesystem::create_directories(dir);
  std::ofstream(dir + "/b.txt") << "second\n\n";
  std::ofstream(dir + "/a.txt") << "first";
  std::ofstream(dir + "/README.md") << "not a document";
  const absl::StatusOr<std::vector<DemoDocument>> documents = LoadDocuments(dir);
  ASSERT_THAT(documents, IsOk());
  ASSERT_EQ(documents->size(), 2U);
  EXPECT_EQ((*documents)[0].name, "a");
  EXPECT_EQ((*documents)[1].text, "second");
  EXPECT_THAT(LoadDocuments("/nowhere"),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("/nowhere: has no .txt files")));
}

TEST(ReadyLineTest, GivesEndpointAndMetricsPort) {
  const absl::StatusOr<ReadyLine> ready = ParseReadyLine(
      "sluice: serving a on b on 127.0.0.1:50051, metrics on http://127.0.0.1:9090/metrics");
  ASSERT_THAT(ready, IsOk());
  EXPECT_EQ(ready->endpoint, "127.0.0.1:50051");
  EXPECT_EQ(ready->metrics_port, 9090);
  const absl::StatusOr<ReadyLine> off = ParseReadyLine("sluice: serving m on [::1]:7, metrics off");
  ASSERT_THAT(off, IsOk());
  EXPECT_EQ(off->endpoint, "[::1]:7");
  EXPECT_EQ(off->metrics_port, 0);
  EXPECT_EQ(off->http_url, "");
  EXPECT_THAT(ParseReadyLine("sluice: serving nothing"), Not(IsOk()));
  for (const char* metrics : {"on http://127.0.0.1:9090/metrics", "off"}) {
    const absl::StatusOr<ReadyLine> api =
        ParseReadyLine(absl::StrCat("sluice: serving m on 127.0.0.1:7, metrics ", metrics,
                                    " and the OpenAI API on http://127.0.0.1:8000/v1"));
    ASSERT_THAT(api, IsOk());
    EXPECT_EQ(api->endpoint, "127.0.0.1:7");
    EXPECT_EQ(api->metrics_port, metrics == std::string("off") ? 0 : 9090);
    EXPECT_EQ(api->http_url, "http://127.0.0.1:8000/v1");
  }
}

TEST(SearchPlacesTest, LooksBelowEveryDirectoryAboveTheBinary) {
  const std::vector<std::string> places = SearchPlaces("/r/build/release/sluice", "deploy/demo");
  EXPECT_THAT(places, ::testing::Contains("deploy/demo"));
  EXPECT_THAT(places, ::testing::Contains("/r/deploy/demo"));
}

TEST(DemoReportTest, ShowsRowsTotalsAndAnAnswerWithTheLinkLabelled) {
  const DemoPlan plan = PlanDemo(kDocuments, ByteTokenizer(false), Tokens(10));
  std::vector<CallResult> results(plan.requests.size());
  for (CallResult& result : results) {
    SampleResult sample;
    sample.text = "an answer";
    sample.finished.emplace();
    sample.finished->mutable_usage()->set_prompt_tokens(100);
    sample.finished->mutable_usage()->set_cached_host_tokens(75);
    sample.finished->mutable_usage()->set_computed_tokens(25);
    sample.finished->mutable_timing()->set_kappa_ratio(3);
    sample.finished->mutable_timing()->set_plan("load");
    sample.finished->mutable_timing()->set_link_emulated(true);
    result.samples.push_back(sample);
  }
  results[1] = CallResult();
  results[1].status = grpc::Status(grpc::StatusCode::UNAVAILABLE, "");
  const std::string rows = RenderRequests(plan, results);
  EXPECT_THAT(rows, HasSubstr("κ_ratio"));
  EXPECT_THAT(rows, HasSubstr("UNAVAILABLE"));
  v1::ServerInfo info;
  info.set_link_bytes_per_second(50e6);
  const std::string totals =
      RenderTotals(results,
                   {{"sluice_activity_seconds_total{state=\"idle\"}", 1},
                    {"sluice_activity_seconds_total{state=\"both\"}", 3},
                    {"sluice_kv_transfer_bytes_total{src=\"host\",dst=\"device\"}", 1 << 20}},
                   info);
  EXPECT_THAT(totals, HasSubstr("375 loaded from host (75.0 %)"));
  EXPECT_THAT(totals, HasSubstr("1 MiB (link emulated at 0.05 GB/s)"));
  EXPECT_THAT(totals, HasSubstr("both at once 75.0 %"));
  EXPECT_THAT(RenderAnswer(plan, results), HasSubstr("an answer"));
}

}  // namespace
}  // namespace sluice
